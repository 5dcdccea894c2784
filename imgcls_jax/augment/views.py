"""Several views of each test image, whose predictions are averaged."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from imgcls_jax import config as c
from imgcls_jax.augment.geometry import centre_crop
from imgcls_jax.augment.normalise import Channels, evaluation, normalise
from imgcls_jax.augment.view import Size, View
from imgcls_jax.config.tree import Views


def look(
    config: c.Config, kind: Views | None
) -> tuple[Callable[[Array], Array], Callable[[Float[Array, "views b k"]], Float[Array, "b k"]] | None]:
    """How an experiment looks at canvases: `prepare` and `average` as `steps.build_predict` takes them.

    By the views of a kind; or with None once, by the centre of each, which needs no average.
    """
    settings = config.data
    seen = dict(image_size=settings.image_size, mean=settings.mean, std=settings.std)
    if kind is None:
        return functools.partial(evaluation, **seen), None
    sigmoid = isinstance(config.loss, c.BinaryCrossEntropy)
    return functools.partial(views, kind=kind, **seen), functools.partial(average, sigmoid=sigmoid)


def views(
    image: UInt8[Array, "b H W c"], kind: Views, *, image_size: Size, mean: Channels, std: Channels
) -> Float[Array, "views b h w c"]:
    """What the model sees of each canvas in each view, normalised.

    Args:
        kind: "flip": the centre and its mirror image; "flip_shift": the centre, and it moved one pixel up left and one
            down right with its border reflected, then the mirror images of these three; "five_crop": the corners (top
            left, top right, bottom left, bottom right) and the centre; "ten_crop": these five of the canvas, then of
            its mirror image. Crops and their order are torchvision's.

    Raises:
        ValueError: `image_size` exceeds the canvas.
    """
    mirrored = image[:, :, ::-1]
    match kind:
        case "flip":
            crops = [_centre(image, image_size), _centre(mirrored, image_size)]
        case "flip_shift":
            crops = _shifts(_centre(image, image_size))
            crops += [crop[:, :, ::-1] for crop in crops]
        case "five_crop":
            crops = _five(image, image_size)
        case "ten_crop":
            crops = _five(image, image_size) + _five(mirrored, image_size)
    return normalise(jnp.stack(crops), mean, std)


def average(logits: Float[Array, "views b k"], *, sigmoid: bool) -> Float[Array, "b k"]:
    """Logits of the views' mean probabilities.

    Args:
        sigmoid: whether each output is a probability of its own, as under binary cross-entropy; else they share one
            softmax, and the logits are the logarithms of the mean probabilities.
    """
    if sigmoid:
        p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return jax.nn.logsumexp(p[0], axis=0) - jax.nn.logsumexp(p[1], axis=0)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(logits.shape[0])


def _centre(image: UInt8[Array, "b H W c"], size: Size) -> Float[Array, "b h w c"]:
    return centre_crop(View.of(image), size).pixels()


def _shifts(image: Float[Array, "b h w c"]) -> list[Float[Array, "b h w c"]]:
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return [image, padded[:, 2:, 2:], padded[:, :-2, :-2]]


def _five(image: UInt8[Array, "b H W c"], size: Size) -> list[Float[Array, "b h w c"]]:
    centre = _centre(image, size)
    height, width = size
    corners = (
        image[:, :height, :width],
        image[:, :height, -width:],
        image[:, -height:, :width],
        image[:, -height:, -width:],
    )
    return [corner.astype(jnp.float32) / 255 for corner in corners] + [centre]
