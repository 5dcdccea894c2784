"""Parameters that we draw against those that torchvision draws (tests/golden/make_augment.py): every marginal by the
two-sample Kolmogorov-Smirnov test, with fixed seeds."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.augment import affine, auto_operations, auto_policies, blur, color, crops, erasing, flips, mixing
from imgcls_jax.augment.windows import Window

N = 2000
SHAPE, NARROW = (60, 80), (40, 200)


def keys(seed=0):
    return jax.random.split(jax.random.key(seed), N)


def distance(ours, theirs):
    """Greatest difference of the two empirical distribution functions."""
    points = np.concatenate([ours, theirs])
    below = [np.searchsorted(np.sort(draws), points, side="right") / len(draws) for draws in (ours, theirs)]
    return np.abs(below[0] - below[1]).max()


LIMIT = 1.95 * np.sqrt(2 / N)  # exceeded by one pair of equal distributions in a thousand


def whole(size):
    return Window(*(jnp.asarray(side) for side in (0, 0, *size)))


def resized_crop(size, **ranges):
    draw = partial(crops.draw_resized_crop, content=whole(size), aspect=jnp.asarray(size[1] / size[0]), **ranges)
    return jax.vmap(draw)(keys())


def jitter():
    kind, amount = jax.vmap(lambda k: color.draw_jitter(k, brightness=0.4, contrast=1.3, saturation=0.2, hue=0.1))(
        keys()
    )
    by_kind = jnp.take_along_axis(amount, jnp.argsort(kind, axis=1), axis=1)
    return (*kind.T, *by_kind.T)


def affine_parameters():
    ranges = dict(degrees=20, translate=(0.1, 0.2), scale=(0.7, 1.2), shear=15)
    return jax.vmap(lambda k: affine.draw_affine(k, SHAPE, **ranges))(keys())[:5]


OURS = {
    "resized_crop": lambda: resized_crop(SHAPE, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
    "resized_crop_narrow": lambda: resized_crop(NARROW, scale=(0.7, 1.0), ratio=(3 / 4, 4 / 3)),
    "erasing": lambda: jax.vmap(lambda k: erasing.draw_erasing(k, SHAPE, (0.02, 0.33), (0.3, 3.3)))(keys()),
    "affine": affine_parameters,
    "rotation": lambda: [jax.vmap(lambda k: affine.draw_affine(k, SHAPE, degrees=15).angle)(keys())],
    "crop": lambda: jax.vmap(lambda k: crops.draw_crop(k, (68, 88), (50, 50)))(keys()),
    "jitter": jitter,
    "sigma": lambda: [jax.vmap(lambda k: blur.draw_sigma(k, (0.3, 1.7)))(keys())],
    "mixup": lambda: [jax.vmap(lambda k: mixing.draw_mixup(k, 0.5).label)(keys())],
    "cutmix": lambda: [jax.vmap(lambda k: mixing.draw_cutmix(k, 1.0, SHAPE).label)(keys())],
}


@pytest.fixture(scope="module")
def theirs():
    return dict(np.load(Path(__file__).parents[1] / "golden" / "augment_draws.npz"))


@pytest.mark.parametrize("name", OURS)
def test_draws_are_distributed_as_torchvisions(name, theirs):
    ours = [np.asarray(column, np.float32) for column in OURS[name]()]
    assert len(ours) == theirs[name].shape[1]
    for column, (mine, other) in enumerate(zip(ours, theirs[name].T, strict=True)):
        assert distance(mine, other) < LIMIT, f"column {column}"


def test_the_test_tells_distributions_apart(theirs):
    """15 degrees from 13."""
    angle = jax.vmap(lambda k: affine.draw_affine(k, SHAPE, degrees=13).angle)(keys())
    assert distance(np.asarray(angle), theirs["rotation"][:, 0]) > LIMIT


def test_windows_lie_inside():
    for size in (SHAPE, NARROW):
        w = resized_crop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
        assert (w.height > 0).all() and (w.width > 0).all() and (w.top >= 0).all() and (w.left >= 0).all()
        assert (w.top + w.height <= size[0]).all() and (w.left + w.width <= size[1]).all()


def test_stretched_canvas_has_windows_of_the_originals_ratio():
    """A 2:1 original on a square canvas: a window of ratio r in the original is r / 2 of the canvas's pixels."""
    draw = partial(
        crops.draw_resized_crop, content=whole((200, 200)), aspect=jnp.asarray(2.0), scale=(0.1, 0.2), ratio=(1, 1)
    )
    w = jax.vmap(draw)(keys())
    np.testing.assert_allclose(w.width / w.height, 0.5, rtol=0.03)
    share = np.asarray(w.width * w.height) / 200**2
    assert 0.095 < share.min() < 0.11 and 0.19 < share.max() < 0.205


def frequencies(values, count):
    return np.bincount(np.asarray(values).ravel(), minlength=count) / np.asarray(values).size


def test_rand_augment_draws_each_operation_alike():
    steps = jax.vmap(lambda k: auto_policies.draw_rand_augment(k, 2, 9, SHAPE))(keys())
    np.testing.assert_allclose(frequencies(steps.kind, 15)[:14], 1 / 14, atol=0.02)
    assert frequencies(steps.kind, 15)[14] == 0  # no Invert
    shear = np.asarray(steps.magnitude)[np.asarray(steps.kind) == auto_operations.KINDS.index("ShearX")]
    np.testing.assert_allclose(np.abs(shear), 0.3 * 9 / 30, rtol=1e-5)
    assert 0.35 < (shear > 0).mean() < 0.65


def test_auto_augment_runs_each_operation_by_its_probability():
    steps = jax.vmap(lambda k: auto_policies.draw_auto_augment(k, "cifar10", SHAPE))(keys())
    kinds, probabilities, _ = auto_policies.auto_augment_table("cifar10")
    expected = [probabilities[kinds == kind].sum() / 50 for kind in range(1, 15)]
    np.testing.assert_allclose(frequencies(steps.kind, 15)[1:], expected, atol=0.02)


@pytest.mark.slow
def test_aug_mix_mixture():
    draw = partial(auto_policies.draw_aug_mix, severity=3, width=3, depth=-1, alpha=1.0, size=SHAPE)
    mixture = jax.vmap(draw)(keys())
    np.testing.assert_allclose(1 - mixture.shares.sum(1).mean(), 0.5, atol=0.03)  # the image's own share
    np.testing.assert_allclose(mixture.shares.mean(0), 1 / 6, atol=0.02)
    length = np.asarray((mixture.chains.kind != auto_operations.IDENTITY).sum(-1))
    np.testing.assert_allclose(frequencies(length, 4), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)


def test_alternating_flip_is_a_fair_coin_that_turns_every_epoch():
    index = jnp.arange(10_000)
    first = np.asarray(flips.alternating_flip(index, 0))
    assert 0.48 < first.mean() < 0.52
    neighbors = (first[1:] == first[:-1]).mean()
    assert 0.48 < neighbors < 0.52
    np.testing.assert_array_equal(flips.alternating_flip(index, 1), ~first)
    np.testing.assert_array_equal(flips.alternating_flip(index, 2), first)
    np.testing.assert_array_equal(flips.alternating_flip(index[::-1], 0)[::-1], first)


def test_cutout_center_is_uniform_and_the_square_may_leave_the_image():
    w = jax.vmap(lambda k: erasing.draw_cutout(k, (32, 32), 8))(keys())
    np.testing.assert_allclose(frequencies(w.top + 4, 32), 1 / 32, atol=0.015)
    assert int(w.top.min()) == -4 and int(w.top.max()) == 27
