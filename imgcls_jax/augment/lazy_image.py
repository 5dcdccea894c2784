"""Images whose flips, crops and resizing are decided but not yet computed.

A flip or a crop only says which row and column of the source each row and column comes from; a resize says which few
of them each is the weighted sum of. The next operation that needs pixels computes them, once for any number of these.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt

from imgcls_jax.augment.draws import coins
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError
from imgcls_jax.xla.fence import materialize


class Side(NamedTuple):
    """Where the rows, or the columns, of lazy images come from: each is one of the source's, or a weighted sum of k."""

    at: Int[Array, "b n k"]
    """Positions in the source; −1 lies outside, which is black."""
    weight: Float[Array, "b n k"] | None = None
    """Weight of each position. None: k is 1, and the source's values are taken as they are."""

    @staticmethod
    def whole(batch: int, length: int) -> "Side":
        """Take every position, in order."""
        return Side(jnp.broadcast_to(jnp.arange(length)[:, None], (batch, length, 1)))

    def where(self, chosen: Bool[Array, "b"], other: "Side") -> "Side":
        """Take `self` for the chosen images and `other` for the rest."""
        return jax.tree.map(lambda ours, theirs: jnp.where(chosen[:, None, None], ours, theirs), self, other)

    def reverse(self) -> "Side":
        """Reverse the order."""
        return jax.tree.map(lambda a: a[:, ::-1], self)

    def cut(self, start: int, length: int) -> "Side":
        """Take `length` positions from `start` on."""
        return jax.tree.map(lambda a: a[:, start : start + length], self)

    def select(self, positions: Int[Array, "b m"]) -> "Side":
        """Take these positions; they are black where they lie outside."""
        length = self.at.shape[1]
        inside = (positions >= 0) & (positions < length)
        chosen = jax.tree.map(lambda a: take(a, jnp.clip(positions, 0, length - 1)), self)
        return chosen._replace(at=jnp.where(inside[..., None], chosen.at, -1))

    def sums(self, positions: Int[Array, "b m k"], weight: Float[Array, "b m k"]) -> "Side":
        """Take weighted sums of k positions each, of a side without weights."""
        assert self.weight is None
        batch, length, k = positions.shape
        return Side(self.select(positions.reshape(batch, length * k)).at.reshape(positions.shape), weight)

    def safe(self, length: int) -> tuple[Int[Array, "b n k"], Float[Array, "b n k"]]:
        """Return positions that all lie in a source of `length`, and weights that are zero where they did not."""
        return materialize((jnp.clip(self.at, 0, length - 1), jnp.where(self.at < 0, 0.0, self.weight)))


class LazyImage(NamedTuple):
    """A batch of images whose pixel (i, j) is made of the source's pixels in `rows[i]` and `columns[j]`."""

    source: UInt[Array, "b H W c"] | Float[Array, "b H W c"]
    """uint8 or uint16, or float32 in [0, 1]."""
    rows: Side
    columns: Side
    """With weights if `rows` has weights."""

    @staticmethod
    def of(images: UInt[Array, "b h w c"] | Float[Array, "b h w c"]) -> "LazyImage":
        """Take whole images as they are."""
        batch, height, width = images.shape[:3]
        return LazyImage(images, Side.whole(batch, height), Side.whole(batch, width))

    @property
    def size(self) -> Size:
        """Height and width, pixels."""
        return self.rows.at.shape[1], self.columns.at.shape[1]

    @property
    def is_weighted(self) -> bool:
        """Whether pixels are weighted sums, and so cost more than to look them up."""
        return self.rows.weight is not None

    def unweighted(self) -> "LazyImage":
        """Return the same images, computed if their pixels are weighted sums."""
        return LazyImage.of(materialize(self.pixels())) if self.is_weighted else self

    def pixels(self) -> Float[Array, "b h w c"]:
        """Compute the images, float32 in [0, 1]."""
        values = self._sums() if self.is_weighted else self._values()
        return to_unit(values, self.source.dtype)

    def change(
        self, function: Callable[[Key[Array, "b"], Float[Array, "b h w c"]], Array], keys: Key[Array, "b"], p: float = 1
    ) -> "LazyImage":
        """Compute the pixels and change each image with probability `p`.

        Args:
          function: maps keys and float32 images [b, h, w, c] to changed images.
          keys: one key per image.
          p: probability that an image is changed; below 1, the images must keep their size.

        Raises:
          UserError: the function returns something else than a batch of float32 images.
        """
        images = self.unweighted().pixels()
        if p == 1:
            changed = _checked(function(keys, images), images)
        else:
            keys, coin_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
            chosen = coins(coin_keys, p)[:, None, None, None]
            changed = jnp.where(chosen, _checked(function(keys, images), images, same_size=True), images)
        return LazyImage.of(materialize(changed))

    def _values(self) -> UInt[Array, "b h w c"] | Float[Array, "b h w c"]:
        values, inside = look_up(self.source, self.rows.at[:, :, 0, None], self.columns.at[:, None, :, 0])
        return jnp.where(inside[..., None], values, 0)

    def _sums(self) -> Float[Array, "b h w c"]:
        # Few positions have a weight, so two gathers and additions are several times faster than matrix products.
        batch, height, width, channels = self.source.shape
        at, weight = self.rows.safe(height)
        lines = self.source.reshape(batch, height, width * channels)
        tall = materialize(sum(weight[:, :, k, None] * take(lines, at[:, :, k]) for k in range(at.shape[-1])))
        # Positions in all lines at once: a gather along the third axis has XLA:CPU compute the images transposed.
        before = jnp.arange(at.shape[1])[:, None] * width
        pixels = tall.reshape(batch, -1, channels)
        at, weight = self.columns.safe(width)
        return sum(weight[:, None, :, k, None] * take(pixels, before + at[:, None, :, k]) for k in range(at.shape[-1]))


def to_unit(values: Shaped[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """Scale what comes of pixels of `dtype` to float32 in [0, 1], black to white; floats are that already."""
    return values.astype(jnp.float32) / jnp.iinfo(dtype).max if jnp.issubdtype(dtype, jnp.integer) else values


def take(image: Shaped[Array, "b n *c"], positions: Int[Array, "b *k"]) -> Shaped[Array, "b ..."]:
    """Take each image's values [*k, *c] at its own positions, which must be in range."""
    return jax.vmap(lambda one, at: one.at[at].get(mode="promise_in_bounds"))(image, positions)


def look_up(
    image: UInt[Array, "b H W c"] | Float[Array, "b H W c"],
    rows: Int[Array, "b #h #w"],
    columns: Int[Array, "b #h #w"],
) -> tuple[UInt[Array, "b h w c"] | Float[Array, "b h w c"], Bool[Array, "b h w"]]:
    """Take each image's pixels at its positions, the nearest pixel where they lie outside.

    Returns:
      The pixels, and whether each position lies inside.
    """
    batch, height, width, channels = image.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = jnp.clip(rows, 0, height - 1) * width + jnp.clip(columns, 0, width - 1)
    return take(image.reshape(batch, height * width, channels), flat), inside


def _checked(changed: Any, images: Float[Array, "b h w c"], *, same_size: bool = False) -> Array:
    """Refuse what an operation of a user's own may return by mistake; shapes are known before anything runs."""
    shape, dtype = jnp.shape(changed), getattr(changed, "dtype", type(changed).__name__)
    batch, height, width, channels = images.shape
    size = (height, width) if same_size or len(shape) != 4 else shape[1:3]
    if shape != (batch, *size, channels) or dtype != jnp.float32:
        raise UserError(
            f"returns {dtype} {list(shape)} for a batch of images float32 {list(images.shape)}: it must return "
            f"float32 [{batch}, {'height, width' if not same_size else f'{height}, {width}'}, {channels}]"
        )
    return changed
