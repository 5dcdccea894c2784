"""500 classes of ImageNet-Sketch with plain CNNs.

| variant     | network                                                                        | report               |
|-------------|--------------------------------------------------------------------------------|----------------------|
| `:baseline` | 64×64 pixels, 5×5 convolutions of 10-20-20 channels, 50 hidden units           | test below 10 %      |
| (none)      | five convolutions, 32 to 512 channels, global average pooling, LeakyReLU 0.001 | validation about 50 %|
| `:bn`       | BatchNorm after every convolution; rotation, flip, scaling                     | validation 63 %      |

The report leaves open, and this file chooses: SGD's rate of 0.01 for `:baseline`; for the others images of 128×128, a
first kernel of 5×5, Adam at 1e-3 on a cosine over 40 epochs, rotations of up to 15° and scales of 0.8 to 1.2.

The folder at `data.source.path` has train_images/CLASS, val_images/CLASS and test_images/mistery_category, the last
without labels. The whole set of 1,000 classes is tfds's `imagenet_sketch`, which is downloaded where
`data.source` is, say, `c.TFDS("imagenet_sketch", train="test[:80%]", validation=None, test="test[80%:]")`.
(ImageNet-Sketch: https://github.com/HaohanWang/ImageNet-Sketch, MIT licence.)

Not run here: it needs the images.
"""

import dataclasses

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant not in ("", "baseline", "bn"):
        raise c.UnknownVariant(variant, "baseline", "bn")
    config = c.Config(
        name="sketch_cnn",
        data=c.Data(
            source=c.Folder("datasets/sketch", labeled_test=False),
            canvas=c.Canvas(128, 128),
            image_size=(128, 128),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        augment=(),
        model=c.CNN(
            convs=tuple(
                c.Conv(
                    channels,
                    kernel,
                    padding=kernel // 2,
                    norm="batch" if variant == "bn" else "none",
                    activation="leaky_relu",
                    pool=2,
                )
                for channels, kernel in ((32, 5), (64, 3), (128, 3), (256, 3), (512, 3))
            ),
            aggregate="average",
            head=c.Head(),
            leaky_slope=0.001,
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.Adam(), schedule=c.Schedule(peak=1e-3, shape=c.Cosine())),
        batch_size=64,
        epochs=40,
        precision="fp32",
        seed=0,
    )
    match variant:
        case "bn":
            return dataclasses.replace(
                config,
                name="sketch_cnn_bn",
                augment=(c.HorizontalFlip(), c.Affine(degrees=15, scale=(0.8, 1.2), fill=1.0)),
            )
        case "baseline":
            return dataclasses.replace(
                config,
                name="sketch_cnn_baseline",
                data=dataclasses.replace(config.data, canvas=c.Canvas(64, 64), image_size=(64, 64)),
                model=c.CNN(
                    convs=tuple(c.Conv(channels, 5, pool=2) for channels in (10, 20, 20)),
                    aggregate="flatten",
                    head=c.Head(hidden=(c.Dense(50),)),
                ),
                optim=c.Optim(optimizer=c.SGD(momentum=0.5), schedule=c.Schedule(peak=0.01, shape=c.Constant())),
                epochs=20,
            )
        case _:
            return config
