"""Imagenette with a CNN of three convolutions: what BatchNorm, dropout and augmentation each bring.

| variant        | change                                             | report: test accuracy |
|----------------|----------------------------------------------------|-----------------------|
| (none)         |                                                    | 51.31 %               |
| `:bn`          | BatchNorm everywhere                               | 66.27 %               |
| `:dropout`     | Dropout 0.3 everywhere                             | 62.50 %               |
| `:aug`         | flip, color jitter, rotation of up to 10°          | 64.03 %               |
| `:all`         | all three                                          | 75.67 %               |
| `:leaky_relu`  | LeakyReLU of slope 0.01                            | a little worse        |
| `:sigmoid`     | sigmoid, Xavier initialization                     | far worse             |
| `:narrow`      | 8-16-32 channels                                   | the wider, the better |
| `:medium`      | 16-32-64 channels                                  |                       |

Adam at 1e-3, batch 32, 20 epochs, Kaiming initialization, images of 160×160. The data is fast.ai's Imagenette
(https://github.com/fastai/imagenette; its images are ImageNet's, for non-commercial research and education), unpacked
at `data.source.path`; its `val` folder is the report's test set, and what the epochs' lines show as validation.

Measured on two CPU cores, `imgcls ablate --config configs/imagenette_cnn.py --design one_at_a_time
--config.epochs=6`, seed 0: 6 of the 20 epochs, on 1,000 training images of the 9,469, 500 of the 3,925 in `val`:

    variant     best validation %   to (none)   training %   minutes
    (none)                   36.2                     81.2       3.3
    :bn                      49.0       +12.8         99.1       4.4
    :dropout                 30.4        -5.8         25.6       3.4
    :aug                     38.6        +2.4         48.9       3.7
    :all                     46.0        +9.8         41.2       4.2

BatchNorm brings most, as in the report. Dropout and the combination were still rising where the others overfitted; one
seed and 500 images tell no more than that (standard error 2 points). The other variants were not run.
"""

import dataclasses
import functools

from imgcls_jax import config as c


def model(channels: tuple[int, int, int] = (32, 64, 128), activation: str = "relu") -> c.CNN:
    """Convolutions of 7×7, 5×5 and 3×3 pixels with pooling, then 512 hidden units."""
    return c.CNN(
        convs=tuple(
            c.Conv(features, kernel, padding=kernel // 2, activation=activation, pool=2)
            for features, kernel in zip(channels, (7, 5, 3), strict=True)
        ),
        aggregate="flatten",
        head=c.Head(hidden=(c.Dense(512, activation=activation),)),
        init="xavier_normal" if activation == "sigmoid" else "kaiming_normal",
    )


def everywhere(config: c.Config, **settings) -> c.Config:
    """The config with these settings in every convolution and in the hidden layer."""
    convs = tuple(dataclasses.replace(conv, **settings) for conv in config.model.convs)
    hidden = tuple(dataclasses.replace(dense, **settings) for dense in config.model.head.hidden)
    head = dataclasses.replace(config.model.head, hidden=hidden)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, convs=convs, head=head))


def augmented(config: c.Config) -> c.Config:
    jitter = c.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    return dataclasses.replace(config, augment=(c.HorizontalFlip(), jitter, c.Rotation(10)))


FACTORS = {
    "bn": functools.partial(everywhere, norm="batch"),
    "dropout": functools.partial(everywhere, dropout=0.3),
    "aug": augmented,
}
"""What `imgcls ablate` switches on and off."""


def get_config(variant: str = "") -> c.Config:
    models = {
        "leaky_relu": model(activation="leaky_relu"),
        "sigmoid": model(activation="sigmoid"),
        "narrow": model(channels=(8, 16, 32)),
        "medium": model(channels=(16, 32, 64)),
    }
    known = (*FACTORS, "all", *models)
    if variant and variant not in known:
        raise c.UnknownVariant(variant, *known)
    config = c.Config(
        name="_".join(filter(None, ("imagenette_cnn", variant))),
        data=c.Data(
            source=c.Folder("datasets/imagenette2-320"),
            canvas=c.Canvas(160, 160),
            image_size=(160, 160),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(),
        model=models.get(variant, model()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.Adam(), schedule=c.Schedule(peak=1e-3, shape=c.Constant())),
        batch_size=32,
        epochs=20,
        precision="fp32",
        seed=0,
    )
    for factor, switch_on in FACTORS.items():
        if variant in (factor, "all"):
            config = switch_on(config)
    return config
