"""Read every image of a prepared set, and say what is wrong."""

import dataclasses
import io
import warnings
from pathlib import Path

from PIL import Image

from imgcls_jax.data.catalog.entries import ENTRIES, base_name
from imgcls_jax.data.examples import Progress
from imgcls_jax.data.sources.tfds import TFDS, prepared_builder
from imgcls_jax.errors import UserError

_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Verified:
    """What a set holds."""

    name: str
    folder: Path
    images: dict[str, int]
    """Of each split."""
    classes: int


def verify(name: str, data_dir: Path, on_progress: Progress) -> Verified:
    """Read all labels and decode all images of a prepared set.

    Args:
      name: of the set, with an optional version or configuration.
      data_dir: the folder of tfds's sets.
      on_progress: called with a label, the images read and those in all.

    Raises:
      UserError: the set is not there; a file is damaged, an image or label cannot be read, or the number of images of a
        split is not the catalog's.
    """
    import tensorflow_datasets as tfds

    builder = prepared_builder(tfds, name, data_dir)
    folder = Path(builder.data_dir)
    counts: dict[str, int] = {}
    classes: tuple[str, ...] = ()
    for split in builder.info.splits:
        source = TFDS(name, train=split, validation=None, test=None, data_dir=str(data_dir)).open(None, on_progress)
        examples, classes = source.train, source.class_names
        counts[split] = len(examples)
        for start in range(0, len(examples), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(examples)))
            for index, content in zip(indices, examples.read(list(indices)), strict=True):
                assert isinstance(content, bytes)  # as those of every tfds set
                _decode(content, f"image {index} of the split {split} of {folder}", folder)
            on_progress(f"decoding the {split} images of {name}", indices.stop, len(examples))
    entry = ENTRIES.get(base_name(name))
    if entry and "/" not in name and counts != entry.images:
        raise UserError(
            f"{folder} holds {counts} images, but the set has {dict(entry.images)}: delete the folder and run `imgcls "
            f"data prepare {name}`"
        )
    return Verified(name, folder, counts, len(classes))


def _decode(content: bytes, title: str, folder: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{title} cannot be decoded ({error}): delete {folder} and prepare the set again") from error
