"""DINOv2 against transformers' implementation (golden outputs) and torch's interpolation."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_reference import fill, images

from imgcls_jax.config import DINOv2, Head
from imgcls_jax.models.dinov2 import resize_grid

GOLDEN = Path(__file__).parents[1] / "golden" / "dinov2.npz"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "height", "width"), [("plain", 3, 3), ("registers", 2, 5)])
def test_every_block_matches_transformers(kind, height, width):
    golden = np.load(GOLDEN)
    config = DINOv2("small", Head(), registers=kind == "registers")
    size = (14 * height, 14 * width)
    model = config.build(num_classes=5, channels=3, image_size=size, dtype=jnp.float32, rngs=nnx.Rngs(0))
    model = nnx.view(fill(model, "dinov2"), deterministic=True)
    maps = model.stages(jnp.asarray(images((2, *size, 3))))
    for i, expected in enumerate(golden[f"{kind}_hidden"]):
        actual = np.asarray(maps["tokens" if i == 0 else f"blocks.{i - 1}"])[:, [0, 1, -1], ::8]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=f"after block {i}")
    np.testing.assert_allclose(maps["norm"][..., ::4], golden[f"{kind}_norm"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_head_sees_class_token_and_mean_of_patches():
    config = DINOv2("small", Head(), registers=True, features="cls_patch_mean")
    model = config.build(num_classes=5, channels=3, image_size=(28, 28), dtype=jnp.float32, rngs=nnx.Rngs(0))
    maps = nnx.view(model, deterministic=True).stages(jnp.asarray(images((2, 28, 28, 3))))
    norm = np.asarray(maps["norm"])
    assert norm.shape == (2, 1 + 4 + 4, 384)
    np.testing.assert_allclose(maps["pool"][:, :384], norm[:, 0])
    np.testing.assert_allclose(maps["pool"][:, 384:], norm[:, 5:].mean(1), atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (37, 20), (3, 50), (38, 37), (1, 1)])
def test_positions_are_resized_as_torch(size, antialias):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).standard_normal((37, 37, 4)).astype(np.float32)
    offset = 0.0 if antialias else 0.1
    kwargs = {"scale_factor": tuple((side + offset) / 37 for side in size)} if offset else {"size": size}
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(grid).permute(2, 0, 1)[None], mode="bicubic", antialias=antialias, **kwargs
    )[0].permute(1, 2, 0)
    actual = resize_grid(jnp.asarray(grid), size, offset=offset, antialias=antialias)
    np.testing.assert_allclose(actual, expected.numpy(), atol=2e-5)


def test_positions_of_the_pretrained_size_are_untouched():
    grid = jnp.asarray(np.random.default_rng(0).standard_normal((37, 37, 4)))
    np.testing.assert_array_equal(resize_grid(grid, (37, 37), offset=0.1, antialias=False), grid)
