"""500 classes of ImageNet-Sketch with DINOv2 ViT-S/14: a linear classifier on its features, and `:finetune`.

The report has 50 to 60 % validation accuracy from it, without saying how it trained. This file chooses: images of
224×224, the class token and the mean of the patch tokens as features, AdamW; fine-tuning lowers the rate from block to
block towards the image (0.75 each).

The folder at `data.source.path` is that of `sketch_cnn`. DINOv2's weights are Apache-2.0.

Not run here: it needs a GPU, the images and the weights.
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    config = c.Config(
        name="sketch_dinov2",
        data=c.Data(
            source=c.Folder("datasets/sketch", labeled_test=False),
            canvas=c.Canvas(256, 256, interpolation="bicubic"),
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.RandomCrop(), c.HorizontalFlip()),
        model=c.DINOv2("small", head=c.Head(), features="cls_patch_mean"),
        transfer=c.Transfer(init_from="dinov2/vits14", replace=("head.*",), freeze=("[!h]*",)),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.AdamW(weight_decay=1e-4),
            schedule=c.Schedule(peak=1e-3, warmup_epochs=1, shape=c.Cosine()),
        ),
        batch_size=128,
        epochs=20,
        precision="bf16",
        seed=0,
    )
    match variant:
        case "":
            return config
        case "finetune":
            return dataclasses.replace(
                config,
                name="sketch_dinov2_finetune",
                augment=(c.RandomResizedCrop(scale=(0.35, 1.0)), c.HorizontalFlip()),
                model=c.DINOv2("small", head=c.Head(), features="cls_patch_mean", stochastic_depth=0.1),
                transfer=c.Transfer(init_from="dinov2/vits14", replace=("head.*",), layer_decay=0.75),
                optim=c.Optim(
                    optimizer=c.AdamW(weight_decay=0.05),
                    schedule=c.Schedule(peak=3e-4, warmup_epochs=2, shape=c.Cosine()),
                    clip=c.Clip("global_norm", 1.0),
                ),
            )
        case _:
            raise c.UnknownVariant(variant, "finetune")
