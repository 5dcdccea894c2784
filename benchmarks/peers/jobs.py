"""The jobs that all sides do, and their images in the forms that the sides read."""

import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.process import CannotRun
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError


@dataclass(frozen=True)
class Job:
    """A network, its images, and how it trains; SGD with momentum 0.9 at a constant rate."""

    title: str
    network: str
    parameters: int
    """Trainable numbers, which every side must have."""
    train: int
    """Training images at most."""
    validation: int
    batch: int
    epochs: int
    rate: float

    def shrunk(self) -> "Job":
        """A few steps of it, to see that it runs."""
        changed = {"train": 64, "validation": 32, "batch": 16, "epochs": 1}
        return Job(**vars(self) | {name: min(value, getattr(self, name)) for name, value in changed.items()})


JOBS = {
    "cnn": Job(
        "CIFAR-10, six convolutions with BatchNorm and dropout, flips and rotation of up to 15°",
        "configs/cifar10_cnn.py:as_reported",
        5_852_170,
        train=50_000,
        validation=10_000,
        batch=128,
        epochs=1,
        rate=0.02,
    ),
    "resnet18": Job(
        "CIFAR-10 (a tenth of the training images), ResNet-18 at 32 pixels, horizontal flips",
        "ResNet-18 with the stem of CIFAR",
        11_173_962,
        train=5_000,
        validation=1_000,
        batch=128,
        epochs=1,
        rate=0.02,
    ),
    "photographs": Job(
        "Imagenette (1,000 training images), four convolutions at 224 pixels, random crops and flips",
        "four convolutions, 32 to 256 channels, each with BatchNorm and pooling",
        391_946,
        train=1_000,
        validation=500,
        batch=32,
        epochs=3,
        rate=0.02,
    ),
}


def prepare(name: str, job: Job, cache: Path, photographs: Path | None) -> dict[str, str]:
    """Write the images of a job, unless they are there, and return where: a "folder" of files, and for CIFAR-10 "npz"
    with arrays; "tfds" is for a program that writes its own.

    Raises:
      CannotRun: the images are not at hand.
    """
    kind = "imagenette" if name == "photographs" else "cifar10"
    home = cache / "data" / f"{kind}_{job.train}_{job.validation}"
    found = {"folder": str(home / "folder"), "npz": str(home / "images.npz"), "tfds": str(home / "tfds")}
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        if kind == "cifar10":
            _cifar10(job, home)
        else:
            _photographs(job, home / "folder", photographs)
        (home / "complete").touch()
    return found


def _cifar10(job: Job, home: Path) -> None:
    """As arrays, and as PNG files in folders of classes."""
    source = c.TFDS("cifar10", train=f"train[:{job.train}]", validation=f"test[:{job.validation}]", test=None)
    plain = c.Data(source=source, canvas=c.Canvas(32, 32), image_size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)
    try:
        dataset = data.load(plain)
    except UserError as error:
        raise CannotRun(str(error)) from error
    assert dataset.validation
    arrays: dict[str, np.ndarray] = {"label_names": np.array(dataset.class_names)}
    for name, folder, split in (("train", "train", dataset.train), ("validation", "val", dataset.validation)):
        images, labels = split.read_all(), split.labels
        arrays |= {f"x_{name}": images, f"y_{name}": labels}
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = home / "folder" / folder / dataset.class_names[label] / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, compress_level=1)
    np.savez(home / "images.npz", **arrays)


def _photographs(job: Job, folder: Path, given: Path | None) -> None:
    """The first images of each class, from a folder with train/CLASS and val/CLASS, or a tar file of one."""
    if given is None or not given.exists():
        where = f"not at {given}" if given else "not part of this project"
        raise CannotRun(
            f"the photographs are {where}: give a folder or a tar file of Imagenette "
            "(https://github.com/fastai/imagenette), with train/CLASS and val/CLASS, by --photographs"
        )
    source = given
    with tempfile.TemporaryDirectory() as unpacked:
        if given.is_file():
            with tarfile.open(given) as archive:
                archive.extractall(unpacked, filter="data")
            source = Path(unpacked)
        # In the tar file it may be below a folder of the set's name.
        root = next((path.parent for path in (source / "train", *source.glob("*/train")) if path.is_dir()), source)
        for split, count in (("train", job.train), ("val", job.validation)):
            classes = sorted(path for path in root.glob(f"{split}/*") if path.is_dir())
            if not classes:
                raise CannotRun(f"the photographs at {given} have no folders {split}/CLASS")
            for path in classes:
                (folder / split / path.name).mkdir(parents=True)
                for file in sorted(path.iterdir())[: count // len(classes)]:
                    shutil.copy(file, folder / split / path.name)


def settings(name: str, job: Job, images: dict[str, Any], seed: int) -> str:
    """What a program is started with, JSON."""
    return json.dumps(
        {"job": name, "epochs": job.epochs, "batch": job.batch, "rate": job.rate, "seed": seed, "cores": os.cpu_count()}
        | images
    )
