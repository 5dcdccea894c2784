"""Losses of several labels per image, and of numbers, against torch."""

import numpy as np
import pytest
from jax import grad
from jax import numpy as jnp

from imgcls_jax import config as c
from imgcls_jax.optim import losses

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(0)
LOGITS = (4 * RNG.normal(size=(6, 3))).astype(np.float32)
LABELS = RNG.integers(0, 2, (6, 3)).astype(np.float32)
MIXED = RNG.random((6, 3)).astype(np.float32)
NUMBERS = (4 * RNG.normal(size=(6, 3))).astype(np.float32)


@pytest.mark.parametrize("labels", [LABELS, MIXED], ids=["hard", "mixed"])
@pytest.mark.parametrize(("smoothing", "weight"), [(0.0, 1.0), (0.1, 1.0), (0.0, 3.0)])
def test_multi_label_is_torchs_binary_cross_entropy(labels, smoothing, weight):
    function = losses.build(c.MultiLabel(label_smoothing=smoothing, positive_weight=weight), num_classes=3)
    logits = torch.tensor(LOGITS, requires_grad=True)
    smooth = torch.tensor(labels) * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=torch.full((3,), weight))
    expected.backward()
    ours = function(jnp.asarray(LOGITS), jnp.asarray(labels))
    np.testing.assert_allclose(float(ours.mean()), expected.item(), rtol=1e-6)
    slope = grad(lambda x: function(x, jnp.asarray(labels)).mean())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(np.asarray(slope), logits.grad.numpy(), atol=1e-7)


def test_multi_label_is_finite_at_any_logit():
    function = losses.build(c.MultiLabel(), num_classes=2)
    ours = function(jnp.array([[1000.0, -1000.0]]), jnp.array([[0.0, 1.0]]))
    assert float(ours[0]) == 1000


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        (c.MSE(), torch.nn.MSELoss()),
        (c.Huber(), torch.nn.HuberLoss()),
        (c.Huber(delta=2.5), torch.nn.HuberLoss(delta=2.5)),
    ],
    ids=["mse", "huber", "huber with delta"],
)
@pytest.mark.parametrize("columns", [1, 3])
def test_losses_of_numbers_are_torchs(loss, theirs, columns):
    function = losses.build(loss, num_classes=columns)
    values, truth = LOGITS[:, :columns], NUMBERS[:, :columns]
    at = torch.tensor(values, requires_grad=True)
    expected = theirs(at, torch.tensor(truth))
    expected.backward()
    np.testing.assert_allclose(
        float(function(jnp.asarray(values), jnp.asarray(truth)).mean()), expected.item(), rtol=1e-6
    )
    slope = grad(lambda x: function(x, jnp.asarray(truth)).mean())(jnp.asarray(values))
    np.testing.assert_allclose(np.asarray(slope), at.grad.numpy(), atol=1e-6)
