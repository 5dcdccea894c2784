"""Handwritten digits, 8×8 gray pixels (the 1,797 that scikit-learn ships), with a small CNN.

Measured (seed 0, jax 0.10.2, two CPU cores): 99.44 % of the 359 test images; 20 s of training, 36 s in all.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="digits_cnn",
        data=c.Data(
            source=c.TFDS("imgcls_digits", train="train", validation=None, test="test"),
            validation_share=0.1,
            canvas=c.Canvas(8, 8, channels=1),
            image_size=(8, 8),
            mean=(0.3,),
            std=(0.37,),
        ),
        augment=(c.PadCrop(1), c.Rotation(10)),
        model=c.CNN(
            convs=(
                c.Conv(32, 3, padding=1, norm="batch"),
                c.Conv(64, 3, padding=1, norm="batch", pool=2),
                c.Conv(128, 3, padding=1, norm="batch", pool=2),
            ),
            aggregate="flatten",
            head=c.Head(dropout=0.3),
        ),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.AdamW(weight_decay=0.05),
            schedule=c.Schedule(peak=3e-3, warmup_epochs=2, shape=c.Cosine()),
        ),
        batch_size=64,
        epochs=30,
        precision="fp32",
        seed=0,
        best=c.Best("loss"),  # on 145 validation images many epochs tie at the same accuracy
    )
