import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.optim import losses

FOLDER = Path(__file__).parents[1] / "golden"
INPUTS = runpy.run_path(str(FOLDER / "make_optim.py"))["loss_inputs"]()
HARD = np.eye(5, dtype=np.float32)[INPUTS["hard"]]
# Counts whose balanced weights are the golden script's, up to a common factor.
COUNTS = np.round(8 / INPUTS["weights"]).astype(int)
FACTOR = losses.balanced_weights(COUNTS)[0] / INPUTS["weights"][0]

# By name: settings, labels, factor of the class weights.
CASES = {
    "hard": (c.CrossEntropy(), HARD, 1),
    "hard_smooth": (c.CrossEntropy(0.1), HARD, 1),
    "hard_weights": (c.CrossEntropy(class_weights="balanced"), HARD, FACTOR),
    "hard_smooth_weights": (c.CrossEntropy(0.1, "balanced"), HARD, FACTOR),
    "soft": (c.CrossEntropy(), INPUTS["soft"], 1),
    "soft_smooth_weights": (c.CrossEntropy(0.1, "balanced"), INPUTS["soft"], FACTOR),
    "focal": (c.Focal(2.0), HARD, 1),
    "focal_soft": (c.Focal(0.5, 0.1, "balanced"), INPUTS["soft"], FACTOR),
    "bce": (c.BinaryCrossEntropy(), INPUTS["soft"], 1),
    "bce_smooth": (c.BinaryCrossEntropy(0.1), HARD, 1),
    "sigmoid": (c.BinaryCrossEntropy(), INPUTS["binary"], 1),
    "sigmoid_smooth": (c.BinaryCrossEntropy(0.1), INPUTS["binary"], 1),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "optim.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_torch(name, golden):
    settings, labels, factor = CASES[name]
    loss = losses.build(settings, num_classes=5, class_counts=COUNTS.tolist())
    one = name.startswith("sigmoid")
    logits = jnp.asarray(INPUTS["logits"][:, :1] if one else INPUTS["logits"])
    value = jax.jit(loss)(logits, labels)
    assert value.shape == (8,) and value.dtype == jnp.float32
    np.testing.assert_allclose(value / factor, golden[f"loss/{name}"], rtol=2e-6, atol=2e-6)
    grad = jax.grad(lambda x: loss(x, labels).mean())(logits) / factor
    theirs = golden[f"loss_grad/{name}"]
    # torch's own focal gradient is NaN where 1 − p rounds to zero under a power below one; there ours must be finite.
    assert np.isfinite(grad).all()
    known = np.isfinite(theirs[:, :1] if one else theirs)
    assert known.mean() > 0.5
    np.testing.assert_allclose(grad[known], (theirs[:, :1] if one else theirs)[known], rtol=1e-5, atol=1e-6)


def test_balanced_weights_are_sklearns_and_average_one():
    counts = np.array([7, 1, 92])
    labels = np.repeat(np.arange(3), counts)
    theirs = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight(
        "balanced", classes=np.arange(3), y=labels
    )
    ours = losses.balanced_weights(counts)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert ours[labels].mean() == pytest.approx(1)


def test_balanced_weights_need_every_class():
    with pytest.raises(UserError, match=r"without training images \(class 1, 3\)"):
        losses.build(c.Focal(class_weights="balanced"), num_classes=4, class_counts=[5, 0, 5, 0])


def test_focal_without_gamma_is_cross_entropy():
    focal, plain = (losses.build(s, num_classes=5) for s in (c.Focal(0.0, 0.1), c.CrossEntropy(0.1)))
    np.testing.assert_array_equal(focal(INPUTS["logits"], HARD), plain(INPUTS["logits"], HARD))


@pytest.mark.parametrize("settings", [c.CrossEntropy(), c.Focal(0.5), c.BinaryCrossEntropy()])
def test_extreme_logits_stay_finite(settings):
    loss = losses.build(settings, num_classes=3)
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    labels = jnp.array([[1.0, 0, 0], [1.0, 0, 0]])
    value, grad = jax.value_and_grad(lambda x: loss(x, labels).mean())(logits)
    assert value > 1000 and jnp.isfinite(value) and jnp.isfinite(grad).all()


def test_half_precision_logits_are_summed_in_float32():
    loss = losses.build(c.CrossEntropy(), num_classes=5)
    value = loss(jnp.asarray(INPUTS["logits"], jnp.bfloat16), HARD)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss(jnp.bfloat16(INPUTS["logits"]).astype(jnp.float32), HARD))


def test_correct_counts_as_argsort_does():
    random = np.random.RandomState(0)
    # Few levels, so that ties abound.
    logits = random.randint(0, 4, (500, 7)).astype(np.float32)
    label = random.randint(0, 7, 500)
    order = np.argsort(-logits, axis=-1, kind="stable")
    for k in (1, 2, 5, 7, 50):
        expected = (order[:, :k] == label[:, None]).any(-1)
        np.testing.assert_array_equal(losses.correct(logits, label, k), expected)
    assert losses.correct(logits, label, 7).all()


def test_a_collapsed_model_is_right_once_a_class():
    label = jnp.arange(10)
    assert losses.correct(jnp.zeros((10, 10)), label).sum() == 1
    assert losses.correct(jnp.zeros((10, 10)), label, 5).sum() == 5


@pytest.mark.parametrize("k", [1, 5])
def test_nan_is_wrong(k):
    logits = jnp.array([[1.0, jnp.nan, 0.0], [jnp.nan, 1.0, 0.0], [jnp.inf, 1.0, 0.0]])
    assert losses.correct(logits, jnp.array([0, 0, 0]), k).tolist() == [False, False, True]


def test_one_sigmoid_logit_predicts_class_one_above_zero():
    logits = jnp.array([[2.0], [-2.0], [2.0], [0.0], [jnp.nan]])
    label = jnp.array([1, 1, 0, 0, 0])
    assert losses.correct(logits, label).tolist() == [True, False, False, True, False]
    assert losses.correct(logits, label, 5).tolist() == [True, True, True, True, False]
