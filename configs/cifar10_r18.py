"""CIFAR-10 from scratch with ResNet-18 (CIFAR stem), flip and padded crop, bf16: meant for a GPU.

Not run to the end here: it needs a GPU. 50,000 training images, no validation split; the test set is looked at once,
after the last epoch.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="cifar10_r18",
        data=c.Data(
            source=c.TFDS("cifar10", train="train", validation=None, test="test"),
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
        ),
        augment=(c.PadCrop(4, mode="reflect"), c.HorizontalFlip()),
        model=c.ResNet("resnet18", stem="cifar", head=c.Head()),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
            schedule=c.Schedule(peak=0.4, warmup_epochs=5, shape=c.Cosine()),
        ),
        batch_size=512,
        epochs=30,
        precision="bf16",
        seed=0,
    )
