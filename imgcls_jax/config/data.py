"""Where the images come from and what becomes of each before the device sees it."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from imgcls_jax.config.base import settings

Share = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(gt=0)]


@settings
class TFDS:
    """A tfds catalogue set that is already prepared (see docs/data.md), or the built-in `imgcls_digits`."""

    name: str
    """Name in the catalogue, with an optional version: "cifar10", "cifar10:3.0.2", "imagenette/160px-v2"."""
    train: str
    """Split string of the training images, such as "train" or "train[:80%]"."""
    validation: str | None
    """Split string of the validation images; None: hold out `Data.validation_share` of the training images."""
    test: str | None
    """Split string of the test images; None: no test set."""
    data_dir: str | None = None
    """Where tfds keeps its sets; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    image_key: str = "image"
    """Name of the image feature."""
    label_key: str = "label"
    """Name of the label feature; it must be a ClassLabel."""
    kind: Literal["tfds"] = field(default="tfds", kw_only=True)


@settings
class Folder:
    """A folder of images: PATH/train/CLASS/*, and optionally PATH/(val|valid|validation)/CLASS/* and
    PATH/test/CLASS/*; or PATH/CLASS/*, which is split by `validation_share` and `test_share`. The folders may also be
    called train_images, val_images and so on."""

    path: str
    """The folder. Classes are the sub-folders' names in sorted order."""
    labelled_test: bool = True
    """False: the classes of PATH/test are unknown, so that it is left out here and is for `predict` only."""
    kind: Literal["folder"] = field(default="folder", kw_only=True)


@settings
class Arrays:
    """In-memory arrays: x_train uint8 [N, H, W, C] or [N, H, W], y_train integers [N], and optionally
    x_validation, y_validation, x_test, y_test and label_names."""

    path: str | None = None
    """An .npz file that holds these arrays; None: they are given to `train_and_evaluate(arrays=…)`."""
    kind: Literal["arrays"] = field(default="arrays", kw_only=True)


@settings
class Canvas:
    """The fixed uint8 image into which the host decodes and resizes every image, once, without randomness."""

    height: Pixels
    """Height, pixels."""
    width: Pixels
    """Width, pixels."""
    channels: Literal[1, 3] = 3
    """1: greyscale (ITU-R 601 luma); 3: RGB."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How an image of another shape fits: "crop" resizes until it covers the canvas and cuts the centre out
    (torchvision's Resize(short side) + CenterCrop), "stretch" ignores its aspect ratio, "pad" resizes until it
    fits inside and pads with black."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Pillow's antialiased filter of that name."""
    jpeg_decoding: Literal["full", "reduced"] = "full"
    """"full": every pixel of a JPEG is decoded and then resized, as with torchvision. "reduced": a JPEG is decoded at
    1/2, 1/4 or 1/8 of its size where that is no smaller than what it is resized to, several times as fast for large
    photographs. It changes pixels: on 200 photographs the mean difference was 2.6 of 255 levels where half the size was
    exactly what was needed (of the photograph that differed most 6.7; of any pixel 75), 1.0 where it was 1.5 times
    that, 2.7 at exactly 1/4 and 3.2 at 1/8."""


@settings
class Data:
    """The data set, its splits, its canvas and how it is fed."""

    source: Annotated[TFDS | Folder | Arrays, Field(discriminator="kind")]
    """Where the images come from."""
    canvas: Canvas
    """What the host makes of each training image."""
    image_size: tuple[Pixels, Pixels]
    """Height and width that enter the model, pixels. A larger canvas is cropped to it: by the augmentation's crop
    in training, at the centre otherwise."""
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
    split_seed: int = 0
    """Seed of the held-out splits, apart from the run's seed so that runs of different seeds compare."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """"shuffle": each training image once an epoch; "balanced": as many images an epoch, but every class equally
    often: images of rare classes repeat (augmented anew each time), of frequent ones a part is left out in turn."""
    feed: Literal["auto", "resident", "streamed"] = "auto"
    """"resident": all training canvases live on the device; "streamed": they come from the host batch by batch;
    "auto": resident if they fit beside the model in the device's memory. Both give the same parameters."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Decoding threads of the host. 0: one per core."""
    cache_dir: str | None = None
    """Where decoded canvases are cached; None: $IMGCLS_CACHE, else ~/.cache/imgcls_jax."""
    cache_gib: Annotated[float, Field(ge=0)] = 20.0
    """Largest canvas cache of one split, GiB. Canvases are stored as they are where that fits, else as `cache_encoding`
    says; where that does not fit either, they are decoded anew each epoch. 0: no cache."""
    cache_encoding: Literal["webp", "jpeg", "none"] = "webp"
    """How canvases are stored that do not fit as they are. "webp": lossless, about 0.4 of the size. "jpeg": less than
    half of that and read twice as fast, but pixels change (quality 95, no chroma subsampling; see docs/data.md).
    "none": not at all."""
    max_bad_share: Share = 0.01
    """Largest share of unreadable images with which the run goes on. They are set aside and listed by path in
    bad_images.csv, never deleted."""
