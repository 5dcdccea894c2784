"""Images a second of every augmentation and of two whole policies, against torchvision v2 on the same cores.

    python -m benchmarks.augment [--batch 64] [--seconds 1] [--only rotation]

All pipelines go from uint8 to normalized float32. torchvision is measured twice: on a batch of tensors, where it draws
one set of parameters for the whole batch, and on one PIL image after the other, where each has its own as with us;
the latter is measured on one core and multiplied by their number, as if data-loading workers cost nothing.
The ratio is ours to the faster of the two. Each figure is the best of several repetitions.
"""

import argparse
import os

import jax
import jax.numpy as jnp
import numpy as np
import torch
from PIL import Image

from benchmarks.cifar10 import MEAN, STD
from benchmarks.timing import best_rate
from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax.doctor.torch_peer import import_torchvision

import_torchvision()

from torchvision.transforms import InterpolationMode, v2  # noqa: E402

BILINEAR = InterpolationMode.BILINEAR


def cases(size: int) -> dict[str, tuple[tuple, list]]:
    """Name → (our policy, torchvision's transforms) for images of `size`."""
    return {
        "normalize only": ((), []),
        "horizontal flip": ((c.HorizontalFlip(),), [v2.RandomHorizontalFlip()]),
        "vertical flip": ((c.VerticalFlip(),), [v2.RandomVerticalFlip()]),
        "pad and crop": ((c.PadCrop(4),), [v2.RandomCrop(size, padding=4)]),
        "pad and crop, reflect": ((c.PadCrop(4, "reflect"),), [v2.RandomCrop(size, padding=4, padding_mode="reflect")]),
        "random resized crop": ((c.RandomResizedCrop(),), [v2.RandomResizedCrop(size)]),
        "rotation, nearest": ((c.Rotation(15, interpolation="nearest"),), [v2.RandomRotation(15)]),
        "rotation, bilinear": ((c.Rotation(15),), [v2.RandomRotation(15, interpolation=BILINEAR)]),
        "affine": (
            (c.Affine(15, (0.1, 0.1), (0.8, 1.2), 10),),
            [v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10, interpolation=BILINEAR)],
        ),
        "color jitter": ((c.ColorJitter(0.2, 0.2, 0.2, 0.1),), [v2.ColorJitter(0.2, 0.2, 0.2, 0.1)]),
        "color jitter without hue": ((c.ColorJitter(0.2, 0.2, 0.2),), [v2.ColorJitter(0.2, 0.2, 0.2)]),
        "grayscale": ((c.Grayscale(1.0),), [v2.RandomGrayscale(1.0)]),
        "gaussian blur, 7": ((c.GaussianBlur(7, p=1.0),), [v2.GaussianBlur(7)]),
        "random erasing": ((c.RandomErasing(1.0),), [v2.RandomErasing(1.0)]),
        "AutoAugment": ((c.AutoAugment("imagenet"),), [v2.AutoAugment()]),
        "RandAugment": ((c.RandAugment(),), [v2.RandAugment()]),
        "TrivialAugmentWide": ((c.TrivialAugmentWide(),), [v2.TrivialAugmentWide()]),
        "AugMix": ((c.AugMix(),), [v2.AugMix()]),
        "mixup": ((c.Mixup(0.5),), [v2.MixUp(alpha=0.5, num_classes=10)]),
        "cutmix": ((c.CutMix(1.0),), [v2.CutMix(alpha=1.0, num_classes=10)]),
    }


def policies() -> dict[str, tuple[int, int, tuple, list]]:
    """Name → (canvas, image size, our policy, torchvision's transforms)."""
    strong = (
        c.PadCrop(4),
        c.HorizontalFlip(),
        c.Rotation(15),
        c.ColorJitter(0.2, 0.2, 0.2, 0.1),
        c.RandomErasing(0.4),
    )
    strong_torch = [
        v2.RandomCrop(224, padding=4),
        v2.RandomHorizontalFlip(),
        v2.RandomRotation(15, interpolation=BILINEAR),
        v2.ColorJitter(0.2, 0.2, 0.2, 0.1),
        v2.RandomErasing(0.4, scale=(0.02, 0.33)),
    ]
    turns = (c.HorizontalFlip(), c.VerticalFlip(), c.Rotation(15))
    turns_torch = [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomRotation(15, interpolation=BILINEAR),
    ]
    return {
        "transfer, strong phase": (256, 224, strong, strong_torch),
        "CIFAR flips and rotation": (32, 32, turns, turns_torch),
    }


def ours(policy: tuple, canvas: np.ndarray, size: int, seconds: float) -> float:
    batch = len(canvas)
    run = augment.build(policy, epoch=0, image_size=(size, size), mean=MEAN, std=STD, num_classes=10)
    args = jnp.asarray(canvas), jnp.arange(batch) % 10, jnp.ones(batch), jnp.int32(0), jnp.arange(batch)
    step = jax.jit(run).lower(jax.random.key(0), *args).compile()
    return best_rate(lambda: jax.block_until_ready(step(jax.random.key(0), *args)), batch, seconds)


def torchvision_tensors(transforms: list, canvas: np.ndarray, size: int, seconds: float) -> float:
    labels = torch.arange(len(canvas)) % 10
    mixing = [t for t in transforms if isinstance(t, v2.MixUp | v2.CutMix)]
    steps = [t for t in transforms if t not in mixing]
    end = [v2.CenterCrop(size), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    compose = v2.Compose([*steps, *end])
    x = torch.from_numpy(canvas.transpose(0, 3, 1, 2).copy())

    def step():
        images = compose(x)
        return mixing[0](images, labels) if mixing else images

    return best_rate(step, len(canvas), seconds)


def torchvision_pillow(transforms: list, canvas: np.ndarray, size: int, seconds: float) -> float | None:
    if any(isinstance(t, v2.MixUp | v2.CutMix) for t in transforms):
        return None
    on_tensors = [t for t in transforms if isinstance(t, v2.RandomErasing)]
    start = [t for t in transforms if t not in on_tensors]
    end = [v2.CenterCrop(size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    compose = v2.Compose([*start, *end, *on_tensors])
    images = [Image.fromarray(x) for x in canvas[:16]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rate = best_rate(lambda: [compose(x) for x in images], len(images), seconds)
    torch.set_num_threads(threads)
    return rate * len(os.sched_getaffinity(0))


def compare(name: str, policy: tuple, transforms: list, canvas: np.ndarray, size: int, seconds: float) -> None:
    mine = ours(policy, canvas, size, seconds)
    tensors = torchvision_tensors(transforms, canvas, size, seconds)
    pillow = torchvision_pillow(transforms, canvas, size, seconds)
    shown = "–" if pillow is None else f"{pillow:.0f}"
    print(f"{name:28s} {mine:10.0f} {tensors:12.0f} {shown:>12s} {mine / max(tensors, pillow or 0):8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="images a batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time of each figure")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores, batch {args.batch}")
    print(f"{'images a second':28s} {'imgcls_jax':>10s} {'tv tensors':>12s} {'tv Pillow':>12s} {'ratio':>8s}")
    rng = np.random.default_rng(0)
    for name, (canvas, size, policy, transforms) in policies().items():
        if args.only in name:
            images = rng.integers(0, 256, (args.batch, canvas, canvas, 3), np.uint8)
            compare(f"{name}, {size}", policy, transforms, images, size, args.seconds)
    for size in (224, 32):
        images = rng.integers(0, 256, (args.batch, size, size, 3), np.uint8)
        for name, (policy, transforms) in cases(size).items():
            if args.only in name:
                compare(f"{name}, {size}", policy, transforms, images, size, args.seconds)


if __name__ == "__main__":
    main()
