"""Imagenette with an ImageNet SqueezeNet 1.1, fine-tuned in eight epochs.

Measured with seed 0 on 1,000 training and 500 validation images of 224 pixels, on two shared CPU cores:

    epoch                  1     2     3     4     5     6     7     8
    training loss      0.891 0.271 0.147 0.111 0.053 0.029 0.020 0.014   on augmented images
    validation loss    0.457 0.414 0.333 0.382 0.391 0.377 0.368 0.367
    validation top-1 %  85.4  87.6  90.4  89.6  90.8  90.8  91.0  91.0   11 min in all

Without any training, the ImageNet classifier has 94.8 % of those 500 images right among the ten classes: it saw about
1,300 images of each, the new one sees 100.

The classifier is new and learns at ten times the rate of the other layers.

    python -m imgcls_jax.main --config configs/imagenette_squeezenet.py \\
        --config.data.source.path=FOLDER --config.transfer.init_from=FILE

takes the folder and the weights from elsewhere; without the second one torchvision's file is downloaded (BSD-3-Clause,
trained on ImageNet). The data is fast.ai's Imagenette (https://github.com/fastai/imagenette; its images are
ImageNet's, for non-commercial research and education).
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="imagenette_squeezenet",
        data=c.Data(
            source=c.Folder("datasets/imagenette2-320"),
            canvas=c.Canvas(256, 256),
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.RandomCrop(), c.HorizontalFlip()),
        model=c.SqueezeNet("1_1"),
        transfer=c.Transfer(
            init_from="torchvision/squeezenet1_1.IMAGENET1K_V1",
            replace=("head.*",),
            groups=(c.Group("head.*", learning_rate_scale=10),),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9, nesterov=True, weight_decay=1e-4),
            schedule=c.Schedule(peak=1e-3, warmup_epochs=1, shape=c.Cosine()),
        ),
        batch_size=32,
        epochs=8,
        precision="fp32",
        seed=0,
    )
