"""CIFAR-100 with a CNN of three convolutions, no augmentation: a report's baseline.

32-64-128 channels, each convolution with ReLU and 2×2 max pooling, 256 hidden units; SGD at 0.01 with momentum 0.9 that
falls by a tenth each epoch, 5 epochs. The report let a finder choose the batch size from 32 to 512 and does not say
which it took: 32 here. It gives no clean accuracy; on CIFAR-100-C's distorted test images it had 16.158 %.

Measured here, one seed, in 6 minutes on two busy CPU cores: 38.55 % test; validation 14.5, 25.0, 31.7, 35.9, 38.2 %.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="cifar100_cnn",
        data=c.Data(
            source=c.TFDS("cifar100", train="train", validation=None, test="test"),
            validation_share=0.2,
            split_seed=42,
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        augment=(),
        model=c.CNN(
            convs=tuple(c.Conv(channels, 3, padding=1, pool=2) for channels in (32, 64, 128)),
            aggregate="flatten",
            head=c.Head(hidden=(c.Dense(256),)),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9),
            schedule=c.Schedule(peak=0.01, per="epoch", shape=c.Step(every=1, factor=0.9)),
        ),
        batch_size=32,
        eval_batch_size=500,
        epochs=5,
        precision="fp32",
        seed=42,
    )
