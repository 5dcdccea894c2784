"""Every operation against torchvision's uint8 result under the same parameters, on photos.

The tolerances are levels of 255 (greatest, mean). torchvision works on uint8 and truncates after most operations, we
stay in float32, so one level is the least that can be asked of those; the float maps must agree to half a level.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_cases import CASES

from imgcls_jax.augment import affine as affine_maps
from imgcls_jax.augment import auto_operations, auto_policies, blur, color, crops, erasing
from imgcls_jax.augment.lazy_image import LazyImage
from imgcls_jax.augment.windows import Window

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "augment.npz"))


def stack(params, name):
    return jnp.asarray([p[name] for p in params])


def windows(params):
    return Window(*(stack(params, side) for side in Window._fields))


def rotate(image, params):
    nearest = params[0].get("nearest", False)
    matrix = affine_maps.rotation_matrix(stack(params, "angle"))
    return affine_maps.warp(image, matrix, interpolation="nearest" if nearest else "bilinear")


def affine_matrix(params):
    shift, shear = stack(params, "translate"), stack(params, "shear")
    angle, scale = stack(params, "angle"), stack(params, "scale")
    return affine_maps.affine_matrix(
        affine_maps.AffineParameters(angle, shift[:, 0], shift[:, 1], scale, shear[:, 0], shear[:, 1])
    )


def affine(image, params):
    return affine_maps.warp(image, affine_matrix(params))


def resized_crop(image, params):
    return crops.resized_crop(LazyImage.of(image), windows(params), params[0]["size"]).pixels()


def pad_crop(image, params):
    mode = {"constant": "zero"}.get(params[0]["mode"], params[0]["mode"])
    at = stack(params, "top"), stack(params, "left")
    return crops.crop(LazyImage.of(image), *at, image.shape[1:3], padding=params[0]["padding"], mode=mode).pixels()


def brightness(image, params):
    return color.brightness(image, stack(params, "factor"))


def contrast(image, params):
    return color.contrast(image, stack(params, "factor"))


def saturation(image, params):
    return color.saturation(image, stack(params, "factor"))


def hue(image, params):
    return color.hue(image, stack(params, "factor"))


def jitter(image, params):
    order = stack(params, "order")
    return color.jitter(image, color.Jitter(order, jnp.take_along_axis(stack(params, "amounts"), order, axis=1)))


jitter_float = jitter


def grayscale(image, params):
    return color.grayscale(image)


def gaussian_blur(image, params):
    return blur.gaussian_blur(image, stack(params, "sigma"), params[0]["kernel"])


def erase_(image, params):
    return erasing.erase(image, windows(params), jnp.asarray([255.0, 0.0, 128.0]) / 255)


def auto_(image, params):
    kind = jnp.asarray([[auto_operations.KINDS.index(p["name"])] for p in params])
    return auto_operations.apply(image, auto_operations.Steps(kind, stack(params, "magnitude")[:, None]))


OURS = {**globals(), "erase": erase_, "auto": auto_}

# Operations that are exact, or exact but for the uint8 reference's rounding to nearest.
HALF = dict.fromkeys(
    [
        "pad_crop_zero",
        "pad_crop_reflect",
        "erase",
        "rotation_nearest",
        "auto_ShearX",
        "auto_ShearY",
        "auto_TranslateX",
        "auto_TranslateY",
        "auto_Rotate",
        "auto_Posterize",
        "auto_Solarize",
        "auto_Equalize",
        "auto_Invert",
        "gaussian_blur",
    ],
    (0.51, 0.3),
)
# torchvision truncates once.
ONE = dict.fromkeys(
    ["brightness", "grayscale", "hue", "auto_Brightness", "auto_AutoContrast", "auto_Sharpness"], (1.5, 0.6)
)
TOLERANCE = HALF | ONE | {
    "rotation": (0.51, 0.3),  # away from the border, see below
    "affine": (0.51, 0.3),
    "resized_crop_shrunk": (1.01, 0.35),  # torchvision rounds between its two passes
    "resized_crop_enlarged": (1.01, 0.35),
    **dict.fromkeys(("saturation", "contrast", "auto_Color", "auto_Contrast"), (2.0, 1.0)),  # floors grayscale as well
    "jitter": (5.0, 1.5),  # four truncations, each of which the next operation may magnify
    "jitter_float": (0.51, 0.3),
}  # fmt: skip


def inside_both(params, shape):
    """Pixels whose bilinear neighbors all lie inside: torchvision weighs the border's blend with the fill twice."""
    matrix = affine_matrix(params) if "shear" in params[0] else affine_maps.rotation_matrix(stack(params, "angle"))
    return np.asarray(affine_maps.warp(jnp.ones(shape), matrix)) > 1 - 1e-4


@pytest.mark.parametrize("case", CASES)
def test_equals_torchvision(case, golden):
    function, params = CASES[case]
    image = jnp.asarray(golden["photos"], jnp.float32) / 255
    ours = np.asarray(jax.jit(lambda x: OURS[function](x, params))(image)) * 255
    difference = np.abs(ours - golden[f"case/{case}"])
    if case in ("rotation", "affine"):
        inside = inside_both(params, image.shape)
        assert inside.mean() > 0.5
        difference = difference[inside]
    greatest, mean = TOLERANCE[case]
    print(f"{case}: max {difference.max():.2f}, mean {difference.mean():.3f} levels")
    assert difference.max() <= greatest and difference.mean() <= mean
    # The reference is not the unchanged photo, so agreement means something.
    if ours.shape == golden["photos"].shape:
        assert np.abs(ours - golden["photos"]).mean() > 1


def test_whole_batches_at_a_time_equal_torchvision(golden):
    """As on a GPU, where images do not go one by one through the family of their operation."""
    step = jax.jit(functools.partial(auto_operations._step, interpolation="nearest"))
    image = jnp.asarray(golden["photos"], jnp.float32) / 255
    cases = [case for case, (function, _) in CASES.items() if function == "auto"]
    assert len(cases) >= len(auto_operations.KINDS) - 1
    for case in cases:
        params = CASES[case][1]
        kind = jnp.asarray([auto_operations.KINDS.index(p["name"]) for p in params])
        difference = np.abs(np.asarray(step(image, kind, stack(params, "magnitude"))) * 255 - golden[f"case/{case}"])
        greatest, mean = TOLERANCE[case]
        assert difference.max() <= greatest and difference.mean() <= mean, case


def test_goldens_are_torchvisions(golden, torchvision_reference):
    for case in CASES:
        np.testing.assert_array_equal(
            torchvision_reference.torchvision_case(case, golden["photos"]), golden[f"case/{case}"]
        )


@pytest.mark.parametrize("name", ["imagenet", "cifar10"])
def test_learned_pairs(name, golden):
    kinds, probabilities, strengths = auto_policies.auto_augment_table(name)
    for row, pair in enumerate(golden[f"pairs/{name}"]):
        for column, words in enumerate(pair):
            op, probability, strength = words.split()
            assert auto_operations.KINDS[kinds[row, column]] == op
            assert probabilities[row, column] == np.float32(probability)
            assert strengths[row, column] == int(strength)


SPACES = {
    "AutoAugment": auto_policies.auto_augment_space,
    "RandAugment": auto_policies.rand_augment_space,
    "TrivialAugmentWide": lambda size: auto_policies.trivial_augment_space(),
    "AugMix": auto_policies.aug_mix_space,
}


@pytest.mark.parametrize("policy", SPACES)
def test_magnitudes(policy, golden):
    space = SPACES[policy]((224, 160))
    theirs = {key.split("/")[2]: key for key in golden if key.startswith(f"space/{policy}/")}
    ours = {auto_operations.KINDS[kind] for kind in space.kinds}
    assert (ours - {"Identity"} if policy == "AutoAugment" else ours) == set(theirs)
    for kind, magnitudes, signed in zip(*space, strict=True):
        name = auto_operations.KINDS[kind]
        if name not in theirs:
            continue
        expected = golden[theirs[name]]
        if name.startswith("Translate"):
            # torchvision truncates when it applies the shift; its float32 16 is 15.999998, which we take for 16.
            expected = np.trunc(expected + 1e-4)
        np.testing.assert_allclose(magnitudes, expected, atol=1e-5, err_msg=name)
        assert signed == theirs[name].endswith("/signed"), name
