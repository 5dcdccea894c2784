"""Test-time augmentation: several views of each test image, whose predictions are averaged."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from imgcls_jax import config as c
from imgcls_jax.augment.crops import center
from imgcls_jax.augment.lazy_image import to_unit
from imgcls_jax.augment.normalization import Channels, normalize, prepare_for_evaluation
from imgcls_jax.config.data import Size
from imgcls_jax.config.experiment import Views
from imgcls_jax.errors import UserError


def build(
    config: c.Config, views: Views | None
) -> tuple[
    Callable[[UInt[Array, "b H W c"]], Array],
    Callable[[Float[Array, "views b k"]], Float[Array, "b k"]] | None,
]:
    """Build what an experiment's evaluation does before and after the model: `prepare` and `average`.

    Args:
      config: the experiment.
      views: kind of the test-time views (`Config.test_views`); None: the center of each canvas alone.

    Returns:
      - prepare: maps uint8 canvases [b, H, W, c] to normalized float32 images [views, b, h, w, c], or without views to
        [b, h, w, c],
      - average: maps the logits of all views, float32 [views, b, k], to one prediction per image, [b, k]; None without
        views.
    """
    data = config.data
    if views is None:
        return functools.partial(prepare_for_evaluation, image_size=data.image_size, mean=data.mean, std=data.std), None
    check(data, views)
    sigmoid, numbers = config.loss.sigmoid, config.loss.task == "numbers"
    return (
        functools.partial(stack_views, kind=views, image_size=data.image_size, mean=data.mean, std=data.std),
        functools.partial(jnp.mean, axis=0) if numbers else functools.partial(average, sigmoid=sigmoid),
    )


def check(data: c.Data, kind: Views | None) -> None:
    """Raise a UserError where test-time views would all be the same."""
    canvas, size = data.eval_canvas or data.canvas, data.image_size
    if kind in ("five_crop", "ten_crop") and (canvas.height, canvas.width) == size:
        raise UserError(
            f"test_views = {kind!r} would cut the same {size[0]}×{size[1]} pixels five times, because test canvases "
            "are no larger: set a larger data.eval_canvas, or test_views to 'flip'"
        )


def stack_views(
    image: UInt[Array, "b H W c"], kind: Views, *, image_size: Size, mean: Channels, std: Channels
) -> Float[Array, "views b h w c"]:
    """Compute the normalized test-time views of each canvas.

    Args:
      image: canvases.
      kind: "flip": the center and its mirror image; "flip_shift": the center, and it moved by one pixel up left and by
        one down right with its border reflected, then the mirror images of these three; "five_crop": the corners (top
        left, top right, bottom left, bottom right) and the center; "ten_crop": these five of the canvas, then of its
        mirror image. Crops and their order are torchvision's.
      image_size: height and width of a view, pixels.
      mean, std: of each channel, on a scale where black is 0 and white is 1.

    Raises:
      ValueError: `image_size` exceeds the canvas.
    """
    mirrored = image[:, :, ::-1]
    match kind:
        case "flip":
            crops = [center(image, image_size), center(mirrored, image_size)]
        case "flip_shift":
            crops = _shifts(center(image, image_size))
            crops += [crop[:, :, ::-1] for crop in crops]
        case "five_crop":
            crops = _five(image, image_size)
        case "ten_crop":
            crops = _five(image, image_size) + _five(mirrored, image_size)
    return normalize(jnp.stack(crops), mean, std)


def average(logits: Float[Array, "views b k"], *, sigmoid: bool) -> Float[Array, "b k"]:
    """Compute the logits of the views' mean probabilities.

    Args:
      logits: of each view.
      sigmoid: whether each output is a probability of its own, as under binary cross-entropy; else they share one
        softmax, and the logits are the logarithms of the mean probabilities.
    """
    if sigmoid:
        p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return jax.nn.logsumexp(p[0], axis=0) - jax.nn.logsumexp(p[1], axis=0)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(logits.shape[0])


def _shifts(image: Float[Array, "b h w c"]) -> list[Float[Array, "b h w c"]]:
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return [image, padded[:, 2:, 2:], padded[:, :-2, :-2]]


def _five(image: UInt[Array, "b H W c"], size: Size) -> list[Float[Array, "b h w c"]]:
    height, width = size
    corners = (
        image[:, :height, :width],
        image[:, :height, -width:],
        image[:, -height:, :width],
        image[:, -height:, -width:],
    )
    return [to_unit(corner, image.dtype) for corner in corners] + [center(image, size)]
