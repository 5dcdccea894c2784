"""Every mistake in a policy is refused in one sentence that names the entry."""

import pytest

from imgcls_jax import augment
from imgcls_jax import config as c
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
    check(canvas=(40, 40))  # cut at the centre
    check(c.ColorJitter(brightness=0.3, contrast=0.2), channels=1)


@pytest.mark.parametrize(
    ("policy", "settings", "words"),
    [
        ([c.HorizontalFlip(), c.Rotation(5, from_epoch=30)], dict(epochs=30), r"augment\[1\] \(Rotation\).*epoch 30"),
        ([c.VerticalFlip(from_epoch=5, until_epoch=5)], {}, "until_epoch=5, not after from_epoch=5"),
        ([c.HorizontalFlip(0.0)], {}, "p=0"),
        ([c.Mixup(0.2, p=0.0)], {}, "p=0"),
        ([c.Affine()], {}, r"augment\[0\] \(Affine\) changes nothing"),
        ([c.Rotation(0)], {}, "degrees are 0"),
        ([c.ColorJitter()], {}, "changes nothing"),
        ([c.PadCrop(0)], {}, "0 pixels"),
        ([c.RandomCrop()], {}, "changes nothing: the canvas is as large"),
        ([c.RandomCrop()], dict(canvas=(30, 40)), "image_size 32×32 exceeds the canvas, 30×40"),
        ([c.PadCrop(2)], dict(canvas=(24, 32)), "pads it, 28×36"),
        ([c.PadCrop(4, until_epoch=9)], dict(canvas=(30, 30)), "exceeds the canvas, 30×30"),
        ([], dict(canvas=(30, 40)), "exceeds the canvas"),
        ([c.PadCrop(32, "reflect")], {}, "reflects 32 pixels"),
        ([c.PadCrop(4), c.RandomResizedCrop(from_epoch=7)], {}, r"augment\[0\].*augment\[1\].*both crop"),
        ([c.Mixup(0.2), c.CutMix(1.0)], {}, "both mix"),
        ([c.Mixup(0.2), c.HorizontalFlip()], {}, r"runs last, but augment\[1\]"),
        ([c.AlternatingFlip(), c.HorizontalFlip()], {}, "undoes the alternation"),
        ([c.Mixup(0.2)], dict(sigmoid=True), "sigmoid"),
        ([c.ColorJitter(saturation=0.2)], dict(channels=1), "greyscale"),
        ([c.ColorJitter(0.1, hue=0.1)], dict(channels=1), "greyscale"),
        ([c.Greyscale()], dict(channels=1), "greyscale already"),
        ([c.GaussianBlur(4)], {}, "must be odd"),
        ([c.GaussianBlur(33)], {}, "more than the 32×32 image"),
        ([c.GaussianBlur(3, (2.0, 1.0))], {}, "the first must not exceed"),
        ([c.GaussianBlur(3, (0.0, 1.0))], {}, "above 0"),
        ([c.Cutout(33)], {}, "size=33"),
        ([c.RandomResizedCrop((0.5, 1.5))], {}, "at most 1"),
        ([c.RandomResizedCrop(ratio=(-1.0, 1.0))], {}, "above 0"),
        ([c.RandomErasing(scale=(0.4, 0.2))], {}, "the first must not exceed"),
        ([c.RandomErasing(ratio=(0.0, 1.0))], {}, "above 0"),
        ([c.Affine(scale=(0.0, 1.0))], {}, "above 0"),
        ([c.Affine(shear=90)], {}, "below 90"),
        ([c.AugMix(depth=0)], {}, "depth=0"),
    ],
)
def test_mistakes(policy, settings, words):
    with pytest.raises(UserError, match=words) as error:
        check(*policy, **settings)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_identical_entries_are_told_apart():
    with pytest.raises(UserError, match=r"augment\[0\] .*augment\[1\]"):
        check(c.RandomResizedCrop(), c.RandomResizedCrop())
