"""Every mistake in a policy is refused in one sentence that names the entry."""

import json

import pytest
from pydantic import ValidationError

from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax.config import io, overrides
from imgcls_jax.errors import UserError

GOOD = (
    c.PadCrop(4),
    c.HorizontalFlip(),
    c.Rotation(15, from_epoch=30),
    c.ColorJitter(0.2, 0.2, 0.2, 0.1, from_epoch=30),
    c.RandomErasing(0.4, from_epoch=30),
    c.Mixup(0.5, until_epoch=50),
    c.CutMix(1.0, from_epoch=50),
)


def check(*policy, epochs=100, canvas=(32, 32), image_size=(32, 32), channels=3, sigmoid=False):
    augment.check(policy, epochs=epochs, canvas=canvas, image_size=image_size, channels=channels, sigmoid=sigmoid)


def test_good_policies_pass():
    check(*GOOD)
    check()
    check(c.PadCrop(4, until_epoch=3), c.RandomResizedCrop(from_epoch=3))
    check(c.RandomCrop(), canvas=(36, 32))
    check(canvas=(40, 40))  # cut at the center
    check(
        c.PadCrop(4), c.Shrink((20, 32), until_epoch=3), c.Shrink((24, 24), from_epoch=3, until_epoch=5), c.Mixup(0.2)
    )
    check(c.ColorJitter(brightness=0.3, contrast=0.2), channels=1)
    # A shortened run leaves late entries out: said by the doctor, not refused.
    check(c.HorizontalFlip(), c.Rotation(5, from_epoch=30), epochs=30)


@pytest.mark.parametrize(
    ("policy", "settings", "words"),
    [
        ([c.VerticalFlip(from_epoch=5, until_epoch=5)], {}, "until_epoch=5, not after from_epoch=5"),
        ([c.Affine()], {}, r"augment\[0\] \(Affine\) changes nothing"),
        ([c.ColorJitter()], {}, "changes nothing"),
        ([c.RandomCrop()], {}, "changes nothing: the canvas is as large"),
        ([c.RandomCrop()], dict(canvas=(30, 40)), "image_size 32×32 exceeds the canvas, 30×40"),
        ([c.PadCrop(2)], dict(canvas=(24, 32)), "pads the image to 28×36, which data.image_size 32×32 exceeds"),
        ([c.PadCrop(4, until_epoch=9)], dict(canvas=(30, 30)), "exceeds the canvas, 30×30"),
        ([], dict(canvas=(30, 40)), "exceeds the canvas"),
        ([c.PadCrop(32, "reflect")], {}, "reflects 32 pixels"),
        ([c.PadCrop(4), c.RandomResizedCrop(from_epoch=7)], {}, r"augment\[0\].*augment\[1\].*both crop"),
        ([c.Mixup(0.2), c.CutMix(1.0)], {}, "both mix"),
        ([c.Mixup(0.2), c.HorizontalFlip()], {}, r"runs last, but augment\[1\]"),
        ([c.AlternatingFlip(), c.HorizontalFlip()], {}, "undoes the alternation"),
        ([c.Mixup(0.2)], dict(sigmoid=True), "sigmoid"),
        ([c.ColorJitter(saturation=0.2)], dict(channels=1), "grayscale"),
        ([c.ColorJitter(0.1, hue=0.1)], dict(channels=1), "grayscale"),
        ([c.Grayscale()], dict(channels=1), "grayscale already"),
        ([c.GaussianBlur(33)], {}, "more than the 32×32 image"),
        ([c.Cutout(33)], {}, "size=33"),
        ([c.Shrink((32, 32))], {}, "size=32×32, which must be smaller than data.image_size 32×32"),
        ([c.Shrink((16, 33))], {}, "size=16×33, which must be smaller than"),
        ([c.Shrink((16, 16)), c.Shrink((24, 24), from_epoch=2)], {}, "both shrink"),
        ([c.Shrink((16, 16)), c.HorizontalFlip()], {}, r"Shrink\) runs last, but augment\[1\] \(HorizontalFlip"),
        ([c.Mixup(0.2), c.Shrink((16, 16))], {}, r"Mixup\) runs last, but augment\[1\] \(Shrink"),
    ],
)
def test_mistakes(policy, settings, words):
    with pytest.raises(UserError, match=words) as error:
        check(*policy, **settings)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("HorizontalFlip", {"p": 0.0}, "p must be greater than 0, not 0.0"),
        ("Mixup", {"alpha": 0.2, "p": 0.0}, "p must be greater than 0, not 0.0"),
        ("Mixup", {"alpha": 0.2, "p": 1.5}, "p must be at most 1.0, not 1.5"),
        ("Rotation", {"degrees": 0}, "degrees must be greater than 0, not 0"),
        ("PadCrop", {"padding": 0}, "padding must be greater than 0, not 0"),
        ("GaussianBlur", {"kernel": 4}, "kernel: must be odd, not 4"),
        ("GaussianBlur", {"kernel": 3, "sigma": [2.0, 1.0]}, "sigma: must name the smaller value first, not"),
        ("GaussianBlur", {"kernel": 3, "sigma": [0.0, 1.0]}, "sigma: must be above 0, not"),
        ("RandomResizedCrop", {"scale": [0.5, 1.5]}, "scale: must be at most 1, not"),
        ("RandomResizedCrop", {"ratio": [-1.0, 1.0]}, "ratio: must be above 0, not"),
        ("RandomErasing", {"scale": [0.4, 0.2]}, "scale: must name the smaller value first, not"),
        ("RandomErasing", {"ratio": [0.0, 1.0]}, "ratio: must be above 0, not"),
        ("Affine", {"scale": [0.0, 1.0]}, "scale: must be above 0, not"),
        ("Affine", {"shear": 90}, "shear must be less than 90, not 90"),
        ("AugMix", {"depth": 0}, "depth: must be at least 1, or -1 for one to three at random, not 0"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_operation_is_made(kind, settings, words, tiny_config):
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    with pytest.raises(ValidationError):
        getattr(c, kind)(**values)
    entry = json.dumps([{"kind": kind, **settings}])
    with pytest.raises(UserError) as error:
        overrides.override(tiny_config(), [f"augment={entry}"])
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_setting_of_a_config_file_is_one_sentence(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(
        "from imgcls_jax import config as c\n\n\ndef get_config(variant=''):\n    return c.GaussianBlur(4)\n"
    )
    with pytest.raises(UserError, match="wrong.py, line 5: kernel: must be odd, not 4"):
        io.load(str(file))


def test_identical_entries_are_told_apart():
    with pytest.raises(UserError, match=r"augment\[0\] .*augment\[1\]"):
        check(c.RandomResizedCrop(), c.RandomResizedCrop())
