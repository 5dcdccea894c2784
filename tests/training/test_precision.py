import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.training import precision

FOLDER = Path(__file__).parents[1] / "golden"


def test_scale_moves_as_torchs_gradscaler():
    """7,000 steps: overflows at the start, in a row, just after a growth, and growths after 2,000 good steps."""
    overflows = np.isin(np.arange(7000), runpy.run_path(str(FOLDER / "make_optim.py"))["OVERFLOWS"])

    def step(state, finite):
        state = precision.adjust(state, finite)
        return state, state.scale

    last, scales = jax.jit(lambda good: jax.lax.scan(step, precision.init("fp16"), good))(~overflows)
    with np.load(FOLDER / "optim.npz") as golden:
        np.testing.assert_array_equal(scales, golden["scaler"])
    assert len(set(scales.tolist())) >= 4
    assert int(last.skipped) == overflows.sum()


def test_scale_stays_at_one_and_below_float32s_end():
    state = precision.init("fp16")
    for _ in range(40):
        state = precision.adjust(state, jnp.array(False))
    assert state.scale == 1 and state.skipped == 40 and state.good_steps == 0
    huge = state._replace(scale=jnp.float32(2.0**127), good_steps=jnp.int32(precision.GROWTH_INTERVAL - 1))
    after = precision.adjust(huge, jnp.array(True))
    assert after.scale == 2.0**127 and after.good_steps == 0


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_only_fp16_scales(name):
    assert precision.init(name) is None
    assert precision.scale(jnp.float32(3), None) == 3
    grads = {"w": jnp.ones(2)}
    assert precision.unscale(grads, None) is grads


def test_scaling_saves_gradients_that_underflow():
    """A gradient of 1e-8 is zero in float16; scaled, it survives to within float16's precision."""
    state = precision.init("fp16")

    def grad(scaled):
        def loss(w):
            half = w.astype(jnp.float16) * jnp.float16(1e-4)
            return precision.scale(half.astype(jnp.float32) * 1e-4, state if scaled else None)

        return jax.grad(loss)(jnp.float32(1.0))

    assert grad(scaled=False) == 0
    unscaled = precision.unscale({"w": grad(scaled=True)}, state)["w"]
    assert unscaled.dtype == jnp.float32
    np.testing.assert_allclose(unscaled, 1e-8, rtol=2e-3)


def test_one_bad_element_skips_the_step():
    good = {"a": jnp.ones(3), "b": {"c": jnp.zeros((2, 2))}}
    assert precision.finite(good)
    for bad in (jnp.inf, -jnp.inf, jnp.nan):
        grads = good | {"b": {"c": good["b"]["c"].at[1, 0].set(bad)}}
        finite = jax.jit(precision.finite)(grads)
        assert not finite
        kept = precision.select(finite, grads, good)
        np.testing.assert_array_equal(kept["b"]["c"], good["b"]["c"])
    np.testing.assert_array_equal(precision.select(jnp.array(True), {"a": jnp.ones(1)}, {"a": jnp.zeros(1)})["a"], 1)
