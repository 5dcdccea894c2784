"""DINOv2's vision transformer (Oquab et al. 2023; registers: Darcet et al. 2023), with the names of
facebookresearch/dinov2. Its mask token, which only pre-training uses, is left out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imgcls_jax.config.model import Head, Model, Rate
from imgcls_jax.errors import UserError
from imgcls_jax.models import head as heads
from imgcls_jax.models.head import HeadModule
from imgcls_jax.models.layers import Conv2d, DropPath, at_least_float32
from imgcls_jax.weights import torch_names as t
from imgcls_jax.weights.catalog import Entry, Preprocessing
from imgcls_jax.weights.paths import in_order
from imgcls_jax.weights.timm import Counterpart

Size = Literal["small", "base", "large"]

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


_ARCHITECTURES: dict[Size, Architecture] = {
    "small": Architecture(384, 12, 6),
    "base": Architecture(768, 12, 12),
    "large": Architecture(1024, 24, 16),
}

# fmt: off
_REGISTERED = (
    "cls_token", "pos_embed", "register_tokens", "patch_embed", "blocks",
    "norm1", "attn", "qkv", "proj", "ls1", "norm2", "mlp", "fc1", "fc2", "ls2", *heads.REGISTERED,
)
# fmt: on


class DINOv2(Model):
    """DINOv2's vision transformer with patches of 14 pixels (Oquab et al. 2023; registers: Darcet et al. 2023)."""

    size: Size
    """Features and blocks: 384 and 12, 768 and 12, or 1024 and 24."""
    head: Head
    """From the features to the logits."""
    registers: bool = False
    """Four register tokens."""
    features: Literal["cls", "cls_patch_mean"] = "cls"
    """What the head sees: the class token, or it and the mean of the patch tokens, concatenated."""
    stochastic_depth: Rate = 0.0
    """Drop rate of every residual branch."""
    stage_pattern: ClassVar[str] = r"blocks\.\d+"  # a block is a stage, the embeddings another

    def build(
        self, *, num_classes: int, channels: int, image_size: tuple[int, int], dtype: DTypeLike, rngs: nnx.Rngs
    ) -> "DINOv2Module":
        """Make the network.

        Raises:
          UserError: patches of 14 pixels do not fit the images.
        """
        return DINOv2Module(
            self, num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs
        )

    def torch_rules(self) -> tuple[t.Rule, ...]:
        """List the names of facebookresearch/dinov2."""
        return (
            *t.rules(
                ("cls_token", "cls_token", t.VALUE),
                ("pos_embed", "pos_embed", t.VALUE),
                ("register_tokens", "register_tokens", t.VALUE),
                ("patch_embed.proj", "patch_embed.proj", t.CONV),
                ("blocks.{}.norm{}", "blocks.{}.norm{}", t.LAYER_NORM),
                ("blocks.{}.attn.qkv", "blocks.{}.attn.qkv", t.LINEAR),
                ("blocks.{}.attn.proj", "blocks.{}.attn.proj", t.LINEAR),
                ("blocks.{}.ls{}", "blocks.{}.ls{}", t.LAYER_SCALE),
                ("blocks.{}.mlp.fc{}", "blocks.{}.mlp.fc{}", t.LINEAR),
                ("norm", "norm", t.LAYER_NORM),
            ),
            *heads.torch_rules("head", self.head),
        )

    def torch_ignores(self, name: str) -> bool:
        """The token that stood for masked patches in pre-training has no place here."""
        return name == "mask_token"

    def in_timm(self) -> Counterpart:
        """Return timm's network; for images of other sides than 518 it resizes its positions otherwise."""
        name = f"vit_{self.size}_patch14_{'reg4_' if self.registers else ''}dinov2"
        return Counterpart(name, pooling="token", rename=_of_timm)

    def torch_order(self, paths: Iterable[str]) -> list[str]:
        """Sort as the original registers."""
        return in_order(paths, _REGISTERED)

    @classmethod
    def architectures(cls) -> dict[str, Model]:
        """List the sizes, without registers and with them."""
        return {
            f"dinov2_vit{size[0]}14{'_reg' if registers else ''}": DINOv2(size, Head(), registers=registers)
            for registers in (False, True)
            for size in _ARCHITECTURES
        }

    @classmethod
    def published(cls) -> Sequence[Entry]:
        """List the weights of facebookresearch/dinov2, as its README has them."""
        return (
            _published("s", False, 22_056_576, 81.1),
            _published("b", False, 86_580_480, 84.5),
            _published("l", False, 304_368_640, 86.3),
            _published("s", True, 22_058_112, 80.9),
            _published("b", True, 86_583_552, 84.6),
            _published("l", True, 304_372_736, 86.7),
        )


def _of_timm(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename timm's tensors; with registers, timm has added the class token's position to the token itself."""
    renamed = {"register_tokens" if name == "reg_token" else name: array for name, array in state.items()}
    positions = renamed.get("pos_embed")
    if positions is not None and positions.ndim == 3 and positions.shape[1] == GRID * GRID:
        renamed["pos_embed"] = np.concatenate([np.zeros_like(positions[:, :1]), positions], axis=1)
    return renamed


def _published(size: str, registers: bool, num_params: int, top1: float) -> Entry:
    stem = f"dinov2_vit{size}14"
    return Entry(
        f"dinov2/vit{size}14_reg" if registers else f"dinov2/vit{size}14",
        f"{stem}_reg" if registers else stem,
        f"https://dl.fbaipublicfiles.com/dinov2/{stem}/{stem}_{'reg4_' if registers else ''}pretrain.pth",
        None,
        Preprocessing(256, 224, "bicubic"),
        top1,
        None,
        "ImageNet-1K",
        num_params,
        head=False,
        license="Apache-2.0",
    )


class PatchEmbed(nnx.Module):
    """A linear map of each 14×14 patch."""

    def __init__(self, channels: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.proj = Conv2d(channels, width, PATCH, stride=PATCH, dtype=dtype, rngs=rngs)

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
    """A learned factor per channel (Touvron et al. 2021)."""

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


class DINOv2Module(nnx.Module):
    """Patches → tokens with positions → transformer blocks → layer norm → head.

    The class token comes first, then the registers, then the patches row by row. Position embeddings are those of a
    37×37 grid; for images of other sizes they are resized as the published checkpoints expect.
    """

    def __init__(
        self,
        config: DINOv2,
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
        width, depth, heads = _ARCHITECTURES[config.size]
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
        self.head = HeadModule(features, config.head, num_classes=num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "b outputs"]:
        return self.stages(x, rngs=rngs)["head"]

    def stages(self, x: Float[Array, "b h w c"], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """The output of every stage in order: "patch_embed", "tokens", "blocks.0" …, "norm", "pool" (what the head
        sees), "head" (the logits)."""
        maps = {}
        grid = self.token_grid(x.shape[1], x.shape[2])
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

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """The rows and columns of the patches of an image, which are the last tokens of every stage."""
        return height // PATCH, width // PATCH

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

        def for_batch(token: Float[Array | np.ndarray, "1 k d"]) -> Float[Array, "b k d"]:
            return jnp.broadcast_to(token, (patches.shape[0], *token.shape[1:])).astype(patches.dtype)

        registers = [for_batch(self.register_tokens[...])] if self.registers else []
        return jnp.concatenate([for_batch(cls), *registers, patches], axis=1)


def layer_norm(width: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm whose statistics are float32."""
    return nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, rngs=rngs)


def resize_grid(
    grid: Float[Array | np.ndarray, "h w d"], size: tuple[int, int], *, offset: float, antialias: bool
) -> Float[Array, "h2 w2 d"]:
    """A bicubic resize, as torch's `interpolate(mode="bicubic", align_corners=False)` in dinov2's
    `interpolate_pos_encoding`.

    `offset` is added to the output size where the scale is computed, not where the samples are counted.
    """
    if grid.shape[:2] == size:
        return jnp.asarray(grid)
    rows, columns = (
        bicubic_weights(before, after, scale=before / (after + offset), antialias=antialias)
        for before, after in zip(grid.shape[:2], size, strict=True)
    )
    return jnp.einsum("ih,jw,hwd->ijd", rows, columns, grid, precision=jax.lax.Precision.HIGHEST)


def bicubic_weights(before: int, after: int, *, scale: float, antialias: bool) -> Float[np.ndarray, "after before"]:
    """Each output sample as a weighted sum of the input's, at `scale` input samples per output sample.

    torch's kernel has the parameter −0.75, and repeats the edge; with antialiasing it has −0.5, is widened when
    shrinking, and is renormalized at the edge, as Pillow's.
    """
    center = scale * (np.arange(after) + 0.5)
    if not antialias:
        first = np.floor(center - 0.5).astype(int)
        weights = np.zeros((after, before))
        for tap in range(-1, 3):
            index = np.clip(first + tap, 0, before - 1)
            np.add.at(weights, (np.arange(after), index), _cubic(center - 0.5 - (first + tap), a=-0.75))
        return weights.astype(np.float32)
    widening = max(scale, 1.0)
    distance = (np.arange(before) + 0.5 - center[:, None]) / widening
    weights = _cubic(distance, a=-0.5)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
