"""Phases, reproducibility, and what `build` promises."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imgcls_jax import augment
from imgcls_jax import config as c

SIZE = (24, 20)
SETTINGS = dict(image_size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), num_classes=4)
STRONG = (
    c.PadCrop(4),
    c.HorizontalFlip(),
    c.Rotation(15, from_epoch=3),
    c.ColorJitter(0.2, 0.2, 0.2, 0.1, from_epoch=3),
    c.RandomErasing(0.4, from_epoch=3, until_epoch=8),
    c.Mixup(0.5),
)
EVERY_OPERATION = (
    c.HorizontalFlip(),
    c.VerticalFlip(),
    c.AlternatingFlip(),
    c.PadCrop(3, "reflect"),
    c.RandomCrop(),
    c.RandomResizedCrop(),
    c.Affine(20, (0.1, 0.1), (0.8, 1.2), 10, fill=0.5),
    c.Rotation(15, interpolation="nearest"),
    c.ColorJitter(0.4, 0.4, 0.4, 0.2, p=0.8),
    c.Grayscale(0.5),
    c.GaussianBlur(5),
    c.RandomErasing(1.0, fill="noise"),
    c.Cutout(8),
    c.AutoAugment("imagenet"),
    c.RandAugment(),
    c.TrivialAugmentWide(),
    c.AugMix(),
    c.Mixup(1.0),
    c.CutMix(1.0),
    c.MixupOrCutMix(0.8, 1.0, p=0.9),
)


@functools.cache
def compiled(policy, epoch):
    return jax.jit(augment.build(policy, epoch=epoch, **SETTINGS))


def run(policy, photos, seed=0, epoch=0):
    batch = len(photos)
    label = jnp.arange(batch) % SETTINGS["num_classes"]
    args = jnp.asarray(photos), label, jnp.full(batch, 38 / 30), jnp.int32(epoch), jnp.arange(batch)
    return compiled(policy, epoch)(jax.random.key(seed), *args)


def test_phases():
    assert [(p.from_epoch, p.until_epoch, len(p.operations)) for p in augment.phases(STRONG, 10)] == [
        (0, 3, 3),
        (3, 8, 6),
        (8, 10, 5),
    ]
    assert [(p.from_epoch, p.until_epoch) for p in augment.phases(STRONG, 3)] == [(0, 3)]
    assert augment.phases((), 7) == (augment.Phase(0, 7, ()),)
    # No boundary where nothing changes.
    same = (c.HorizontalFlip(), c.HorizontalFlip(until_epoch=2), c.VerticalFlip(from_epoch=2))
    assert len(augment.phases(same[1:], 4)) == 2 and len(augment.phases(same[:1], 4)) == 1


@pytest.mark.parametrize("op", EVERY_OPERATION, ids=lambda op: op.kind())
def test_shapes_ranges_and_determinism(op, photos):
    image, label = run((op,), photos)
    assert image.shape == (2, *SIZE, 3) and image.dtype == jnp.float32 and label.shape == (2, 4)
    np.testing.assert_allclose(label.sum(axis=1), 1, atol=1e-6)
    unit = np.asarray(image) * SETTINGS["std"] + SETTINGS["mean"]
    if getattr(op, "fill", None) != "noise":
        assert unit.min() > -1e-5 and unit.max() < 1 + 1e-5
    for ours, again in zip((image, label), run((op,), photos), strict=True):
        np.testing.assert_array_equal(ours, again)
    # Over some keys it changes something.
    plain = run((), photos)[0]
    if not isinstance(op, c.AlternatingFlip):
        assert any(not np.array_equal(plain, run((op,), photos, seed)[0]) for seed in range(6))


def test_no_operation_is_evaluation(photos):
    image, _ = run((), photos)
    expected = augment.prepare_for_evaluation(
        jnp.asarray(photos), **{k: SETTINGS[k] for k in ("image_size", "mean", "std")}
    )
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_images_of_one_batch_get_their_own_draws(photos):
    same = np.stack([photos[0]] * 8)
    image, _ = run((c.RandomCrop(),), same)
    assert len(np.unique(np.asarray(image).reshape(8, -1), axis=0)) > 5


def test_probability(photos):
    many = np.stack([photos[0]] * 400)
    difference = np.abs(np.asarray(run((c.HorizontalFlip(0.3),), many)[0] - run((), many)[0]))
    flipped = difference.max(axis=(1, 2, 3)) > 1e-3
    assert 0.23 < flipped.mean() < 0.37


def test_draws_do_not_depend_on_which_other_operations_run(photos):
    """The crop of epoch 5 is what it would have been without the later phase's operations."""
    both = run((c.RandomCrop(), c.ColorJitter(brightness=0.5, from_epoch=5)), photos, epoch=0)[0]
    alone = run((c.RandomCrop(),), photos)[0]
    np.testing.assert_array_equal(both, alone)


def test_epochs_of_a_phase_share_one_program(photos):
    function = jax.jit(augment.build((c.AlternatingFlip(),), epoch=0, **SETTINGS))
    label = jnp.zeros(2, jnp.int32)
    args = jax.random.key(0), jnp.asarray(photos), label, jnp.ones(2)
    first, second, third = (function(*args, jnp.int32(epoch), jnp.arange(2))[0] for epoch in range(3))
    np.testing.assert_array_equal(first, third)
    # The canvas is cut symmetrically, so a flipped image is the flipped cut.
    np.testing.assert_array_equal(first, second[:, :, ::-1])
    assert function._cache_size() == 1


def test_shrunk_images_are_the_finished_ones_resized(photos):
    """Against Pillow: the canvas's center of `image_size`, flipped, then resized with its antialiased filter."""
    policy = (c.VerticalFlip(p=1), c.Shrink((15, 11), until_epoch=2), c.Mixup(0.5, from_epoch=1))
    image, _ = run(policy, photos)
    assert image.shape == (2, 15, 11, 3)
    unit = np.asarray(image) * SETTINGS["std"] + SETTINGS["mean"]
    top, left = ((side - size) // 2 for side, size in zip(photos.shape[1:3], SIZE, strict=True))
    for ours, photo in zip(unit, photos, strict=True):
        cut = Image.fromarray(photo[::-1][top : top + SIZE[0], left : left + SIZE[1]])
        theirs = np.asarray(cut.resize((11, 15), Image.Resampling.BILINEAR), np.float32) / 255
        np.testing.assert_allclose(ours, theirs, atol=1.5 / 255)  # Pillow rounds after each axis
    assert run(policy, photos, epoch=1)[0].shape == (2, 15, 11, 3), "a mix runs on the shrunk images"
    assert run(policy, photos, epoch=2)[0].shape == (2, *SIZE, 3)


def test_padded_canvas_is_cropped_within_its_content(photos):
    """A 3:1 original in the middle of a square canvas whose bars are gray: random crops never show the bars."""
    canvas = np.full((16, 30, 30, 3), 128, np.uint8)
    canvas[:, 10:20] = 255
    settings = dict(SETTINGS, mean=(0.0,) * 3, std=(1.0,) * 3, fit="pad")
    function = jax.jit(augment.build((c.RandomResizedCrop(),), epoch=0, **settings))
    n = jnp.arange(16)
    image, _ = function(jax.random.key(0), jnp.asarray(canvas), n % 4, jnp.full(16, 3.0), jnp.int32(0), n)
    np.testing.assert_allclose(image, 1, atol=1e-5)


PROGRAM = """
import sys, jax, jax.numpy as jnp, numpy as np
sys.path.insert(0, sys.argv[1])
from test_policy import EVERY_OPERATION, SETTINGS, STRONG
from imgcls_jax import augment, config as c
devices = jax.devices()
assert len(devices) == int(sys.argv[2])
sharding = jax.NamedSharding(jax.sharding.Mesh(np.array(devices), ("data",)), jax.P("data"))
photos = np.random.default_rng(0).integers(0, 256, (8, 30, 38, 3), np.uint8)
policies = [STRONG, (c.RandomResizedCrop(), c.RandAugment(1), c.CutMix(1.0)), (c.AugMix(width=1, depth=1),)]
found = []
for policy in policies:
    arrays = photos, np.arange(8) % 4, np.full(8, 1.2, np.float32), np.arange(8)
    image, label, aspect, index = (jax.device_put(a, sharding) for a in arrays)
    function = jax.jit(augment.build(policy, epoch=4, **SETTINGS))
    found += [np.asarray(a) for a in function(jax.random.key(3), image, label, aspect, jnp.int32(4), index)]
np.savez(sys.argv[3], *found)
"""


@pytest.mark.slow
def test_same_pixels_on_one_and_on_eight_devices(tmp_path):
    results = []
    for count in (1, 8):
        path = tmp_path / f"{count}.npz"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_backend_optimization_level=1 --xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
        }
        arguments = [os.path.dirname(__file__), str(count), str(path)]
        subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, env=environment)
        results.append(np.load(path))
    for name in results[0].files:
        np.testing.assert_allclose(results[0][name], results[1][name], atol=2e-5, err_msg=name)
