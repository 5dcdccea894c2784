"""Which operations run in which epoch: the policy of a config as one function of a batch for each phase."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped, UInt

from imgcls_jax import config as c
from imgcls_jax.augment.crops import Shrink, center_crop
from imgcls_jax.augment.draws import fold_in
from imgcls_jax.augment.lazy_image import LazyImage
from imgcls_jax.augment.normalization import Channels, normalize
from imgcls_jax.augment.targets import targets
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize

Label = Shaped[Array, "b *k"]
Augment = Callable[
    [Key[Array, ""], UInt[Array, "b H W c"], Label, Float[Array, "b"], Int[Array, ""], Int[Array, "b"]],
    tuple[Float[Array, "b h w c"], Float[Array, "b classes"]],
]


class Phase(NamedTuple):
    """A range of epochs with the same operations."""

    from_epoch: int
    """The first epoch, counted from 0."""
    until_epoch: int
    """The first epoch that no longer belongs to it."""
    operations: c.Policy
    """The operations that run, in order."""


def runs(operation: c.Augmentation, epoch: int) -> bool:
    """Tell whether the operation runs in `epoch`, counted from 0."""
    return operation.from_epoch <= epoch and (operation.until_epoch is None or epoch < operation.until_epoch)


def phases(policy: c.Policy, epochs: int) -> tuple[Phase, ...]:
    """Split a run of `epochs` into its phases, in order and without gaps; one training step is compiled for each."""
    starts = {0} | {edge for op in policy for edge in (op.from_epoch, op.until_epoch) if edge and edge < epochs}
    found: list[Phase] = []
    for start, stop in zip(sorted(starts), [*sorted(starts)[1:], epochs], strict=True):
        operations = tuple(op for op in policy if runs(op, start))
        if found and found[-1].operations == operations:
            found[-1] = found[-1]._replace(until_epoch=stop)
        else:
            found.append(Phase(start, stop, operations))
    return tuple(found)


def size_of(policy: c.Policy, epoch: int, image_size: Size) -> Size:
    """Height and width of the training images that enter the model in `epoch`, pixels; `image_size` unless shrunk."""
    return next((op.size for op in policy if isinstance(op, Shrink) and runs(op, epoch)), image_size)


def build(
    policy: c.Policy,
    *,
    epoch: int,
    image_size: Size,
    mean: Channels,
    std: Channels,
    num_classes: int,
    fit: str = "crop",
) -> Augment:
    """Build the augmentation of the phase to which `epoch` belongs.

    Args:
      policy: that of the whole run; check it first (`check`).
      epoch: any epoch of the phase.
      image_size: height and width of the result, pixels, unless an operation shrinks it. Images that are still larger
        after all operations are cut at their center.
      mean, std: of each channel, on a scale where black is 0 and white is 1.
      num_classes: length of the labels.
      fit: how the host fitted the images into the canvas (`Canvas.fit`).

    Returns:
      `augment(key, image, label, aspect, epoch, index)`, to be jitted by the caller, with

      - key: the step's random key,
      - image: uint8 or uint16 [b, H, W, c] canvases,
      - label: int32 [b]; or several labels (uint8) or numbers (float32) per image, [b, num_classes],
      - aspect: float32 [b], width / height of the original images,
      - epoch: int32 [], traced, so that the epochs of a phase share one program,
      - index: int32 [b], each example's place in its split.

      It returns normalized images, float32 [b, h, w, c], and labels, float32 [b, num_classes], those of classes each of
      sum 1. Both depend on an image's place in the batch, but not on the number of devices that share the batch.

    Raises:
      UserError: when it is traced: an operation returns something of another shape or dtype than it must.
    """
    active = [(place, op) for place, op in enumerate(policy) if runs(op, epoch)]
    entering = size_of(policy, epoch, image_size)

    def augment(
        key: Key[Array, ""],
        image: UInt[Array, "b H W c"],
        label: Label,
        aspect: Float[Array, "b"],
        epoch: Int[Array, ""],
        index: Int[Array, "b"],
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
        image_key, batch_key = jax.random.split(key)
        image_keys = jax.random.split(image_key, image.shape[0])
        batch = c.BatchInfo(aspect, epoch, index, image_size, mean, std, num_classes, fit)
        lazy = LazyImage.of(image)
        labels = targets(label, num_classes)
        # Keyed by the place in the whole policy: what an operation draws does not depend on which others run.
        for place, op in active:
            if not isinstance(op, c.Mix):
                with naming(place, op):
                    lazy = _transform(op, fold_in(image_keys, place), lazy, batch)
        image = normalize(center_crop(lazy, entering).pixels(), mean, std)
        for place, op in active:
            if isinstance(op, c.Mix):
                with naming(place, op):
                    image, labels = _mix(op, jax.random.fold_in(batch_key, place), image, labels, batch)
        return image, labels

    return augment


def name_of(place: int, operation: c.Augmentation) -> str:
    """Name an operation by its place in the policy, as it stands in messages."""
    return f"augment[{place}] ({type(operation).__name__})"


@contextlib.contextmanager
def naming(place: int, operation: c.Augmentation) -> Iterator[None]:
    """Put the operation's name before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name_of(place, operation)} {error}.") from None


def _transform(op: c.Augmentation, keys: Key[Array, "b"], lazy: LazyImage, batch: c.BatchInfo) -> LazyImage:
    changed = op.transform(keys, lazy, batch)
    size = batch.image_size if isinstance(op, c.Crop) else op.size if isinstance(op, Shrink) else lazy.size
    if changed.size != size:
        height, width = changed.size
        must = "as a crop it must return data.image_size" if isinstance(op, c.Crop) else "it must keep their size"
        raise UserError(f"returns images of {height}×{width} pixels: {must}, {size[0]}×{size[1]}")
    return changed


def _mix(
    op: c.Mix,
    key: Key[Array, ""],
    image: Float[Array, "b h w c"],
    labels: Float[Array, "b classes"],
    batch: c.BatchInfo,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
    image = materialize(image)  # else XLA:CPU computes each pixel for itself and, slowly, for its partner
    mixed = op.mix(key, image, labels, batch)
    for what, before, after in zip(("images", "labels"), (image, labels), mixed, strict=True):
        if jnp.shape(after) != before.shape or after.dtype != before.dtype:
            raise UserError(
                f"returns {what} {after.dtype} {list(jnp.shape(after))}: they must stay {before.dtype} "
                f"{list(before.shape)}"
            )
    return mixed
