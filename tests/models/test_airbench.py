"""The network of the CIFAR-10 speed runs, against the reference's definition written out in torch and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_reference import fill

from imgcls_jax.config import Airbench
from imgcls_jax.errors import UserError
from imgcls_jax.models.airbench import ScaledHead, whitening_kernel


def make(widths, image_size):
    return Airbench(widths).build(
        num_classes=10, channels=3, image_size=image_size, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )


def smooth_images(count, side):
    """Noise with correlated neighbours and channels, as photographs have."""
    noise = np.random.default_rng(0).standard_normal((count, side + 2, side + 2, 3))
    noise = noise[:, 2:, 2:] + 2 * noise[:, 1:-1, 1:-1] + noise[:, :-2, :-2]
    return (noise @ np.array([[1, 0.8, 0.6], [0, 0.5, 0.3], [0, 0, 0.2]])).astype(np.float32)


def patches(images):
    """[count, 12] by the definition, one patch after the other."""
    count, height, width, _ = images.shape
    return np.array(
        [
            images[n, i : i + 2, j : j + 2].ravel()
            for n in range(count)
            for i in range(height - 1)
            for j in range(width - 1)
        ]
    )


def test_whitened_patches_have_identity_covariance():
    images = smooth_images(6, 10)
    kernel = whitening_kernel(images, eps=0.0)
    assert kernel.shape == (2, 2, 3, 24)
    whitened = patches(images) @ kernel.reshape(12, 24)
    second_moments = whitened.T @ whitened / len(whitened)
    identity = np.eye(12)
    np.testing.assert_allclose(second_moments, np.block([[identity, -identity], [-identity, identity]]), atol=1e-3)


def test_eps_bounds_the_amplification_of_faint_directions():
    images, eps = smooth_images(6, 10), 0.1
    flat = patches(images)
    variances = np.linalg.eigvalsh(flat.T @ flat / len(flat))
    whitened = flat @ whitening_kernel(images, eps).reshape(12, 24)[:, :12]
    np.testing.assert_allclose((whitened**2).mean(0), variances / (variances + eps), rtol=1e-3)


def test_forward_and_statistics_match_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model = fill(nnx.eval_shape(lambda: make((4, 6, 8), image_size=(9, 14))), "airbench")
    stats = {}

    def tensor(parameter):
        axes = (3, 2, 0, 1) if parameter[...].ndim == 4 else tuple(reversed(range(parameter[...].ndim)))
        return torch.from_numpy(np.array(parameter[...])).permute(axes)

    def norm(name, layer, x):
        mean, var = stats[name] = [torch.from_numpy(np.array(value[...])) for value in (layer.mean, layer.var)]
        return F.gelu(F.batch_norm(x, mean, var, bias=tensor(layer.bias), training=True, momentum=0.4, eps=1e-12))

    images = np.random.default_rng(0).standard_normal((5, 9, 14, 3)).astype(np.float32)
    kernel = Airbench().computed_values(lambda pixels: images)["whiten.kernel"]
    model.whiten.kernel[...] = jnp.asarray(kernel)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2))
    x = F.gelu(F.conv2d(x, tensor(model.whiten.kernel), tensor(model.whiten.bias)))
    for name in ("layer1", "layer2", "layer3"):
        layer = getattr(model, name)
        x = norm(f"{name}.bn1", layer.bn1, F.max_pool2d(F.conv2d(x, tensor(layer.conv1.kernel), padding="same"), 2))
        x = norm(f"{name}.bn2", layer.bn2, F.conv2d(x, tensor(layer.conv2.kernel), padding="same"))
    logits = x.amax((2, 3)) @ tensor(model.head.out.kernel).T / 8

    np.testing.assert_allclose(nnx.jit(lambda m, x: m(x))(model, images), logits.numpy(), atol=2e-5)
    for name, (mean, var) in stats.items():
        bn = getattr(getattr(model, name.split(".")[0]), name.split(".")[1])
        np.testing.assert_allclose(bn.mean[...], mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(bn.var[...], var.numpy(), atol=1e-5)


def test_parameters_are_the_references():
    """Shapes of airbench94_muon.py in torch's order, without the BatchNorms' frozen scales."""
    params = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: make((64, 256, 256), (32, 32))), nnx.Param))
    shapes = {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
              for path, leaf in jax.tree.leaves_with_path(params)}  # fmt: skip
    expected = {"whiten.kernel": (2, 2, 3, 24), "whiten.bias": (24,), "head.out.kernel": (256, 10)}
    for name, before, after in (("layer1", 24, 64), ("layer2", 64, 256), ("layer3", 256, 256)):
        expected |= {f"{name}.conv1.kernel": (3, 3, before, after), f"{name}.conv2.kernel": (3, 3, after, after)}
        expected |= {f"{name}.bn1.bias": (after,), f"{name}.bn2.bias": (after,)}
    assert shapes == expected


def test_logits_start_with_a_kernel_of_variance_one():
    head = ScaledHead(256, 10, dtype=jnp.float32, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(head.out.kernel[...].std(), 1, rtol=0.02)


def test_too_small_an_image_is_refused():
    with pytest.raises(UserError, match=r"need images of 9×9 pixels or more, but the image is 8×32: use larger ones"):
        make((4, 4, 4), image_size=(8, 32))
