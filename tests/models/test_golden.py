"""Our models in float32 against samples of torchvision's, where torch is not installed."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_reference import fill, images, our_run, sample

from imgcls_jax.models import architectures

GOLDEN = Path(__file__).parents[1] / "golden" / "models.npz"
SLOW = [
    pytest.param("squeezenet1_1", marks=pytest.mark.slow),
    pytest.param("resnext50_32x4d", marks=[pytest.mark.slow, pytest.mark.deep]),
]


@pytest.mark.parametrize("mode", [pytest.param("eval", marks=pytest.mark.slow), "train"])
@pytest.mark.parametrize("name", ["resnet18", *SLOW])
def test_matches_golden_samples(name, mode):
    """Stages to float32's rounding. Gradients and statistics in training: the bound leaves room for a ReLU that flips
    on a rounding error, since the live test in float64 leaves none."""
    golden = np.load(GOLDEN)
    config = architectures()[name]
    model = config.build(num_classes=7, channels=3, image_size=(48, 64), dtype=jnp.float32, rngs=nnx.Rngs(0))
    run = our_run(fill(model, config.kind()), images((4, 48, 64, 3)), config.kind(), train=mode == "train")
    tolerance = {"stages": 1e-4, "stats": 1e-4, "grads": 0.03}
    for kind in ("stages", "grads", "stats") if mode == "train" else ("stages",):
        if not run[kind]:  # SqueezeNet has no statistics
            continue
        prefix = f"{name}/{mode}/{kind}"
        expected = dict(zip(golden[f"{prefix}/names"], golden[prefix], strict=True))
        for tensor, value in run[kind].items():
            if tensor != "relu":  # torchvision uses one ReLU many times: its hook saw the last
                atol = tolerance[kind] * np.abs(value).max()
                np.testing.assert_allclose(sample(value), expected[tensor], atol=atol, err_msg=f"{kind} {tensor}")
