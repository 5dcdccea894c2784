"""`load`: from the settings to splits whose canvases can be read by index."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from imgcls_jax.config.data import TFDS, Arrays, Canvas, Data, Folder
from imgcls_jax.data.arrays import open_arrays
from imgcls_jax.data.cache import Canvases, Progress, make_canvases
from imgcls_jax.data.folder import open_folder
from imgcls_jax.data.source import Examples, Source
from imgcls_jax.data.split import hold_out, record, split_hash
from imgcls_jax.data.tfds import open_tfds
from imgcls_jax.errors import UserError


@dataclass(frozen=True)
class BadImage:
    """An image that could not be read and was set aside."""

    path: str
    """Its path below the source's folder, or its record in the source."""
    split: str
    """"train", "validation" or "test"."""
    reason: str


class Split:
    """The readable examples of one split, in a fixed order, as canvases that are read by index."""

    def __init__(self, name: str, canvas: Canvas, examples: Examples, canvases: Canvases, rows: np.ndarray):
        self.name = name
        """"train", "validation" or "test"."""
        self.canvas = canvas
        """Size and making of the canvases."""
        self.labels: Int32[np.ndarray, " n"] = examples.labels[rows]
        """Class of each example."""
        self.aspect: Float32[np.ndarray, " n"] = canvases.aspect[rows]
        """Width / height of each original image; 1 where `canvas.fit` is "crop"."""
        self.ids: list[str] = [examples.ids[i] for i in rows.tolist()]
        """Path or record of each example."""
        self._canvases = canvases
        self._rows = None if len(rows) == len(examples) else rows

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all canvases together."""
        return len(self) * self.canvas.height * self.canvas.width * self.canvas.channels

    @property
    def storage(self) -> str:
        """How the canvases are kept, in words."""
        return self._canvases.storage

    def class_counts(self, num_classes: int) -> Int64[np.ndarray, " classes"]:
        """Number of examples of each class."""
        return np.bincount(self.labels, minlength=num_classes)

    def read(self, indices: Int64[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Canvases of these examples, 0 … len − 1, in any order and number. Thread-safe."""
        indices = np.asarray(indices)
        return self._canvases.read(indices if self._rows is None else self._rows[indices])

    def read_all(self) -> UInt8[np.ndarray, "n h w c"]:
        """All canvases; read-only, and without a copy where they are cached and the split is all of its source."""
        if self._rows is None and self._canvases.stored is not None:
            return self._canvases.stored
        return self.read(np.arange(len(self)))


@dataclass(frozen=True)
class Dataset:
    """What a run trains and is evaluated on."""

    train: Split
    validation: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    """Name of each class, by label."""
    split_hash: str
    """12 hexadecimal digits that change when any split gains, loses or relabels an example."""
    bad: list[BadImage]
    """The unreadable images, set aside; also in WORKDIR/bad_images.csv."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are, training first."""
        return tuple(s for s in (self.train, self.validation, self.test) if s is not None)


def load(
    config: Data,
    workdir: Path | None = None,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Opens the source, splits it, and makes (or finds in the cache) every canvas.

    Args:
        config: what to load.
        workdir: where split.npz and bad_images.csv are written; None: nowhere.
        arrays: the arrays of an `Arrays` source without a path.
        on_progress: called with a split's name, the images decoded and the images in all, while decoding.

    Raises:
        UserError: the source is not as the settings say; too many images are unreadable; or `workdir` belongs to a
            run on other data.
    """
    source = _open(config.source, arrays)
    parts = _split(source, config)
    cache = Path(config.cache_dir or os.environ.get("IMGCLS_CACHE") or "~/.cache/imgcls_jax").expanduser()
    eval_canvas = config.eval_canvas or config.canvas

    splits: dict[str, Split] = {}
    rows_kept: dict[str, np.ndarray] = {}
    bad: list[BadImage] = []
    shared: dict[str, Canvases] = {}
    for name, (examples, rows) in parts.items():
        canvas = config.canvas if name == "train" else eval_canvas
        own = rows
        # Held-out examples share the cache of the split that they come from, whatever the share and its seed,
        # unless their canvas is another one.
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
    hash_ = split_hash({name: (split.ids, split.labels) for name, split in splits.items()})
    if workdir is not None:
        record(workdir, hash_, rows_kept)
    return Dataset(splits["train"], splits.get("validation"), splits.get("test"), source.class_names, hash_, bad)


def _open(source: TFDS | Folder | Arrays, arrays: Mapping[str, np.ndarray] | None) -> Source:
    if arrays is not None and not isinstance(source, Arrays):
        raise UserError(f"arrays were given, but data.source is {type(source).__name__}: use Arrays()")
    match source:
        case TFDS():
            return open_tfds(source)
        case Folder():
            return open_folder(source)
        case Arrays():
            return open_arrays(source, arrays)


def _split(source: Source, config: Data) -> dict[str, tuple[Examples, Int64[np.ndarray, " n"]]]:
    """Of each split: the examples that it is taken from, and which of them."""
    rows = np.arange(len(source.train))
    given = {"validation": source.validation, "test": source.test}
    shares = {"validation": config.validation_share, "test": config.test_share}
    parts = {}
    for name in ("test", "validation"):  # The test first: its share is one of all images.
        examples, share = given[name], shares[name]
        if examples is not None and share > 0:
            raise UserError(
                f"data.{name}_share is {share:g}, but {source.title} has a {name} split of its own: set it to 0"
            )
        if examples is not None:
            parts[name] = (examples, np.arange(len(examples)))
        elif share > 0:
            kept, held = hold_out(source.train.labels[rows], share, config.split_seed, source.class_names, name)
            parts[name] = (source.train, rows[held])
            rows = rows[kept]
    parts["train"] = (source.train, rows)
    return {name: parts[name] for name in ("train", "validation", "test") if name in parts}


def _list_bad(workdir: Path, bad: list[BadImage]) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / "bad_images.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "reason"])
        writer.writerows((image.path, image.split, image.reason) for image in bad)


def _refuse_too_many_bad(bad: list[BadImage], total: int, config: Data, source: Source, workdir: Path | None) -> None:
    if len(bad) <= config.max_bad_share * total:
        return
    first = f"{bad[0].path} ({bad[0].reason})"
    where = f"listed in {workdir / 'bad_images.csv'}; the first is" if workdir is not None else "the first is"
    raise UserError(
        f"{len(bad)} of {total} images of {source.title} cannot be read, {where} {first}: "
        f"repair or remove them, or raise data.max_bad_share (now {config.max_bad_share:g})"
    )


def _refuse_vanished_classes(listed: Int32[np.ndarray, " n"], train: Split, class_names: tuple[str, ...]) -> None:
    gone = np.setdiff1d(listed, train.labels)
    if len(gone):
        raise UserError(f'no training image of class "{class_names[gone[0]]}" can be read: see bad_images.csv')
