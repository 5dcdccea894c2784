"""Initialisers against torch's: the same distribution, by the Kolmogorov–Smirnov test."""

import jax
import numpy as np
import pytest
from model_reference import import_torchvision
from scipy import stats

from imgcls_jax.models.initializers import bias_init, dirac, kernel_init

SHAPE = (3, 3, 24, 40)  # HWIO


def draw(name):
    return np.asarray(kernel_init(name)(jax.random.key(0), SHAPE)).ravel()


def torch_draw(initialize):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(SHAPE[2], SHAPE[3], SHAPE[0])
    initialize(torch.nn.init, layer.weight)
    return layer.weight.detach().numpy().ravel()


@pytest.mark.parametrize(
    ("name", "initialize"),
    [
        ("torch", lambda init, w: None),
        ("kaiming_normal", lambda init, w: init.kaiming_normal_(w, nonlinearity="relu")),
        ("kaiming_uniform", lambda init, w: init.kaiming_uniform_(w, nonlinearity="relu")),
        ("xavier_normal", lambda init, w: init.xavier_normal_(w)),
        ("xavier_uniform", lambda init, w: init.xavier_uniform_(w)),
    ],
)
def test_kernel_distribution_is_torchs(name, initialize):
    assert stats.ks_2samp(draw(name), torch_draw(initialize)).pvalue > 0.01


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("torch", 1 / 3 / (9 * 24)),
        ("kaiming_normal", 2 / (9 * 24)),
        ("kaiming_uniform", 2 / (9 * 24)),
        ("xavier_normal", 2 / (9 * 24 + 9 * 40)),
        ("xavier_uniform", 2 / (9 * 24 + 9 * 40)),
        ("lecun_normal", 1 / (9 * 24)),
    ],
)
def test_kernel_variance(name, variance):
    sample = draw(name)
    assert abs(sample.mean()) < 0.05 * np.sqrt(variance)
    np.testing.assert_allclose(sample.var(), variance, rtol=0.05)
    if "normal" not in name:
        assert np.abs(sample).max() <= np.sqrt(3 * variance)


@pytest.mark.parametrize("outputs", [10, 40])
def test_dirac_copies_the_inputs_into_the_first_outputs(outputs):
    torch = pytest.importorskip("torch")
    ours = np.asarray(dirac(jax.random.key(0), (3, 3, 24, outputs)))
    copies = min(outputs, 24)
    expected = torch.nn.init.dirac_(torch.empty(copies, 24, 3, 3)).numpy()
    np.testing.assert_array_equal(ours[..., :copies], expected.transpose(2, 3, 1, 0))
    if rest := outputs - copies:
        assert stats.ks_2samp(ours[..., -rest:].ravel(), torch_draw(lambda init, w: None)).pvalue > 0.01


def test_bias():
    bias = np.asarray(bias_init("torch", 25)(jax.random.key(0), (5000,)))
    assert 0.19 < np.abs(bias).max() <= 0.2
    np.testing.assert_allclose(bias.std(), 0.2 / np.sqrt(3), rtol=0.05)
    assert not np.asarray(bias_init("kaiming_normal", 25)(jax.random.key(0), (10,))).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "squeezenet1_1"])
def test_every_layer_starts_with_torchvisions_spread(name):
    import jax.numpy as jnp
    from flax import nnx
    from model_reference import flat

    from imgcls_jax.models import architectures

    torchvision = import_torchvision()
    model = architectures()[name].build(
        num_classes=50, channels=3, image_size=(64, 64), dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    ours = flat(nnx.to_pure_dict(nnx.state(model)), architectures()[name].kind())
    theirs = getattr(torchvision.models, name)(num_classes=50).state_dict()
    for key, value in ours.items():
        other = theirs[key].numpy()
        assert value.shape == other.shape
        if value.size >= 500:
            np.testing.assert_allclose(value.std(), other.std(), rtol=0.2, err_msg=key)
        np.testing.assert_allclose(np.abs(value).max(), np.abs(other).max(), rtol=0.6, atol=1e-6, err_msg=key)
