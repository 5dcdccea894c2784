"""Settings of the data: where the images come from, and what the host does with each before the device gets it."""

import os
import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from imgcls_jax.config.registry import Component, settings
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from imgcls_jax.data.examples import Progress, Splits

Share = Annotated[float, Field(ge=0, lt=1)]


def _path_text(path: object) -> object:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if isinstance(text, str) and not text.strip():  # Path("") would be the current folder
        raise ValueError('the path is empty: was it written with a variable that is not set? "." is the current folder')
    return text


PathText = Annotated[str, BeforeValidator(_path_text)]
"""A path as text, not empty; a `pathlib.Path` is converted."""


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


Pixels = Annotated[int, Field(gt=0, le=16_384)]
Size = tuple[int, int]
"""Height and width, pixels. Pillow's own sizes are (width, height)."""


class Source(Component, root=True):
    """Where images and labels come from. A subclass states its settings and opens itself.

    Example:
      class Archive(c.Source):
          path: str
          \"\"\"A zip file of the images CLASS/….jpg.\"\"\"

          def open(self, arrays=None, on_progress=None):
              with zipfile.ZipFile(self.path) as archive:
                  pairs = [(archive.read(name), name.split("/")[0]) for name in archive.namelist()]
              return Splits.from_pairs(f"the archive {self.path}", train=pairs)
    """

    takes_arrays: ClassVar[bool] = False
    """Whether `open` takes the data in memory that are given to `train(arrays=…)`."""

    def open(self, arrays: "Mapping[str, np.ndarray] | None" = None, on_progress: "Progress | None" = None) -> "Splits":
        """List the images, with their labels, of every split that there is, without reading the images.

        Of a list of (image, label) pairs `imgcls_jax.data.Splits.from_pairs` makes what is to be returned. A source of
        more images than fit into memory, which are not files, gives `Splits` of `Examples` with a `read` of its own:
        their `labels`, `ids`, `fingerprint`, `read` and, optionally, `pixels` are described there.

        Held-out shares, the cache, unreadable images and batches are the same for all sources; the order of the
        examples must be the same each time, so that a run can be resumed.

        Args:
          arrays: data in memory, where `takes_arrays` is True; None: none are given.
          on_progress: to be called as on_progress(label, done, total) where opening may take seconds.

        Raises:
          UserError: the source is not as the settings say.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method open")

    def check(self, data: "Data") -> None:
        """Raise UserError where other settings of `data` contradict the source; called before any data is read."""

    def missing(self) -> str | None:
        """Return what is missing before the source can be opened, as a sentence; None if nothing is.

        No image is read. By default the source is opened, and its UserError is the sentence.
        """
        try:
            self.open()
        except UserError as error:
            return str(error)
        return None


@settings
class Canvas:
    """The fixed image, uint8 or uint16, that the host makes of each image: decoded and resized, without randomness."""

    height: Pixels
    """Height, pixels."""
    width: Pixels
    """Width, pixels."""
    channels: Annotated[int, Field(ge=1, le=16)] = 3
    """1: grayscale (ITU-R 601 luma); 3: RGB; other numbers: those of arrays and TIFF stacks (docs/data.md)."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How an image of another shape fits: "crop" resizes until it covers the canvas and cuts the center out
    (torchvision's Resize(short side) + CenterCrop), "stretch" ignores its aspect ratio, "pad" resizes until it
    fits inside and pads with black."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Pillow's antialiased filter of that name."""
    jpeg_decoding: Literal["full", "reduced"] = "full"
    """"full": every pixel of a JPEG is decoded and then resized, as with torchvision. "reduced": a JPEG is decoded at
    1/2, 1/4 or 1/8 of its size where that is no smaller than what it is resized to. That is several times as fast for
    large photographs, and changes pixels a little (docs/data.md says by how much)."""
    max_megapixels: Annotated[float, Field(gt=0, le=10_000)] = 500.0
    """Largest image that is decoded, millions of pixels; a larger one counts as unreadable. Each decoding thread holds
    one image, at 1 to 4 bytes per pixel and for a moment several times that; images above 89 megapixels are decoded one
    at a time. A JPEG decoded at a reduced size counts with that, unless it is progressive."""
    max_file_mib: Annotated[float, Field(gt=0, le=2**20)] = 2048.0
    """Largest image file that is read, MiB; a larger one counts as unreadable."""
    depth: Literal[8, 16] = 8
    """Bits per channel that are kept: 16 for microscopes, scanners and satellites (docs/data.md)."""

    @property
    def white(self) -> int:
        """The greatest value of a pixel."""
        return 2**self.depth - 1

    @property
    def dtype(self) -> str:
        """Type of a pixel, as numpy calls it."""
        return f"uint{self.depth}"

    @property
    def nbytes(self) -> int:
        """Bytes of one canvas."""
        return self.height * self.width * self.channels * self.depth // 8

    @property
    def is_picture(self) -> bool:
        """Whether it is what image files usually hold: gray or RGB, of 8 bits."""
        return self.channels in (1, 3) and self.depth == 8


@settings
class Data:
    """The data set, its splits, its canvas and how it is fed."""

    source: Source
    """Where the images come from."""
    canvas: Canvas
    """What the host makes of each training image."""
    image_size: tuple[Pixels, Pixels]
    """Height and width that enter the model, pixels. A larger canvas is cropped to it: by the augmentation's crop
    in training, at the center otherwise."""
    mean: tuple[float, ...]
    """Mean of each channel, on a scale where black is 0 and white is 1; subtracted after augmentation."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Standard deviation of each channel on the same scale; divided by after augmentation."""
    eval_canvas: Canvas | None = None
    """What the host makes of each validation and test image; None: as `canvas`."""
    validation_share: Share = 0.0
    """Share of the training images held out for validation, stratified by class, where the source has no
    validation split. 0: train without validation."""
    test_share: Share = 0.0
    """Share of all images held out for the test, stratified by class, where the source has no test split.
    0: no test set."""
    fold: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=2)]] | None = None
    """(k, n): hold out fold k, counted from 0, of n equal parts of the training images for validation, in place of
    `validation_share`; `imgcls tune cv` runs all of them. None: no folds."""
    group_pattern: Annotated[str, AfterValidator(_regular_expression)] | None = None
    """Regular expression that says by an image's path what it has in common with others, such as its patient: what its
    parentheses match, "patient([0-9]+)", or all that it matches. No such group is divided by a held-out share or fold.
    None: as the source says (`Table.group`), or every image by itself."""
    split_seed: int = 0
    """Seed of the held-out splits, apart from the run's seed so that runs of different seeds compare."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """"shuffle": each training image once per epoch; "balanced": as many images per epoch, but equally many of every
    class: images of rare classes are repeated (and augmented differently each time), of frequent classes a different
    part is left out in each epoch."""
    feed: Literal["auto", "resident", "streamed"] = "auto"
    """"resident": all training canvases are kept on the device; "streamed": they come from the host batch by batch;
    "auto": resident if they fit beside the model in the device's memory. Both give the same parameters."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Decoding threads of the host. 0: one per core."""
    cache_dir: PathText | None = None
    """Where decoded canvases are cached; None: `canvases` in $IMGCLS_CACHE, else in the user's cache folder (on Linux
    ~/.cache/imgcls_jax)."""
    cache_gib: Annotated[float, Field(ge=0)] = 20.0
    """Largest canvas cache of one split, GiB. Canvases are stored as they are if that fits, otherwise as
    `cache_encoding` says; if that does not fit either, images are decoded in every epoch. 0: no cache."""
    cache_encoding: Literal["webp", "jpeg", "none"] = "webp"
    """How canvases are stored that do not fit as they are. "webp": lossless, about 0.4 of the size. "jpeg": smaller and
    faster to read, but pixels change (quality 95, no chroma subsampling; see docs/data.md). "none": not at all."""
    max_bad_share: Share = 0.01
    """Largest share of unreadable images with which a run continues. They are set aside and listed in bad_images.csv,
    never deleted."""
