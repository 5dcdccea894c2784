"""A config of imgcls_jax, for `imgcls train --config ours.py:JOB`."""

from our_report import Report  # bench

from imgcls_jax import config as c


def cnn():
    def block(first, second, dropout=0.0):
        return (
            c.Conv(first, 3, padding=1, norm="batch"),
            c.Conv(second, 3, padding=1, pool=2, dropout=dropout),
        )

    head = c.Head(dropout=0.1, hidden=(c.Dense(1024), c.Dense(512, dropout=0.1)))
    blocks = (*block(32, 64), *block(128, 128, 0.05), *block(256, 256))
    return c.CNN(convs=blocks, aggregate="flatten", head=head), (c.HorizontalFlip(), c.VerticalFlip(), c.Rotation(15))


def resnet18():
    return c.ResNet("resnet18", stem="cifar", head=c.Head()), (c.HorizontalFlip(),)


def photographs():
    convs = tuple(
        c.Conv(channels, 3, stride=stride, padding=1, norm="batch", pool=2)
        for channels, stride in ((32, 2), (64, 1), (128, 1), (256, 1))
    )
    return c.CNN(convs=convs, aggregate="average", head=c.Head()), (c.RandomResizedCrop(), c.HorizontalFlip())


def get_config(variant):
    model, augment = {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}[variant]()
    if variant == "photographs":
        images = dict(source=c.Folder("imagenette"), canvas=c.Canvas(256, 256), image_size=(224, 224))
    else:
        images = dict(source=c.Arrays("cifar10.npz"), canvas=c.Canvas(32, 32), image_size=(32, 32))
    return c.Config(
        name=variant,
        data=c.Data(**images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        augment=augment,
        model=model,
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=0.01, shape=c.Constant())),
        batch_size=128,
        epochs=1,
        precision="fp32",
        cpu_convolutions="onednn",
        callbacks=(Report(),),  # bench
        seed=0,
    )
