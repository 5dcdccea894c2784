"""CIFAR-10 with ResNet-50, ImageNet weights fine-tuned, and `:scratch`, the same from random weights.

The report's program: SGD at 0.001 with momentum 0.9, 30 epochs, batch 16, flips and rotations of up to 15°; best
validation accuracy 84.31 %. It fed 32-pixel images to the ImageNet stem, of which one pixel is left at the end;
`init_from` fills everything but the head. `:scratch` takes the stem made for 32 pixels and a full learning rate.

Not run to the end here: both need a GPU, and the first one torchvision's weights file.
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    config = c.Config(
        name="cifar10_r50",
        data=c.Data(
            source=c.TFDS("cifar10", train="train", validation=None, test="test"),
            validation_share=0.2,
            split_seed=0,
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.HorizontalFlip(), c.VerticalFlip(), c.Rotation(15)),
        model=c.ResNet("resnet50", head=c.Head()),
        transfer=c.Transfer(init_from="torchvision/resnet50.IMAGENET1K_V1", replace=("head.*",)),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=1e-3, shape=c.Constant())),
        batch_size=16,
        eval_batch_size=500,
        epochs=30,
        precision="bf16",
        seed=0,
    )
    match variant:
        case "":
            return config
        case "scratch":
            return dataclasses.replace(
                config,
                name="cifar10_r50_scratch",
                augment=(c.PadCrop(4), c.HorizontalFlip()),
                model=c.ResNet("resnet50", head=c.Head(), stem="cifar"),
                transfer=c.Transfer(),
                optim=c.Optim(
                    optimizer=c.SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
                    schedule=c.Schedule(peak=0.1, warmup_epochs=5, shape=c.Cosine()),
                ),
                batch_size=128,
                epochs=100,
            )
        case _:
            raise c.UnknownVariant(variant, "scratch")
