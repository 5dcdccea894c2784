"""CIFAR-10 with an ImageNet SqueezeNet 1.1 on 32-pixel images: how a learning rate too high ends, and one that works.

| variant      | learning rate                  | report                               |
|--------------|--------------------------------|--------------------------------------|
| `:as_run`    | 0.01                           | NaN; 10 % from then on               |
| `:tiny_rate` | 1e-8, 200 epochs               | 17.85 %                              |
| (none)       | 1e-3, warmed up, on a cosine   | (ours; images resized to 128 pixels) |

The author kept the 1000 outputs of ImageNet, of which the last 990 never occur, fed 32-pixel images and trained with
SGD, momentum 0.9, batch 16. `:as_run` stops at the first NaN and says what to do; the default variant would go back to
the last good epoch and halve its rate (`recover`). It gives the network ten outputs, images large enough for its
strides, and clips gradients, for a network without BatchNorm.

Measured with seed 0 on two CPU cores: `:as_run` is stopped by step 6 of its first epoch. The default, shortened to 1 of
its 10 epochs (which leaves no warm-up): 86.00 % validation, 85.25 % test, in 5 min 32 s. `:tiny_rate` was not run.

The weights are torchvision's (BSD-3-Clause, trained on ImageNet).
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    config = c.Config(
        name="cifar10_squeezenet",
        data=c.Data(
            source=c.TFDS("cifar10", train="train", validation=None, test="test"),
            validation_share=0.2,
            split_seed=0,
            canvas=c.Canvas(128, 128),
            image_size=(128, 128),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.PadCrop(16, mode="reflect"), c.HorizontalFlip()),
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
            clip=c.Clip("global_norm", 5.0),
        ),
        batch_size=64,
        epochs=10,
        precision="fp32",
        seed=0,
        recover=c.Recover(),
    )
    rates = {"as_run": (0.01, 30), "tiny_rate": (1e-8, 200)}
    if not variant:
        return config
    if variant not in rates:
        raise c.UnknownVariant(variant, *rates)
    rate, epochs = rates[variant]
    return dataclasses.replace(
        config,
        name=f"cifar10_squeezenet_{variant}",
        data=dataclasses.replace(config.data, canvas=c.Canvas(32, 32), image_size=(32, 32)),
        augment=(),
        model=c.SqueezeNet("1_1", num_outputs=1000),
        transfer=c.Transfer(init_from="torchvision/squeezenet1_1.IMAGENET1K_V1"),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=rate, shape=c.Constant())),
        batch_size=16,
        eval_batch_size=500,
        epochs=epochs,
        recover=None,
    )
