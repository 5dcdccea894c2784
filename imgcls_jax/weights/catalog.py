"""Describe published weights: where they lie, what they were made for, and how well they did there."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Literal

from imgcls_jax import download
from imgcls_jax.config.model import Model
from imgcls_jax.errors import UserError, did_you_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What evaluation images went through when the published accuracy was measured."""

    resize: int | None
    """Length of the short side after the resize, pixels; None: images are taken as they are."""
    crop: int
    """Side of the central square that the model sees, pixels."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "none"]
    """With antialiasing, as Pillow's."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of each channel of images in [0, 1]; it is subtracted."""
    std: tuple[float, ...] = IMAGENET_STD
    """Of each channel; the difference is divided by it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of weights."""

    name: str
    """"COLLECTION/MODEL.VERSION"."""
    model: str
    """Name of the architecture, as `imgcls_jax.models.architectures` has it."""
    url: str
    sha256: str | None
    """First digits of the file's SHA-256, which its name carries; None where the publisher gives none, so that a
    download cannot be verified."""
    preprocessing: Preprocessing
    top1: float
    """Published accuracy in percent, of the model itself or, without a head, of a linear classifier on it."""
    top5: float | None
    """None: not published."""
    dataset: str
    """Whose test (or validation) images that is."""
    num_params: int
    """Elements of all parameters in the file."""
    head: bool
    """Whether the file has an output layer."""
    license: str
    package: str | None = None
    """The folder of an installed Python package that the file comes in, "PACKAGE/FOLDER", in place of a download."""

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2]


def torchvision(model: str, version: str, sha256: str, resize: int, num_params: int, top1: float, top5: float) -> Entry:
    """Make the entry of weights of torchvision's, from what its `WeightsEnum` says."""
    return Entry(
        f"torchvision/{model}.{version}",
        model,
        f"https://download.pytorch.org/models/{model}-{sha256}.pth",
        sha256,
        Preprocessing(resize, 224, "bilinear"),
        top1,
        top5,
        "ImageNet-1K",
        num_params,
        head=True,
        license="BSD-3-Clause (torchvision); trained on ImageNet, whose terms allow non-commercial research and "
        "education only",
    )


def published() -> dict[str, Entry]:
    """Collect the published weights of all registered networks, by name."""
    return {entry.name: entry for model in Model.kinds().values() for entry in model.published()}


def resolve(name: str, cache: str | Path | None = None) -> tuple[Path, Entry | None]:
    """Return the file of a published name, downloaded if need be, or of a path.

    Args:
      name: a published name such as "torchvision/resnet50.IMAGENET1K_V2", or a path.
      cache: folder of downloads; None: `weights` in the folder of all caches.

    Returns:
      The file, and its entry; None for a path.

    Raises:
      UserError: there is no such file or name, no connection, its package is not installed, or the file is not the
        published one.
    """
    known = published()
    if (entry := known.get(name)) and entry.package:
        return packaged(entry, entry.package), entry
    if entry:
        return download.fetch(entry.url, entry.sha256, download.cache_folder(cache)), entry
    if Path(name).is_file():
        return Path(name), None
    raise UserError(
        f"there is no weight file {name}, and no published weights of that name{did_you_mean(name, known)}: "
        f"imgcls_jax.list_models(weights=True) lists those"
    )


def packaged(entry: Entry, folder: str) -> Path:
    """Return the file of an entry in an installed package, which is verified and never imported.

    Args:
      entry: the entry.
      folder: "PACKAGE/FOLDER" in the package.

    Raises:
      UserError: the package is not installed, or the file is missing or not the published one.
    """
    name, _, inside = folder.partition("/")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the weights {entry.name} come in the package {name.replace('_', '-')}, which is not installed: run pip "
            "install 'imgcls_jax[pretrained]'"
        )
    file = Path(spec.submodule_search_locations[0]) / inside / entry.file
    wrong = "is not there" if not file.is_file() else download.mismatch(file, entry.sha256)
    if wrong:
        raise UserError(f"{file} {wrong}: run pip install --force-reinstall {name.replace('_', '-')}")
    return file
