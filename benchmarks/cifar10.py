"""CIFAR-10 for both sides, without importing JAX or torch."""

from benchmarks.process import CannotRun
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(images: str) -> tuple[c.Data, data.Dataset]:
    """The first `images` ("100%", "500") of its training images, a fifth of them held out for evaluation."""
    settings = c.Data(
        source=c.TFDS("cifar10", train=f"train[:{images}]", validation=None, test=None),
        validation_share=0.2,
        canvas=c.Canvas(32, 32),
        image_size=(32, 32),
        mean=MEAN,
        std=STD,
    )
    try:
        return settings, data.load(settings)
    except UserError as error:
        raise CannotRun(str(error)) from error
