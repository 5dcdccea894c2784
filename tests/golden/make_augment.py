"""Writes augment.npz: two photos, what torchvision makes of them in every case, its tables of magnitudes; and
augment_draws.npz: parameters that it draws.

python tests/golden/make_augment.py            needs torch, torchvision and scikit-learn (whose sample photos it uses)
"""

from pathlib import Path

import numpy as np
import torch
from augment_cases import CASES, SIZE
from PIL import Image

from imgcls_jax.doctor.torch_peer import import_torchvision

import_torchvision()

from torchvision.transforms import InterpolationMode, v2  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402

PATH = Path(__file__).with_name("augment.npz")
DRAWS_PATH = Path(__file__).with_name("augment_draws.npz")
DRAWS = 2000
MAGNITUDE_SIZE = (224, 160)


def photos() -> np.ndarray:
    """uint8 [2, H, W, 3]: scikit-learn's china.jpg and flower.jpg, reduced."""
    from sklearn.datasets import load_sample_images

    return np.stack(
        [np.asarray(Image.fromarray(p).resize(SIZE[::-1], Image.LANCZOS)) for p in load_sample_images().images]
    )


def _mode(nearest: bool) -> InterpolationMode:
    return InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR


def rotate(x, angle, nearest=False):
    return F.rotate(x, angle, interpolation=_mode(nearest), fill=0)


def affine(x, angle, translate, scale, shear):
    return F.affine(x, angle, list(translate), scale, list(shear), interpolation=_mode(False), fill=0)


def resized_crop(x, top, left, height, width, size):
    return F.resized_crop(x, top, left, height, width, list(size), antialias=True)


def pad_crop(x, top, left, padding, mode):
    return F.crop(F.pad(x, [padding] * 4, padding_mode=mode), top, left, *SIZE)


def brightness(x, factor):
    return F.adjust_brightness(x, factor)


def contrast(x, factor):
    return F.adjust_contrast(x, factor)


def saturation(x, factor):
    return F.adjust_saturation(x, factor)


def hue(x, factor):
    return F.adjust_hue(x, factor)


def jitter(x, order, amounts):
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    params = dict(fn_idx=torch.tensor(order), **dict(zip(names, amounts, strict=True)))
    return v2.ColorJitter(0.2, 0.2, 0.2, 0.1).transform(x, params)


def jitter_float(x, order, amounts):
    return (jitter(x.float() / 255, order, amounts) * 255).round().to(torch.uint8)


def grayscale(x):
    return F.rgb_to_grayscale(x, num_output_channels=3)


def gaussian_blur(x, kernel, sigma):
    return F.gaussian_blur(x, [kernel, kernel], [sigma, sigma])


def erase(x, top, left, height, width):
    return F.erase(x, top, left, height, width, torch.tensor([255, 0, 128], dtype=torch.uint8)[:, None, None])


def auto(x, name, magnitude):
    policy = v2.RandAugment()
    return policy._apply_image_or_video_transform(x, name, magnitude, policy.interpolation, policy._fill)


def torchvision_case(case: str, images: np.ndarray) -> np.ndarray:
    """torchvision's uint8 result for each photo."""
    function, params = CASES[case]
    results = [
        globals()[function](torch.from_numpy(x.transpose(2, 0, 1).copy()), **p)
        for x, p in zip(images, params, strict=True)
    ]
    return np.stack([r.numpy().transpose(1, 2, 0) for r in results])


def magnitudes() -> dict[str, np.ndarray]:
    """torchvision's magnitudes of every operation at every strength, on images of MAGNITUDE_SIZE."""
    found = {}
    spaces = {"AutoAugment": (v2.AutoAugment, 10), "RandAugment": (v2.RandAugment, 31)}
    spaces |= {"TrivialAugmentWide": (v2.TrivialAugmentWide, 31), "AugMix": (v2.AugMix, 10)}
    for policy, (transform, strengths) in spaces.items():
        for name, (function, signed) in transform._AUGMENTATION_SPACE.items():
            values = function(strengths, *MAGNITUDE_SIZE)
            values = np.zeros(strengths) if values is None else values.numpy().astype(np.float64)
            found[f"{policy}/{name}/{'signed' if signed else 'unsigned'}"] = values
    return found


def auto_augment_pairs() -> dict[str, list]:
    """torchvision's pairs of each learnt policy."""
    policies = {"imagenet": v2.AutoAugmentPolicy.IMAGENET, "cifar10": v2.AutoAugmentPolicy.CIFAR10}
    return {name: v2.AutoAugment(policy)._policies for name, policy in policies.items()}


def draws() -> dict[str, np.ndarray]:
    """DRAWS sets of parameters of each random transform; those of `draws/NAME` are the columns."""
    torch.manual_seed(0)

    def draw(transform, size, columns):
        image = [torch.zeros(3, *size)]
        return np.array([columns(transform.make_params(image)) for _ in range(DRAWS)], np.float32)

    def window(params):
        return [params[name] for name in ("top", "left", "height", "width")]

    def erased(params):
        return [params[name] for name in ("i", "j", "h", "w")] if params["v"] is not None else [0, 0, 0, 0]

    def jitter_order(params):
        names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
        return [*params["fn_idx"].tolist(), *(params[name] for name in names)]

    shape, narrow = (60, 80), (40, 200)
    return {
        "resized_crop": draw(v2.RandomResizedCrop(24), shape, window),
        # Seldom fits: the fallback is drawn as well.
        "resized_crop_narrow": draw(v2.RandomResizedCrop(24, scale=(0.7, 1.0)), narrow, window),
        "erasing": draw(v2.RandomErasing(p=1.0), shape, erased),
        "affine": draw(
            v2.RandomAffine(20, (0.1, 0.2), (0.7, 1.2), 15),
            shape,
            lambda p: [p["angle"], *p["translate"], p["scale"], p["shear"][0]],
        ),
        "rotation": draw(v2.RandomRotation(15), shape, lambda p: [p["angle"]]),
        "crop": draw(v2.RandomCrop(50, padding=4), shape, lambda p: [p["top"], p["left"]]),
        "jitter": draw(v2.ColorJitter(0.4, 1.3, 0.2, 0.1), shape, jitter_order),
        "sigma": draw(v2.GaussianBlur(5, (0.3, 1.7)), shape, lambda p: [p["sigma"][0]]),
        "mixup": draw(v2.MixUp(alpha=0.5, num_classes=2), shape, lambda p: [p["lam"]]),
        "cutmix": draw(v2.CutMix(alpha=1.0, num_classes=2), shape, lambda p: [p["lam_adjusted"]]),
    }


if __name__ == "__main__":
    images = photos()
    tables = {
        f"pairs/{name}": np.array([[" ".join((op, str(p), str(m or 0))) for op, p, m in pair] for pair in pairs])
        for name, pairs in auto_augment_pairs().items()
    }
    cases = {f"case/{case}": torchvision_case(case, images) for case in CASES}
    np.savez_compressed(PATH, photos=images, **cases, **{f"space/{k}": v for k, v in magnitudes().items()}, **tables)
    np.savez_compressed(DRAWS_PATH, **draws())
    for path in (PATH, DRAWS_PATH):
        print(f"{path}: {path.stat().st_size // 1000} kB")
