"""The interface of augmentations: what an operation on training images can be asked, ours and a user's alike.

A policy is a tuple of operations in the order in which they run, each with the epochs in which it runs. Epochs count
from 0: `from_epoch=30` first runs in the 31st epoch; `until_epoch` is the first epoch without it. Validation and test
images are never augmented.

Every operation runs on the device, on a batch, from one random key per image. A subclass overrides one of

- `apply`: change one image, given one key; it is vectorized over the batch,
- `apply_batch`: change a batch of images, given one key per image,
- `transform`: change a batch whose flips and crops are not computed yet (`imgcls_jax.augment.LazyImage`),

and a subclass of `Mix` overrides `draw` and `blend`. All of them are called inside `jax.jit`.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, NamedTuple

from jaxtyping import Float, Int, Key
from pydantic import AfterValidator, Field

from imgcls_jax.config.data import Size
from imgcls_jax.config.registry import Component
from imgcls_jax.errors import UserError

Array = Any  # a jax.Array; JAX itself is imported when an operation runs

# ---- types of settings ----------------------------------------------------------------------------------------------

Probability = Annotated[float, Field(gt=0, le=1)]
"""Probability with which an operation changes an image: above 0, because at 0 it would never run."""
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Epoch = Annotated[int, Field(ge=0)]


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"must name the smaller value first, not {interval}")
    return interval


def _positive(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] <= 0:
        raise ValueError(f"must be above 0, not {interval}")
    return interval


def _at_most_one(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[1] > 1:
        raise ValueError(f"must be at most 1, not {interval}")
    return interval


Range = Annotated[tuple[float, float], AfterValidator(_ascending), AfterValidator(_positive)]
"""Least and greatest value of something that is drawn; both above 0."""
ShareRange = Annotated[Range, AfterValidator(_at_most_one)]
"""Least and greatest share; both above 0 and at most 1."""


# ---- what an operation may know -------------------------------------------------------------------------------------


class BatchInfo(NamedTuple):
    """What an operation may know besides the images.

    `apply` is called once per image and sees the values of that image: there `aspect` and `index` are scalars.
    """

    aspect: Float[Array, "*b"]
    """Width / height of each original image, before it was fitted into its canvas."""
    epoch: Int[Array, ""]
    """Epoch, counted from 0. It is traced, so that all epochs with the same operations share one program."""
    index: Int[Array, "*b"]
    """Place of each image in its split: the same in every epoch."""
    image_size: Size
    """Height and width that enter the model, pixels."""
    mean: tuple[float, ...]
    """Mean of each channel (`Data.mean`), subtracted after all operations on single images."""
    std: tuple[float, ...]
    """Standard deviation of each channel (`Data.std`)."""
    num_classes: int
    """Length of the labels."""
    fit: Literal["crop", "stretch", "pad"]
    """How the images were fitted into their canvases (`Canvas.fit`)."""


class CheckContext(NamedTuple):
    """Where an operation runs: what `Augmentation.check` may compare its settings with."""

    size: Size
    """Height and width of the images that the operation gets, pixels."""
    image_size: Size
    """Height and width that enter the model, pixels."""
    channels: int
    """Channels of the images: 1 (grayscale), 3 (RGB), or any other number to 16."""
    epochs: int
    """Epochs of the run."""
    others: Mapping[str, "Augmentation"]
    """The other operations that run in the same epochs, by their names in messages: "augment[1] (HorizontalFlip)"."""
    depth: int = 8
    """Bits per channel, 8 or 16."""

    def need_picture(self, what: str) -> None:
        """Refuse images that are not gray or RGB, for an operation that knows no others.

        Raises:
          UserError: they are of another kind; `what` is what the operation needs, such as "changes colors".
        """
        if self.channels not in (1, 3):
            raise UserError(f"{what}, which is for gray and RGB images, not for canvas.channels={self.channels}")

    def need_levels(self, what: str) -> None:
        """Refuse images whose channels are not of 8 bits, for an operation that works on 256 levels."""
        if self.depth != 8:
            raise UserError(f"{what}, which would lose the 16 bits of canvas.depth={self.depth}")


# ---- operations -----------------------------------------------------------------------------------------------------


class Augmentation(Component, root=True):
    """An operation on training images, and the epochs in which it runs.

    A subclass that has a setting `p` changes each image with that probability and leaves the others as they are.

        class Darken(c.Augmentation):
            "Multiply each image by a random factor."

            least: float = 0.5
            p: c.Probability = 0.5

            def apply(self, key, image, batch):
                return image * jax.random.uniform(key, minval=self.least, maxval=1.0)
    """

    from_epoch: Epoch = field(default=0, kw_only=True)
    """First epoch (counted from 0) in which it runs."""
    until_epoch: Epoch | None = field(default=None, kw_only=True)
    """First epoch in which it no longer runs; None: it runs to the end."""

    @property
    def probability(self) -> float:
        """Probability with which an image is changed: the setting `p`, or 1 without one."""
        return getattr(self, "p", 1.0)

    def apply(
        self, key: Key[Array, ""], image: Float[Array, "h w c"], batch: BatchInfo
    ) -> Float[Array, "new_h new_w c"]:
        """Change one image.

        Args:
          key: random key of this image in this step.
          image: float32 [h, w, c], 0 (black) to 1 (white), not normalized.
          batch: what else is known about the image and the run.

        Returns:
          float32 of the same shape; from a `Crop`, [*batch.image_size, c].
        """
        raise NotImplementedError(f"{type(self).__name__} must define apply, apply_batch or transform")

    def apply_batch(
        self, keys: Key[Array, "b"], images: Float[Array, "b h w c"], batch: BatchInfo
    ) -> Float[Array, "b new_h new_w c"]:
        """Change a batch of images, each by its own key; `apply`, vectorized over the batch, unless overridden.

        An image's result should depend on its own key and pixels alone.

        Args:
          keys: random key of each image in this step.
          images: float32 [b, h, w, c], 0 (black) to 1 (white), not normalized.
          batch: what else is known about the images and the run.

        Returns:
          float32 of the same shape; from a `Crop`, [b, *batch.image_size, c].
        """
        import jax

        def one(key: Array, image: Array, aspect: Array, index: Array) -> Array:
            return self.apply(key, image, batch._replace(aspect=aspect, index=index))

        return jax.vmap(one)(keys, images, batch.aspect, batch.index)

    def transform(self, keys: Key[Array, "b"], lazy: Any, batch: BatchInfo) -> Any:
        """Change a batch whose flips, crops and resizing may not be computed yet.

        The default computes the pixels, calls `apply_batch`, and keeps its result for the images that `p` selects. An
        operation that only moves pixels can override this method to be computed together with its neighbors; then it
        has to apply `p` itself.

        Args:
          keys: random key of each image in this step.
          lazy: the images, an `imgcls_jax.augment.LazyImage`.
          batch: what else is known about the images and the run.

        Returns:
          A `LazyImage`.
        """
        return lazy.change(lambda own, images: self.apply_batch(own, images, batch), keys, self.probability)

    def check(self, context: CheckContext) -> None:
        """Refuse settings that make no sense together or for these images, before any data is read.

        A rule about one setting alone belongs into the type of that setting.

        Raises:
          UserError: with the rest of a sentence that begins with the operation's name, such as "changes nothing".
        """


class Crop(Augmentation, abstract=True):
    """An operation whose result has the size that enters the model, `Data.image_size`. One may run per epoch."""


class Mix(Augmentation, abstract=True):
    """An operation that blends the images of a batch, and their labels alike.

    It runs last, on normalized images; one may run per epoch. With a setting `p`, a batch is mixed with that
    probability.
    """

    def draw(self, key: Key[Array, ""], batch: BatchInfo) -> Any:
        """Draw how the batch is mixed.

        Args:
          key: random key of the batch in this step.
          batch: what is known about the images and the run.

        Returns:
          Any pytree, which is passed on to `blend`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define draw")

    def blend(
        self, images: Float[Array, "b h w c"], labels: Float[Array, "b classes"], drawn: Any
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
        """Mix images and labels.

        Args:
          images: float32 [b, h, w, c], normalized.
          labels: float32 [b, classes], each of sum 1.
          drawn: the result of `draw`.

        Returns:
          Images and labels of the same shapes and dtypes.
        """
        raise NotImplementedError(f"{type(self).__name__} must define blend")

    def mix(
        self,
        key: Key[Array, ""],
        images: Float[Array, "b h w c"],
        labels: Float[Array, "b classes"],
        batch: BatchInfo,
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
        """Draw, and blend the batch with the probability `p`."""
        import jax

        draw_key, coin_key, choice_key = jax.random.split(key, 3)
        mixed = self.blend(images, labels, self._draw(draw_key, choice_key, batch))
        if self.probability == 1:
            return mixed
        chosen = jax.random.bernoulli(coin_key, self.probability)
        return jax.tree.map(lambda new, old: jax.numpy.where(chosen, new, old), mixed, (images, labels))

    def _draw(self, key: Key[Array, ""], choice_key: Key[Array, ""], batch: BatchInfo) -> Any:
        """Draw, with a second key for an operation that chooses between ways of mixing."""
        return self.draw(key, batch)


Policy = tuple[Augmentation, ...]
