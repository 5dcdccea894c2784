"""List the catalog sets that can be prepared here, and whose terms each comes under."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a person wants to know of a set before it is downloaded, and tfds does not say."""

    name: str
    """In the catalog of tfds."""
    size: int
    """Bytes of its archives (of the default configuration, where there are several)."""
    images: Mapping[str, int]
    """Images of each split, as tfds prepares it."""
    terms: str
    """Its license, or what its authors say about its use."""
    addresses: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """What to try, in this order, in place of the address that tfds has of a file."""

    @property
    def archives(self) -> str:
        """The size of what is downloaded."""
        return f"{self.size / 2**20:,.0f} MiB to download"


# The hashes that tfds has of archives hold for whichever address serves them.
_PETS, _PETS_PAGE = "https://thor.robots.ox.ac.uk/~vgg/data/pets", "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
_SKETCH = "1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA"

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("cifar10", 170_052_171, {"train": 50_000, "test": 10_000}, "no license; its authors ask to be cited"),
        Entry("cifar100", 168_513_733, {"train": 50_000, "test": 10_000}, "no license; its authors ask to be cited"),
        Entry(
            "imagenette",
            1_557_161_267,
            {"train": 9_469, "validation": 3_925},
            "those of ImageNet: non-commercial research and education only",
        ),
        Entry(
            "cats_vs_dogs",
            824_887_076,
            {"train": 23_262},
            "Microsoft's and Petfinder's Asirra images, under the license of the download page",
        ),
        Entry(
            "stanford_dogs",
            815_912_960,
            {"train": 12_000, "test": 8_580},
            "those of ImageNet: non-commercial research and education only",
        ),
        Entry(
            "oxford_iiit_pet",
            811_092_049,
            {"train": 3_680, "test": 3_669},
            "CC BY-SA 4.0; the images belong to those who took them",
            {
                f"{_PETS}/{name}": (f"{_PETS}/{name}", f"{_PETS_PAGE}/{name}")
                for name in ("images.tar.gz", "annotations.tar.gz")
            },
        ),
        Entry(
            "oxford_flowers102",
            344_878_000,
            {"train": 1_020, "test": 6_149, "validation": 1_020},
            "no license; for research, its authors ask to be cited",
        ),
        Entry(
            "imagenet_sketch",
            7_593_573_012,
            {"test": 50_889},
            "MIT, its authors' word for the set; the drawings belong to those who made them",
            {
                # A file of this size has a page that asks for a confirmation at tfds's address; the second one is an
                # author's.
                f"https://drive.google.com/u/0/uc?id={_SKETCH}&export=download": (
                    f"https://drive.usercontent.google.com/download?id={_SKETCH}&export=download&confirm=t",
                    "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
                ),
            },
        ),
    )
}
"""By name."""


def base_name(name: str) -> str:
    """Return the set of a name with a version or a configuration, such as "imagenette/160px-v2"."""
    return name.partition(":")[0].partition("/")[0]


def files(builder: Any) -> dict[str, Any]:
    """Return what tfds registers of the files of a catalog set: by URL, with `size`, `checksum` and `filename`."""
    from tensorflow_datasets.core.download import checksums

    return checksums.get_all_url_infos() | (builder.url_infos or {})
