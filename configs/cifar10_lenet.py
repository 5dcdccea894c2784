"""CIFAR-10 with LeNet-like CNNs of two 5×5 convolutions: the report's first steps.

| variant          | convolutions | report: best validation accuracy | as its program ran |
|------------------|--------------|----------------------------------|--------------------|
| (none)           | 10, 20       | 59.27 %                          | 60.26 %            |
| `:narrow`        | 6, 16        | 54.66 %                          | 56.86 %            |
| `:wide`          | 32, 64       | 65.81 %                          | 68.1 %             |
| `:no_validation` | 10, 20       | test 62.01 % at its 10th of 50 epochs, overfitted after | |

Each is convolution → ReLU → 2×2 max pooling twice, then 120 and 84 hidden units; SGD at a constant 0.01 with momentum
0.9, batch 16, 30 epochs, 80 % of the training images. `:no_validation` trains on all of them, so that nothing chooses
its best epoch: its last one is tested. The report does not state its normalization; mean and std are 0.5 here.

Measured here, one seed, two CPU cores; in the shortened runs everything but the number of epochs is as above:

    variant      epochs  best validation, at  test      time
    (none)       30      59.40 %, epoch 11    60.37 %   19 min, busy
    :narrow       9      54.26 %, epoch 7     54.72 %   3 min 11 s
    :wide         6      63.91 %, epoch 4     63.28 %   3 min 24 s

Without a variant it overfits after its best: 56.06 % in the last epoch, with 67.7 % of the training images right.
`:no_validation` was not run.
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    channels = {"": (10, 20), "no_validation": (10, 20), "narrow": (6, 16), "wide": (32, 64)}
    if variant not in channels:
        raise c.UnknownVariant(variant, *filter(None, channels))
    config = c.Config(
        name="_".join(filter(None, ("cifar10_lenet", variant))),
        data=c.Data(
            source=c.TFDS("cifar10", train="train", validation=None, test="test"),
            validation_share=0.2,
            split_seed=0,
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        augment=(),
        model=c.CNN(
            convs=tuple(c.Conv(features, 5, pool=2) for features in channels[variant]),
            aggregate="flatten",
            head=c.Head(hidden=(c.Dense(120), c.Dense(84))),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=0.01, shape=c.Constant())),
        batch_size=16,
        eval_batch_size=500,
        epochs=30,
        precision="fp32",
        seed=0,
    )
    if variant == "no_validation":
        return dataclasses.replace(config, data=dataclasses.replace(config.data, validation_share=0.0), epochs=50)
    return config
