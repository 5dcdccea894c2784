"""Images whose flips, crops and resizing are decided but not yet computed.

Flips and crops only say which row and column comes from where, and a resize which few of them each is the weighted sum
of; the next operation that needs pixels computes them, once, however many of these came before.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from imgcls_jax.augment.materialise import materialise

Size = tuple[int, int]
"""Height and width, pixels."""


class Side(NamedTuple):
    """What the rows, or the columns, of a view are made of: each is one of the source's, or a weighted sum of k."""

    at: Int[Array, "b n k"]
    """Positions in the source; −1 lies outside, which is black."""
    weight: Float[Array, "b n k"] | None = None
    """None: k is 1, and the source's values are taken as they are."""

    @staticmethod
    def whole(batch: int, length: int) -> "Side":
        """Every position, in order."""
        return Side(jnp.broadcast_to(jnp.arange(length)[:, None], (batch, length, 1)))

    def where(self, chosen: Bool[Array, "b"], other: "Side") -> "Side":
        """`self` for the chosen images, else `other`."""
        return jax.tree.map(lambda ours, theirs: jnp.where(chosen[:, None, None], ours, theirs), self, other)

    def reverse(self) -> "Side":
        """The last first."""
        return jax.tree.map(lambda a: a[:, ::-1], self)

    def cut(self, start: int, length: int) -> "Side":
        """`length` positions from `start` on."""
        return jax.tree.map(lambda a: a[:, start : start + length], self)

    def select(self, positions: Int[Array, "b n"]) -> "Side":
        """These positions; black where they lie outside."""
        length = self.at.shape[1]
        inside = (positions >= 0) & (positions < length)
        chosen = jax.tree.map(lambda a: take(a, jnp.clip(positions, 0, length - 1)), self)
        return chosen._replace(at=jnp.where(inside[..., None], chosen.at, -1))

    def sums(self, positions: Int[Array, "b n k"], weight: Float[Array, "b n k"]) -> "Side":
        """Weighted sums of k positions each, of a side without weights."""
        assert self.weight is None
        batch, length, k = positions.shape
        return Side(self.select(positions.reshape(batch, length * k)).at.reshape(positions.shape), weight)

    def safe(self, length: int) -> tuple[Int[Array, "b n k"], Float[Array, "b n k"]]:
        """Positions that all lie in a source of `length`, and weights that are zero where they did not."""
        return materialise((jnp.clip(self.at, 0, length - 1), jnp.where(self.at < 0, 0.0, self.weight)))


class View(NamedTuple):
    """A batch of images whose pixel (i, j) is made of `source`'s pixels in its `rows[i]` and `columns[j]`."""

    source: UInt8[Array, "b H W c"] | Float[Array, "b H W c"]
    """uint8, or float in [0, 1]."""
    rows: Side
    columns: Side
    """Weighted if the rows are."""

    @staticmethod
    def of(image: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]) -> "View":
        """The whole image."""
        batch, height, width = image.shape[:3]
        return View(image, Side.whole(batch, height), Side.whole(batch, width))

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.rows.at.shape[1], self.columns.at.shape[1]

    @property
    def is_weighted(self) -> bool:
        """Whether pixels are weighted sums, and so cost more than to look them up."""
        return self.rows.weight is not None

    def pixels(self) -> Float[Array, "b h w c"]:
        """The image, float32 in [0, 1]."""
        values = self._sums() if self.is_weighted else self._values()
        return values.astype(jnp.float32) / 255 if self.source.dtype == jnp.uint8 else values

    def _values(self) -> UInt8[Array, "b h w c"] | Float[Array, "b h w c"]:
        values, inside = look_up(self.source, self.rows.at[:, :, 0, None], self.columns.at[:, None, :, 0])
        return jnp.where(inside[..., None], values, 0)

    def _sums(self) -> Float[Array, "b h w c"]:
        # Few positions have a weight, so two gathers and additions are several times faster than matrix products.
        batch, height, width, channels = self.source.shape
        at, weight = self.rows.safe(height)
        lines = self.source.reshape(batch, height, width * channels)
        tall = materialise(sum(weight[:, :, k, None] * take(lines, at[:, :, k]) for k in range(at.shape[-1])))
        # Positions in all lines at once: a gather along the third axis has XLA:CPU compute the images transposed.
        before = jnp.arange(at.shape[1])[:, None] * width
        pixels = tall.reshape(batch, -1, channels)
        at, weight = self.columns.safe(width)
        return sum(weight[:, None, :, k, None] * take(pixels, before + at[:, None, :, k]) for k in range(at.shape[-1]))


def take(image: Shaped[Array, "b n *c"], positions: Int[Array, "b *k"]) -> Shaped[Array, "b ..."]:
    """Each image's values [*k, *c] at its own positions, which must be in range."""
    return jax.vmap(lambda one, at: one.at[at].get(mode="promise_in_bounds"))(image, positions)


def look_up(
    image: UInt8[Array, "b H W c"] | Float[Array, "b H W c"],
    rows: Int[Array, "b #h #w"],
    columns: Int[Array, "b #h #w"],
) -> tuple[UInt8[Array, "b h w c"] | Float[Array, "b h w c"], Bool[Array, "b h w"]]:
    """Each image's values at its positions, of the nearest pixel where they lie outside; and where they lie inside."""
    batch, height, width, channels = image.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = jnp.clip(rows, 0, height - 1) * width + jnp.clip(columns, 0, width - 1)
    return take(image.reshape(batch, height * width, channels), flat), inside
