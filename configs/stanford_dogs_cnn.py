"""Stanford Dogs, 120 breeds, with the CNN of `cats_dogs_cnn`: a network to take layers from.

The report: 30 epochs of RMSprop at 1e-4, batch 32; 42.84 % of the training and 13.80 % of the validation images right.

The data is http://vision.stanford.edu/aditya86/ImageNetDogs (images of ImageNet, for non-commercial research and
education), `images.tar` unpacked at `data.source.path`.

Not run here: it needs the images.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="stanford_dogs_cnn",
        data=c.Data(
            source=c.Folder("datasets/stanford_dogs/Images"),
            validation_share=0.2,
            canvas=c.Canvas(180, 180, fit="stretch"),
            image_size=(180, 180),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        augment=(c.HorizontalFlip(), c.Rotation(10), c.RandomResizedCrop(scale=(0.8, 1.0))),
        model=c.CNN(
            convs=tuple(c.Conv(channels, 3, pool=2) for channels in (32, 64, 128)),
            aggregate="flatten",
            head=c.Head(dropout=0.5, hidden=(c.Dense(512),)),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(
            optimizer=c.RMSprop("keras", decay=0.9, eps=1e-7), schedule=c.Schedule(peak=1e-4, shape=c.Constant())
        ),
        batch_size=32,
        epochs=30,
        precision="fp32",
        seed=0,
    )
