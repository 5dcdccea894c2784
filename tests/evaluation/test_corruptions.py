"""What all corruptions have in common."""

import numpy as np
import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES, corrupt

# fmt: off
OFFICIAL = [
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "spatter", "saturate",
]
DETERMINISTIC = {
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate",
}
# The others change their kind of constants between severities, or trade one constant for another.
GROWING = {
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "defocus_blur", "motion_blur", "zoom_blur",
    "gaussian_blur", "fog", "brightness", "contrast", "pixelate", "jpeg_compression",
}
# fmt: on


def test_names_are_those_of_the_official_arrays():
    assert list(CORRUPTIONS) == OFFICIAL
    assert list(BENCHMARK) == OFFICIAL[:15]


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_images_corruption_is_its_own(name, photographs):
    """It depends on the seed and the image's index, not on batch or order; images and dtype are left as they are."""
    before = photographs.copy()
    whole = corrupt(photographs, name, 4, seed=7)
    assert whole.dtype == np.uint8 and whole.shape == photographs.shape
    np.testing.assert_array_equal(photographs, before)
    order = [20, 3, 11]
    np.testing.assert_array_equal(corrupt(photographs[order], name, 4, seed=7, indices=order), whole[order])
    same = np.array_equal(corrupt(photographs, name, 4, seed=8), whole)
    assert same == (name in DETERMINISTIC)
    twins = corrupt(photographs[[0, 0]], name, 4)
    assert np.array_equal(*twins) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", OFFICIAL)
def test_severities_differ(name, photographs):
    made = [corrupt(photographs, name, severity) for severity in SEVERITIES]
    change = [np.abs(np.float64(images) - photographs).mean() for images in made]
    assert all(one > 0.3 for one in change), change
    if name in GROWING:
        assert np.all(np.diff(change) > 0), change


@pytest.mark.parametrize("name", OFFICIAL)
def test_other_sizes(name, photographs):
    oblong = photographs[:2, :20, :27]
    assert corrupt(oblong, name, 5).shape == oblong.shape


def test_saturation_falls_then_rises(photographs):
    def colorfulness(images):
        return (images.max(-1) - np.float64(images.min(-1))).mean()

    one, two, three, four, five = (colorfulness(corrupt(photographs, "saturate", s)) for s in SEVERITIES)
    assert two < one < colorfulness(photographs) < three < four < five


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 8, 8, 3), np.uint8), "rain", 1), "there is no corruption 'rain'; there are gaussian_noise, "),
        ((np.zeros((1, 8, 8, 3), np.uint8), "fog", 0), "there is no severity 0: they are 1 (mild) to 5"),
        ((np.zeros((1, 8, 8, 1), np.uint8), "fog", 1), "need uint8 RGB images [n, h, w, 3] of at least 8 × 8 pixels"),
        ((np.zeros((1, 8, 8, 3)), "fog", 1), "not float64 [1, 8, 8, 3]"),
        ((np.zeros((1, 7, 8, 3), np.uint8), "fog", 1), "not uint8 [1, 7, 8, 3]"),
    ],
)
def test_what_cannot_be_corrupted(arguments, message):
    with pytest.raises(UserError) as error:
        corrupt(*arguments)
    assert message in str(error.value)
