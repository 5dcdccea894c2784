"""CIFAR-100 with WRN-28-10 from scratch: 36.5 million parameters, TrivialAugment, 200 epochs.

Zagoruyko & Komodakis (2016) give 80.75 % test accuracy with flips and crops alone (81.5 % with dropout 0.3); this
recipe adds TrivialAugment (Müller & Hutter 2021: 84.33 % with theirs) and label smoothing. A tenth of the training
images chooses the best epoch.

Not run to the end here: it needs a GPU.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="cifar100_wrn",
        data=c.Data(
            source=c.TFDS("cifar100", train="train", validation=None, test="test"),
            validation_share=0.1,
            split_seed=42,
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
        ),
        augment=(c.PadCrop(4, mode="reflect"), c.HorizontalFlip(), c.TrivialAugmentWide(), c.Cutout(16)),
        model=c.WideResNet(28, 10, head=c.Head()),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
            schedule=c.Schedule(peak=0.1, warmup_epochs=1, shape=c.Cosine()),
        ),
        batch_size=128,
        epochs=200,
        precision="bf16",
        seed=42,
    )
