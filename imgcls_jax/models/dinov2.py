"""DINOv2's vision transformer (Oquab et al. 2023; registers: Darcet et al. 2023), with the names of
facebookresearch/dinov2. Its mask token, which only pre-training uses, is left out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config import model as cfg
from imgcls_jax.errors import UserError
from imgcls_jax.models.head import Head
from imgcls_jax.models.layers import Conv, DropPath, at_least_float32

PATCH = 14
GRID = 37
"""Side of the grid of position embeddings: images of 518 pixels in pre-training."""
REGISTERS = 4

normal = nnx.initializers.normal(0.02)


class Architecture(NamedTuple):
    """What tells the sizes apart."""

    width: int
    depth: int
    heads: int


ARCHITECTURES = {
    "small": Architecture(384, 12, 6),
    "base": Architecture(768, 12, 12),
    "large": Architecture(1024, 24, 16),
}


class PatchEmbed(nnx.Module):
    """A linear map of each 14×14 patch."""

    def __init__(self, channels: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.proj = Conv(channels, width, PATCH, stride=PATCH, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        x = self.proj(x)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Attention(nnx.Module):
    """Multi-head self-attention with a joint projection of queries, keys and values."""

    def __init__(self, width: int, heads: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = nnx.Linear(width, 3 * width, kernel_init=normal, dtype=dtype, rngs=rngs)
        self.proj = nnx.Linear(width, width, kernel_init=normal, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        out = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.proj(out.reshape(batch, tokens, width))


class MLP(nnx.Module):
    """Two linear layers with the exact GELU between them, four times as wide inside."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, 4 * width, kernel_init=normal, dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, kernel_init=normal, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class LayerScale(nnx.Module):
    """A learnt factor a channel (Touvron et al. 2021)."""

    def __init__(self, width: int):
        self.gamma = nnx.Param(jnp.ones(width))

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return x * self.gamma[...].astype(x.dtype)


class Block(nnx.Module):
    """A pre-norm transformer block with layer scale and stochastic depth on both branches."""

    def __init__(self, width: int, heads: int, *, drop: float, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1 = layer_norm(width, dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.ls1 = LayerScale(width)
        self.norm2 = layer_norm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, dtype=dtype, rngs=rngs)
        self.ls2 = LayerScale(width)
        self.drop_path = DropPath(drop)

    def __call__(self, x: Float[Array, "b n d"], rngs: nnx.Rngs | None) -> Float[Array, "b n d"]:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))), rngs)
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))), rngs)


class DINOv2(nnx.Module):
    """Patches → tokens with positions → transformer blocks → layer norm → head.

    The class token comes first, then the registers, then the patches row by row. Position embeddings are those of a
    37×37 grid; for images of other sizes they are resized as the published checkpoints expect.
    """

    def __init__(
        self,
        config: cfg.DINOv2,
        *,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        if any(side % PATCH for side in image_size):
            raise UserError(
                f"DINOv2 cuts images into patches of 14×14 pixels, which does not fit data.image_size "
                f"{image_size[0]}×{image_size[1]}: use multiples of 14, such as 224"
            )
        width, depth, heads = ARCHITECTURES[config.size]
        self.registers = config.registers
        self.with_patches = config.features == "cls_patch_mean"
        self.cls_token = nnx.Param(nnx.initializers.normal(1e-6)(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(normal(rngs.params(), (1, 1 + GRID * GRID, width)))
        if config.registers:
            self.register_tokens = nnx.Param(nnx.initializers.normal(1e-6)(rngs.params(), (1, REGISTERS, width)))
        self.patch_embed = PatchEmbed(channels, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [Block(width, heads, drop=config.stochastic_depth, dtype=dtype, rngs=rngs) for _ in range(depth)]
        )
        self.norm = layer_norm(width, dtype=dtype, rngs=rngs)
        features = 2 * width if self.with_patches else width
        self.head = Head(features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "patch_embed", "tokens", "blocks.0" …, "norm", "pool" (what the head
        sees), "head" (the logits)."""
        maps = {}
        grid = (x.shape[1] // PATCH, x.shape[2] // PATCH)
        maps["patch_embed"] = x = self.patch_embed(x)
        maps["tokens"] = x = self._with_tokens(x, grid)
        for i, block in enumerate(self.blocks):
            maps[f"blocks.{i}"] = x = block(x, rngs)
        maps["norm"] = x = self.norm(x)
        pooled = x[:, 0]
        if self.with_patches:
            patches = x[:, 1 + REGISTERS * self.registers :]
            mean = patches.mean(1, dtype=at_least_float32(x.dtype)).astype(x.dtype)
            pooled = jnp.concatenate([pooled, mean], axis=-1)
        maps["pool"] = pooled
        maps["head"] = self.head(pooled, rngs)
        return maps

    def _with_tokens(self, patches: Float[Array, "b n d"], grid: tuple[int, int]) -> Float[Array, "b m d"]:
        # The checkpoints without registers were made with a resize that is off by a tenth of a patch and without
        # antialiasing; those with registers with neither fault.
        positions = self.pos_embed[...]
        resized = resize_grid(
            positions[0, 1:].reshape(GRID, GRID, -1),
            grid,
            offset=0.0 if self.registers else 0.1,
            antialias=self.registers,
        )
        cls = self.cls_token[...] + positions[:, :1]
        patches = patches + resized.reshape(1, *patches.shape[1:]).astype(patches.dtype)

        def for_batch(token: Float[Array, "1 k d"]) -> Float[Array, "b k d"]:
            return jnp.broadcast_to(token, (len(patches), *token.shape[1:])).astype(patches.dtype)

        registers = [for_batch(self.register_tokens[...])] if self.registers else []
        return jnp.concatenate([for_batch(cls), *registers, patches], axis=1)


def layer_norm(width: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm whose statistics are float32."""
    return nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, rngs=rngs)


def resize_grid(
    grid: Float[Array, "h w d"], size: tuple[int, int], *, offset: float, antialias: bool
) -> Float[Array, "h2 w2 d"]:
    """A bicubic resize, as torch's `interpolate(mode="bicubic", align_corners=False)` in dinov2's
    `interpolate_pos_encoding`.

    `offset` is added to the output size where the scale is computed, not where the samples are counted.
    """
    if grid.shape[:2] == size:
        return grid
    rows, columns = (
        bicubic_weights(before, after, scale=before / (after + offset), antialias=antialias)
        for before, after in zip(grid.shape[:2], size, strict=True)
    )
    return jnp.einsum("ih,jw,hwd->ijd", rows, columns, grid, precision=jax.lax.Precision.HIGHEST)


def bicubic_weights(before: int, after: int, *, scale: float, antialias: bool) -> Float[np.ndarray, "after before"]:
    """Each output sample as a weighted sum of the input's, at `scale` input samples an output sample.

    torch's kernel has the parameter −0.75, and repeats the edge; with antialiasing it has −0.5, is widened when
    shrinking, and is renormalised at the edge, as Pillow's.
    """
    centre = scale * (np.arange(after) + 0.5)
    if not antialias:
        first = np.floor(centre - 0.5).astype(int)
        weights = np.zeros((after, before))
        for tap in range(-1, 3):
            index = np.clip(first + tap, 0, before - 1)
            np.add.at(weights, (np.arange(after), index), _cubic(centre - 0.5 - (first + tap), a=-0.75))
        return weights.astype(np.float32)
    widening = max(scale, 1.0)
    distance = (np.arange(before) + 0.5 - centre[:, None]) / widening
    weights = _cubic(distance, a=-0.5)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
