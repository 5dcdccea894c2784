import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax.optim import averaging

RAW = {"w": jnp.array([3.0, -1.0])}, {"mean": jnp.array([2.0])}


def sequence(steps: int) -> list[tuple[dict, dict]]:
    random = np.random.RandomState(0)
    return [({"w": jnp.float32(random.randn(2))}, {"mean": jnp.float32(random.randn(1))})
            for _ in range(steps)]  # fmt: skip


def test_reads_the_raw_state_until_something_is_averaged():
    average = averaging.init({"w": jnp.zeros(2)}, {"mean": jnp.zeros(1)})
    params, stats = averaging.read(average, *RAW)
    np.testing.assert_array_equal(params["w"], RAW[0]["w"])
    np.testing.assert_array_equal(stats["mean"], RAW[1]["mean"])


def test_ema_warms_up_to_its_decay():
    average = averaging.init(*RAW)
    w, mean = np.array([3.0, -1.0]), np.array([2.0])
    update = jax.jit(averaging.update_ema, static_argnames="decay")
    for t, (params, stats) in enumerate(sequence(60)):
        average = update(average, params, stats, decay=0.8)
        keep = min(0.8, (1 + t) / (10 + t))
        w, mean = keep * w + (1 - keep) * params["w"], keep * mean + (1 - keep) * stats["mean"]
    # 35 steps of warm-up, then the decay itself.
    assert keep == 0.8 and (1 + 34) / (10 + 34) < 0.8 < (1 + 36) / (10 + 36)
    params, stats = averaging.read(average, *RAW)
    np.testing.assert_allclose(params["w"], w, atol=1e-6)
    np.testing.assert_allclose(stats["mean"], mean, atol=1e-6)


def test_swa_is_the_mean():
    average = averaging.init(*RAW)
    steps = sequence(7)
    for params, stats in steps:
        average = averaging.update_swa(average, params, stats)
    params, stats = averaging.read(average, *RAW)
    np.testing.assert_allclose(params["w"], np.mean([p["w"] for p, _ in steps], axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["mean"], np.mean([s["mean"] for _, s in steps], axis=0), atol=1e-6)


def test_average_and_originals_can_both_be_donated():
    params, stats = {"w": jnp.ones(2)}, {"mean": jnp.ones(1)}
    average = averaging.init(params, stats)
    step = jax.jit(lambda a, p, s: (averaging.update_swa(a, p, s), p, s), donate_argnums=(0, 1, 2))
    assert int(step(average, params, stats)[0].count) == 1
