"""Load the data set that the settings describe, as splits whose canvases are read by index."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt, UInt64

from imgcls_jax.config.data import Canvas, Data, Source
from imgcls_jax.data import groups
from imgcls_jax.data.bad_rows import BadRows
from imgcls_jax.data.cache import Canvases, make_canvases
from imgcls_jax.data.examples import Encoded, Examples, Labels, Progress, Splits, check
from imgcls_jax.data.ids import ChosenIds
from imgcls_jax.data.split import fold, hold_out, record, split_hash
from imgcls_jax.disk import outputs
from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.errors import UserError

# Fewer validation images than this are remarked on.
_FEW = 50


@dataclass(frozen=True)
class BadImage:
    """An image that could not be read and was set aside."""

    path: str
    """Its path below the source's folder, or its record in the source."""
    split: str
    """"train", "validation" or "test"."""
    reason: str


class Split:
    """The readable examples of one split in a fixed order, whose canvases are read by index."""

    def __init__(self, name: str, canvas: Canvas, examples: Examples, canvases: Canvases, rows: np.ndarray):
        self.name = name
        """"train", "validation" or "test"."""
        self.canvas = canvas
        """How the canvases are made."""
        self.labels: Labels = examples.labels[rows]
        """Class of each example, its labels, or the numbers to predict of it."""
        self.aspect: Float32[np.ndarray, " n"] = canvases.aspect[rows]
        """Width / height of each original image; 1 where `canvas.fit` is "crop"."""
        self.content: UInt64[np.ndarray, " n"] = canvases.content[rows]
        """Hash of each encoded image."""
        self.ids: Sequence[str] = examples.ids if len(rows) == len(examples) else ChosenIds(examples.ids, rows)
        """Path or record of each example."""
        self._examples, self._canvases = examples, canvases
        # None: all examples of the source's split.
        self._rows: Int64[np.ndarray, " n"] | None = None if len(rows) == len(examples) else rows

    def __len__(self) -> int:
        return len(self.labels)

    def among(self, content: UInt64[np.ndarray, " k"]) -> list[str]:
        """Return the ids of the examples whose image is one of those with these hashes."""
        return [self.ids[row] for row in np.flatnonzero(np.isin(self.content, content)).tolist()]

    @property
    def nbytes(self) -> int:
        """Bytes of all canvases together."""
        return len(self) * self.canvas.nbytes

    @property
    def storage(self) -> str:
        """How the canvases are stored, in words."""
        return self._canvases.storage

    def class_counts(self, num_classes: int) -> Int64[np.ndarray, " classes"]:
        """Count the examples of each class, or with each label; all of them have each number."""
        if self.labels.ndim == 2:
            return (self.labels >= (1 if self.labels.dtype == np.uint8 else -np.inf)).sum(0)
        return np.bincount(self.labels, minlength=num_classes)

    def read(self, indices: Int64[np.ndarray, " b"]) -> UInt[np.ndarray, "b h w c"]:
        """Return the canvases of these examples, 0 … len − 1, in any order and number. Thread-safe."""
        indices = np.asarray(indices)
        return self._canvases.read(indices if self._rows is None else self._rows[indices])

    def read_all(self) -> UInt[np.ndarray, "n h w c"]:
        """Return all canvases, read-only; not copied where they are cached as they are and none is held out."""
        if self._rows is None and self._canvases.stored is not None:
            return self._canvases.stored
        return self.read(np.arange(len(self)))

    def read_original(self, indices: Int64[np.ndarray, " b"]) -> list[Encoded]:
        """Return the images of these examples as the source holds them: files, bytes of files, or pixels."""
        chosen = indices if self._rows is None else self._rows[indices]
        return self._examples.read(chosen.tolist())


@dataclass(frozen=True)
class Dataset:
    """What a run trains and is evaluated on."""

    train: Split
    validation: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    """Name of each class, by label; or of each label or number, by its column."""
    split_hash: str
    """12 hexadecimal digits that change when an image is added to a split, removed from it, relabeled, or has other
    content."""
    bad: list[BadImage]
    """The unreadable images, which were set aside; also in WORKDIR/bad_images.csv."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was passed over, and what the splits cannot tell."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that exist, training first."""
        return tuple(s for s in (self.train, self.validation, self.test) if s is not None)


def load(
    config: Data,
    workdir: Path | None = None,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Open the source, split it, and make every canvas or find it in the cache.

    Example:
      >>> import numpy as np
      >>> from imgcls_jax import config as c
      >>> settings = c.Data(c.Arrays(), c.Canvas(8, 8), (8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, validation_share=0.25)
      >>> arrays = {"x_train": np.zeros((16, 8, 8, 3), np.uint8), "y_train": np.arange(16) % 2}
      >>> dataset = load(settings, arrays=arrays)
      >>> len(dataset.train), len(dataset.validation), dataset.class_names
      (12, 4, ('0', '1'))

    Args:
      config: what to load.
      workdir: where split.npz and bad_images.csv are written; None: nowhere.
      arrays: the arrays of an `Arrays` source without a path.
      on_progress: called as on_progress(label, done, total) while the source is opened and images are decoded.

    Raises:
      UserError: the source is not as the settings say; too many images are unreadable; or `workdir` belongs to a run on
        other data.
    """
    source = groups.of_paths(_open(config.source, arrays, on_progress, workdir), config.group_pattern)
    parts = _split(source, config)
    cache = Path(config.cache_dir).expanduser() if config.cache_dir else cache_dir() / "canvases"
    eval_canvas = config.eval_canvas or config.canvas

    splits: dict[str, Split] = {}
    rows_kept: dict[str, np.ndarray] = {}
    bad: list[BadImage] = []
    shared: dict[str, Canvases] = {}
    for name, (examples, rows) in parts.items():
        canvas = config.canvas if name == "train" else eval_canvas
        _refuse_other_pixels(examples, canvas, source.title)
        own = rows
        # Held-out examples share the cache of the split that they are taken from, whatever the share and its seed,
        # unless their canvas is a different one.
        if separate := eval_canvas != config.canvas and len(rows) < len(examples):
            examples, own = examples.take(rows), np.arange(len(rows))
        canvases = shared.get(examples.name) if not separate else None
        if canvases is None:
            canvases = make_canvases(
                examples,
                canvas,
                folder=cache,
                limit=int(config.cache_gib * 2**30),
                encoding=config.cache_encoding,
                workers=config.workers,
                on_progress=on_progress,
            )
            shared[examples.name] = canvases
        unreadable = np.isin(own, list(canvases.bad))
        bad += [BadImage(examples.ids[i], name, canvases.bad[i]) for i in own[unreadable].tolist()]
        splits[name] = Split(name, canvas, examples, canvases, own[~unreadable])
        rows_kept[name] = rows[~unreadable]

    if workdir is not None and bad:
        _list_bad(workdir, bad)
    _refuse_too_many_bad(bad, sum(len(rows) for _, rows in parts.values()), config, source, workdir)
    _refuse_vanished_classes(parts["train"][0].labels, splits["train"], source.class_names)
    hash_ = split_hash({name: (split.ids, split.labels, split.content) for name, split in splits.items()})
    recorded = record(workdir, hash_, rows_kept, splits["train"].content) if workdir is not None else []
    validation = splits.get("validation")
    notes = (*source.notes, *recorded, *_validation_notes(validation), *_drawn_notes(source, config))
    return Dataset(splits["train"], validation, splits.get("test"), source.class_names, hash_, bad, notes)


def _open(
    source: Source, arrays: Mapping[str, np.ndarray] | None, on_progress: Progress | None, workdir: Path | None
) -> Splits:
    name = type(source).__name__
    if arrays is not None and not source.takes_arrays:
        raise UserError(f"arrays were given, but data.source is {name}: use Arrays()")
    try:
        return check(source.open(arrays, on_progress), opened=name)
    except BadRows as error:
        if workdir is None:
            raise
        raise UserError(f"{error.listed_in(workdir)}: correct or remove them") from error


def _split(source: Splits, config: Data) -> dict[str, tuple[Examples, Int64[np.ndarray, " n"]]]:
    """Return, for each split, the examples that it is taken from and the indices of those it takes."""
    rows = np.arange(len(source.train))
    given = {"validation": source.validation, "test": source.test}
    shares = {"validation": config.validation_share, "test": config.test_share}
    _refuse_two_validations(source, config)
    parts: dict[str, tuple[Examples, Int64[np.ndarray, " n"]]] = {}
    for name in ("test", "validation"):  # The test first: its share is one of all images.
        examples, share = given[name], shares[name]
        if examples is not None and share > 0:
            raise UserError(
                f"data.{name}_share is {share:g}, but {source.title} has a {name} split of its own: set it to 0"
            )
        if examples is not None:
            parts[name] = (examples, np.arange(len(examples)))
        elif share > 0 or (name == "validation" and config.fold):
            labels, together = _strata(source.train.labels[rows]), source.train.groups
            grouped = None if together is None else [together[i] for i in rows.tolist()]
            if share > 0:
                kept, held = hold_out(labels, share, config.split_seed, source.class_names, name, grouped)
            else:
                assert config.fold is not None
                kept, held = fold(labels, *config.fold, config.split_seed, source.class_names, grouped)
            parts[name] = (source.train, rows[held])
            rows = rows[kept]
    parts["train"] = (source.train, rows)
    parts = {name: parts[name] for name in ("train", "validation", "test") if name in parts}
    groups.refuse_divided(parts, source.title)
    return parts


def _strata(labels: Labels) -> Int32[np.ndarray, " n"]:
    """The class within which examples are held out: the same for all where each has several labels, or numbers."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int32)


def _drawn_notes(source: Splits, config: Data) -> list[str]:
    held = config.validation_share or config.test_share or config.fold
    if source.train.labels.ndim == 1 or not held:
        return []
    return [
        "the images that are held out are drawn at random: a stratified split is for one class per image, so look that "
        "each label has images in every split"
    ]


def _refuse_two_validations(source: Splits, config: Data) -> None:
    if config.fold is None:
        return
    which, count = config.fold
    if which >= count:
        raise UserError(
            f"data.fold = {config.fold}: folds are counted from 0, so that the last of {count} is {count - 1}"
        )
    if source.validation is not None or config.validation_share:
        has = (
            f"{source.title} has a validation split of its own"
            if source.validation is not None
            else "so does data.validation_share"
        )
        raise UserError(
            f"data.fold = {config.fold} says which images are held out for validation, but {has}: keep one of them"
        )


def _validation_notes(validation: Split | None) -> list[str]:
    if validation is None:
        return [
            "there are no validation images, so that nothing measures the model while it trains: "
            "data.validation_share = 0.1 holds out a tenth of the training images"
        ]
    if (count := len(validation)) >= _FEW:
        return []
    # The standard error of a share that is near one half is greatest.
    return [
        f"only {count} validation images: each is {100 / count:.1f} % of the accuracy, whose standard error is up to "
        f"{50 / count**0.5:.0f} %, so that small differences between epochs or runs say nothing"
    ]


def _refuse_other_pixels(examples: Examples, canvas: Canvas, title: str) -> None:
    """Refuse arrays of other channels, and to reduce 16 bits to 8, as sensors seldom use the whole range."""
    if examples.pixels is None:
        return
    where, channels = f"the {examples.name} images of {title}", examples.pixels.shape[3]
    if channels != canvas.channels and (not canvas.is_picture or channels not in (1, 3)):
        raise UserError(f"{where} have {channels} channels, but data.canvas.channels is {canvas.channels}")
    if examples.pixels.dtype == np.uint16 and canvas.depth == 8:
        raise UserError(f"{where} are uint16, but data.canvas.depth is 8: set it to 16, or scale the images to uint8")


def _list_bad(workdir: Path, bad: list[BadImage]) -> None:
    with outputs.writing(workdir / "bad_images.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "reason"])
        writer.writerows((image.path, image.split, image.reason) for image in bad)


def _refuse_too_many_bad(bad: list[BadImage], total: int, config: Data, source: Splits, workdir: Path | None) -> None:
    if len(bad) <= config.max_bad_share * total:
        return
    first = f"{bad[0].path} ({bad[0].reason})"
    where = f"listed in {workdir / 'bad_images.csv'}; the first is" if workdir is not None else "the first is"
    raise UserError(
        f"{len(bad)} of {total} images of {source.title} cannot be read, {where} {first}: "
        f"repair or remove them, or raise data.max_bad_share (now {config.max_bad_share:g})"
    )


def _refuse_vanished_classes(listed: Labels, train: Split, class_names: tuple[str, ...]) -> None:
    if listed.ndim == 2:
        return
    gone = np.setdiff1d(listed, train.labels)
    if len(gone):
        raise UserError(f'no training image of class "{class_names[gone[0]]}" can be read: see bad_images.csv')
