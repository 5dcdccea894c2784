"""The peer's side of the benchmarks: PyTorch and torchvision at their best, doing the same work.

Networks run as they are, in channels_last, and compiled in channels_last; where the variant is "best" each is tried
before the rounds and the fastest is kept. cuDNN's benchmark mode is on, SGD is fused, losses are fetched late.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import cifar10
from benchmarks.cifar10 import MEAN, STD
from benchmarks.process import Answer
from imgcls_jax.doctor.torch_peer import import_torchvision
from imgcls_jax.plan.process import peak_memory

torchvision = import_torchvision()
transforms = torchvision.transforms

WORKERS = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VARIANTS = {"eager": (False, None), "channels_last": (True, None), "compiled": (True, "default")}
"""Name → (channels_last, mode of torch.compile or None)."""
if DEVICE == "cuda":
    VARIANTS["compiled, autotuned"] = (True, "max-autotune-no-cudagraphs")

torch.backends.cudnn.benchmark = True
torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Trainer:
    """A network, its loss and SGD, in one of the variants; takes images as uint8 [b, h, w, c] or float [b, c, h, w]."""

    def __init__(self, model: str, classes: int, precision: str, variant: str):
        torch.manual_seed(0)
        self.channels_last, mode = VARIANTS[variant]
        self.variant, self.tried = variant, ""
        self.net = network(model, classes).to(DEVICE)
        if self.channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self._autocast = torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16")
        self._mean, self._std = (torch.tensor(v, device=DEVICE).reshape(1, 3, 1, 1) for v in (MEAN, STD))
        self._loss = torch.compile(self._eager_loss, mode=mode) if mode else self._eager_loss
        self._logits = torch.compile(self.net, mode=mode) if mode else self.net
        self._optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, fused=True)

    def _eager_loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self._autocast:
            return F.cross_entropy(self.net(self._prepare(images)), labels)

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        if images.dtype == torch.uint8:
            images = (images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        return images.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = self._loss(images, labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def epoch(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Train on all batches; the sum of their losses."""
        self.net.train()
        return float(sum(self.step(images.to(DEVICE), labels.to(DEVICE)) for images, labels in batches))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """The share of right answers."""
        self.net.eval()
        right, count = torch.zeros((), device=DEVICE), 0
        for images, labels in batches:
            logits = self._logits(self._prepare(images.to(DEVICE)))
            right += (logits.argmax(1) == labels.to(DEVICE)).sum()
            count += len(labels)
        return float(right) / count

    def description(self) -> Answer:
        return {
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "choice": f"{DEVICE}, {self.variant}, {torch.get_num_threads()} threads{self.tried}",
        }


def trainer(model: str, classes: int, precision: str, variant: str, images: torch.Tensor) -> Trainer:
    """A trainer of that variant, or of the one whose steps on `images` are the fastest."""
    if variant != "best":
        return Trainer(model, classes, precision, variant)
    labels = torch.arange(len(images), device=DEVICE) % classes
    seconds = {}
    for name in VARIANTS:
        tried = Trainer(model, classes, precision, name)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            tried.step(images, labels).item()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    best = Trainer(model, classes, precision, min(seconds, key=seconds.__getitem__))
    best.tried = "; a step: " + ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in seconds.items())
    return best


def network(name: str, classes: int) -> nn.Module:
    """The torch twin of `benchmarks.ours.MODELS[name]`."""
    match name:
        case "resnet18":  # with the stem for small images
            net = torchvision.models.resnet18(num_classes=classes)
            net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
            return net
        case "resnet50":
            return torchvision.models.resnet50(num_classes=classes)
        case "lenet":
            convs, features, hidden = [(3, 10, 5, 0), (10, 20, 5, 0)], 500, [120, 84]
        case "cnn":
            convs, features, hidden = [(3, 32, 3, 1), (32, 64, 3, 1), (64, 128, 3, 1)], 2048, [256]
    layers: list[nn.Module] = []
    for inputs, outputs, kernel, padding in convs:
        layers += [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    for width in hidden:
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))


def steps(
    *, model: str, size: int, classes: int, batch: int, steps: int, precision: str, variant: str, **_: Any
) -> Iterator[Answer]:
    """See `benchmarks.ours.steps`."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (steps * batch, size, size, 3), np.uint8)).to(DEVICE)
    labels = torch.arange(steps * batch, device=DEVICE) % classes
    chosen = trainer(model, classes, precision, variant, images[:batch])

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(images), device=DEVICE).reshape(steps, batch)
        return ((images[rows], labels[rows]) for rows in order)

    chosen.epoch(batches())
    yield chosen.description()
    while True:
        start = time.perf_counter()
        chosen.epoch(batches())
        yield {
            "seconds": (time.perf_counter() - start) / steps,
            "host_bytes": peak_memory(),
            "device_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None,
        }


class Images(Dataset):
    """uint8 images in memory, each made a Pillow image and transformed when it is read."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]):
        self._images, self._labels, self._transform = images, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def epochs(*, model: str, batch: int, images: str, variant: str) -> Iterator[Answer]:
    """See `benchmarks.ours.epochs`."""
    _, dataset = cifar10.load(images)
    assert dataset.validation
    train, validation = ((split.read_all(), split.labels) for split in (dataset.train, dataset.validation))
    to_tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augment = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.RandomRotation(15),
        *to_tensor,
    ]
    common = dict(batch_size=batch, num_workers=WORKERS, persistent_workers=True, pin_memory=DEVICE == "cuda")
    train_loader = DataLoader(Images(*train, transforms.Compose(augment)), shuffle=True, drop_last=True, **common)
    validation_loader = DataLoader(Images(*validation, transforms.Compose(to_tensor)), **common)
    chosen = trainer(model, 10, "fp32", variant, torch.zeros(batch, 3, 32, 32, device=DEVICE))
    chosen.epoch(islice(train_loader, 5))
    chosen.evaluate(validation_loader)
    yield chosen.description()
    while True:
        start = time.perf_counter()
        chosen.epoch(train_loader)
        accuracy = chosen.evaluate(validation_loader)
        yield {"seconds": time.perf_counter() - start, "accuracy": accuracy}


def folder(*, path: str, batch: int, **_: str) -> Iterator[Answer]:
    """See `benchmarks.ours.folder`; the second epoch finds the files in the operating system's cache, no more."""
    from torchvision.datasets import ImageFolder

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    files = ImageFolder(str(Path(path)), transform)

    def rate(loader: DataLoader) -> float:
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        return count / (time.perf_counter() - start)

    while True:
        loader = DataLoader(files, batch, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
        yield {"first": rate(loader), "second": rate(loader), "choice": f"{WORKERS} workers, Pillow"}
