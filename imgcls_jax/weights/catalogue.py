"""Published weights by name: where they lie, what they were made for, and how well they did there."""

import dataclasses
import difflib
from pathlib import Path
from typing import Literal

from imgcls_jax.errors import UserError
from imgcls_jax.weights import download

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BSD_IMAGENET = (
    "BSD-3-Clause (torchvision); trained on ImageNet, whose terms allow non-commercial research and education only"
)
_APACHE = "Apache-2.0"
_BSD_CIFAR = "BSD-2-Clause (akamaster/pytorch_resnet_cifar10)"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What evaluation images went through when the published accuracy was measured."""

    resize: int | None
    """Length of the short side after the resize, pixels; None: images are taken as they are."""
    crop: int
    """Side of the central square that the model sees, pixels."""
    interpolation: Literal["bilinear", "bicubic", "none"]
    """With antialiasing, as Pillow's."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of each channel of images in [0, 1], subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Of each channel, divided by."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of weights."""

    name: str
    """"COLLECTION/MODEL.VERSION"."""
    model: str
    """Name of the architecture in `imgcls_jax.models.MODELS`."""
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

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2]


def _torchvision(
    model: str, version: str, sha256: str, resize: int, num_params: int, top1: float, top5: float
) -> Entry:
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
        license=_BSD_IMAGENET,
    )


def _dinov2(size: str, registers: bool, num_params: int, top1: float) -> Entry:
    stem = f"dinov2_vit{size}14"
    return Entry(
        f"dinov2/vit{size}14_reg" if registers else f"dinov2/vit{size}14",
        f"{stem}_reg" if registers else stem,
        f"https://dl.fbaipublicfiles.com/dinov2/{stem}/{stem}_{'reg4_' if registers else ''}pretrain.pth",
        None,
        Preprocessing(256, 224, "bicubic"),
        top1,
        None,
        "ImageNet-1K",
        num_params,
        head=False,
        license=_APACHE,
    )


def _cifar(depth: int, sha256: str, num_params: int, top1: float) -> Entry:
    return Entry(
        f"akamaster/resnet{depth}.CIFAR10",
        f"cifar_resnet{depth}",
        f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/resnet{depth}-{sha256}.th",
        sha256,
        Preprocessing(None, 32, "none"),
        top1,
        None,
        "CIFAR-10",
        num_params,
        head=True,
        license=_BSD_CIFAR,
    )


_V1, _V2 = "IMAGENET1K_V1", "IMAGENET1K_V2"
# As torchvision's WeightsEnum, dinov2's README and akamaster's README have them.
_ENTRIES = (
    _torchvision("resnet18", _V1, "f37072fd", 256, 11_689_512, 69.758, 89.078),
    _torchvision("resnet34", _V1, "b627a593", 256, 21_797_672, 73.314, 91.420),
    _torchvision("resnet50", _V1, "0676ba61", 256, 25_557_032, 76.130, 92.862),
    _torchvision("resnet50", _V2, "11ad3fa6", 232, 25_557_032, 80.858, 95.434),
    _torchvision("resnet101", _V1, "63fe2227", 256, 44_549_160, 77.374, 93.546),
    _torchvision("resnet101", _V2, "cd907fc2", 232, 44_549_160, 81.886, 95.780),
    _torchvision("resnet152", _V1, "394f9c45", 256, 60_192_808, 78.312, 94.046),
    _torchvision("resnet152", _V2, "f82ba261", 232, 60_192_808, 82.284, 96.002),
    _torchvision("resnext50_32x4d", _V1, "7cdf4587", 256, 25_028_904, 77.618, 93.698),
    _torchvision("resnext50_32x4d", _V2, "1a0047aa", 232, 25_028_904, 81.198, 95.340),
    _torchvision("resnext101_32x8d", _V1, "8ba56ff5", 256, 88_791_336, 79.312, 94.526),
    _torchvision("resnext101_32x8d", _V2, "110c445d", 232, 88_791_336, 82.834, 96.228),
    _torchvision("resnext101_64x4d", _V1, "173b62eb", 232, 83_455_272, 83.246, 96.454),
    _torchvision("wide_resnet50_2", _V1, "95faca4d", 256, 68_883_240, 78.468, 94.086),
    _torchvision("wide_resnet50_2", _V2, "9ba9bcbe", 232, 68_883_240, 81.602, 95.758),
    _torchvision("wide_resnet101_2", _V1, "32ee1156", 256, 126_886_696, 78.848, 94.284),
    _torchvision("wide_resnet101_2", _V2, "d733dc28", 232, 126_886_696, 82.510, 96.020),
    _torchvision("squeezenet1_0", _V1, "b66bff10", 256, 1_248_424, 58.092, 80.420),
    _torchvision("squeezenet1_1", _V1, "b8a52dc0", 256, 1_235_496, 58.178, 80.624),
    _dinov2("s", False, 22_056_576, 81.1),
    _dinov2("b", False, 86_580_480, 84.5),
    _dinov2("l", False, 304_368_640, 86.3),
    _dinov2("s", True, 22_058_112, 80.9),
    _dinov2("b", True, 86_583_552, 84.6),
    _dinov2("l", True, 304_372_736, 86.7),
    _cifar(20, "12fca82f", 269_722, 91.73),
    _cifar(44, "014dd654", 658_586, 93.10),
    _cifar(56, "4bfd9763", 853_018, 93.39),
)
CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""Every entry by its name."""


def resolve(
    name: str, cache: str | Path | None = None, progress: download.Progress | None = None
) -> tuple[Path, Entry | None]:
    """The file of a catalogue name, downloaded if need be, or of a path.

    Args:
      name: a catalogue name such as "torchvision/resnet50.IMAGENET1K_V2", or a path.
      cache: folder of downloads; None: $IMGCLS_CACHE, or ~/.cache/imgcls_jax/weights.
      progress: called with the bytes there and the bytes in all (None: unknown).

    Returns:
      The file, and its entry; None for a path.

    Raises:
      UserError: no such file or name, no connection, or a file that is not the published one.
    """
    if entry := CATALOGUE.get(name):
        return download.fetch(entry.url, entry.sha256, download.cache_folder(cache), progress), entry
    if Path(name).is_file():
        return Path(name), None
    nearby = difflib.get_close_matches(name, CATALOGUE, 1, 0.0)[0]
    raise UserError(f"{name} is neither a weight file nor a catalogue name: the nearest name is {nearby}")
