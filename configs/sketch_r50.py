"""500 classes of ImageNet-Sketch with an ImageNet ResNet-50: mixup, label smoothing, warm restarts.

The report's best model, about 70 % test accuracy: head of Dropout 0.5 → Linear, AdamW, cosine annealing with warm
restarts, mixed precision with dynamic loss scaling, early stopping. It leaves open, and this file chooses: rate 3e-4,
mixup's alpha 0.2, restarts after 5, 15 and 35 epochs (T_0 5, doubled each time), patience 10, smoothing 0.1, flips and
random resized crops. fp16 as the report; `bf16` where the hardware has it needs no loss scaling.

The folder at `data.source.path` is that of `sketch_cnn`; torchvision's weights are BSD-3-Clause, trained on ImageNet.

Not run here: it needs a GPU, the images and the weights.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="sketch_r50",
        data=c.Data(
            source=c.Folder("datasets/sketch", labeled_test=False),
            canvas=c.Canvas(256, 256, fit="stretch"),
            eval_canvas=c.Canvas(256, 256),
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.RandomResizedCrop(scale=(0.35, 1.0)), c.HorizontalFlip(), c.Mixup(0.2)),
        model=c.ResNet("resnet50", head=c.Head(dropout=0.5)),
        transfer=c.Transfer(init_from="torchvision/resnet50.IMAGENET1K_V2", replace=("head.*",)),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.AdamW(weight_decay=1e-2),
            schedule=c.Schedule(peak=3e-4, shape=c.CosineRestarts(first=5, multiply=2)),
            clip=c.Clip("global_norm", 1.0),
        ),
        batch_size=64,
        epochs=35,
        precision="fp16",
        seed=0,
        best=c.Best("top1"),
        early_stopping=c.EarlyStopping(patience=10),
    )
