"""Sets in the format of Hugging Face's `datasets`: a folder that it saved, or one of its cache or of the hub."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import download
from imgcls_jax.config.data import PathText, Source
from imgcls_jax.data.examples import Encoded, Examples, Progress, Splits, digest, no_progress
from imgcls_jax.data.files import described
from imgcls_jax.data.sources import layout
from imgcls_jax.data.sources.folder import alike
from imgcls_jax.data.sources.table import USUAL, sorted_labels
from imgcls_jax.errors import UserError, did_you_mean, short

# What `save_to_disk` writes beside the splits, or beside the rows where there are none.
_MARKS = ("dataset_dict.json", "state.json")
_UNLABELED = -1  # by the convention of `datasets`
_CHUNK = 65_536


class HFDataset(Source):
    """A set in the format of Hugging Face's `datasets` (which needs the extra `datasets`): a folder that `save_to_disk`
    wrote, or the name of a set, taken from the local cache or downloaded from the hub. Images are decoded here, within
    the limits of `data.canvas`."""

    path: PathText
    """The folder, or the name of a set, such as "uoft-cs/cifar10". A folder that `save_to_disk` did not write is read
    as `load_dataset` reads it."""
    image: str | None = None
    """Column of the images: of the feature Image, or with the bytes of image files; None: the only one of the feature
    Image."""
    label: str | None = None
    """Column of the classes: ClassLabel, whole numbers or texts; None: the only ClassLabel, or the column called label,
    class, target, … (docs/data.md)."""
    group: str | None = None
    """Column of what the images have in common, such as the patient; None: the one called group, patient, subject,
    session or video, if there is one; "": none."""
    train: str | None = None
    """Name of the split of the training images; None: the one called train or training. A set that was saved without
    splits is all training."""
    validation: str | None = None
    """Name of the validation split; None: the one called val, valid or validation, if there is one; "": none."""
    test: str | None = None
    """Name of the test split; None: the one called test or testing, if there is one; "": none."""
    subset: str | None = None
    """Configuration of a named set that has several; None: its only or default one."""
    class_names: tuple[str, ...] = ()
    """The classes in order, where labels are their numbers from 0, or to fix the order of names. (): those of the
    ClassLabel, or else the training labels, in sorted order."""
    data_dir: PathText | None = None
    """Where `datasets` keeps the sets that it loaded by name; None: $HF_DATASETS_CACHE, else its usual folder."""

    def open(self, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress | None = None) -> Splits:
        """Read all labels; images are read when they are asked for.

        Raises:
          UserError: `datasets` is not installed; there is no such set, split or column; or images have no label.
        """
        on_progress = on_progress or no_progress
        on_progress(f"opening the data set {self.path}", 0, None)
        datasets = import_datasets(f"the data set {self.path}")
        found = self._load(datasets)
        title = f"the data set {self.path}"
        tables = dict(found) if isinstance(found, dict) else {"train": found}
        chosen = self._chosen(list(tables), title)
        image, label, group = self._columns(datasets, tables[chosen["train"]].features, title)
        for name in chosen.values():
            if lacking := [column for column in (image, label) if column not in tables[name].features]:
                raise UserError(f'the split {name} of {title} has no column "{lacking[0]}", unlike its training images')
        feature = tables[chosen["train"]].features[label]
        named = isinstance(feature, datasets.ClassLabel)
        if named and self.class_names:
            raise UserError(f'column "{label}" of {title} has names of its classes: leave out data.source.class_names')
        for name in chosen.values():
            if named and tables[name].features[label] != feature:
                raise UserError(f'the classes in column "{label}" of {title} differ between its splits')
        labels = {
            split: _labels(tables[name], label, f"{split} split of {title}", _UNLABELED if named else None)
            for split, name in chosen.items()
        }
        # By name, as in a table, where they are not known: whole numbers need not begin at 0.
        class_names = tuple(
            feature.names if named else self.class_names or sorted_labels(set(map(str, labels["train"])))
        )
        numbered = named or bool(self.class_names)
        splits = {
            split: Examples(
                name=split,
                labels=_numbers(
                    labels[split], class_names, numbered, f'column "{label}" of the {split} split of {title}'
                ),
                **_images(datasets, tables[name], image, name),
                groups=_groups(tables[name], group),
            )
            for split, name in chosen.items()
        }
        notes = [*self._notes(image, label, group), *alike(class_names)]
        return Splits(splits["train"], splits.get("validation"), splits.get("test"), class_names, title, tuple(notes))

    def _load(self, datasets: Any) -> Any:
        """A `Dataset`, or a dictionary of them by split."""
        folder = Path(os.path.expanduser(self.path))
        try:
            if is_saved(folder):
                return datasets.load_from_disk(os.fspath(folder))
            named = os.fspath(folder.absolute()) if folder.exists() else self.path
            return datasets.load_dataset(named, self.subset, cache_dir=self.data_dir)
        except Exception as error:  # ConnectionError, FileNotFoundError, ValueError, ArrowInvalid …, by the mistake
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the data set {self.path} cannot be opened ({reason}): give a folder that `save_to_disk` wrote, or "
                "the name of a set that is in the cache of `datasets` or can be downloaded"
            ) from error

    def _chosen(self, names: Sequence[str], title: str) -> dict[str, str]:
        """The set's own name of each split that is taken."""
        chosen: dict[str, str] = {}
        for split in layout.NAMES:
            name = getattr(self, split)
            if name and name not in names:
                raise UserError(
                    f'{title} has no split "{name}" (data.source.{split}){did_you_mean(name, names)}: its splits are '
                    f"{', '.join(names)}"
                )
            fitting = [name] if name else [own for own in names if layout.split_of(own) == split]
            if name is None and len(fitting) > 1:
                raise UserError(f"{title} has both {fitting[0]} and {fitting[1]}: say which by data.source.{split}")
            if name != "" and fitting:
                chosen[split] = fitting[0]
        if "train" not in chosen:
            raise UserError(
                f"{title} has no training split: its splits are {', '.join(names)}; name one by data.source.train"
            )
        for split, name in chosen.items():
            if split != "train" and name in [other for before, other in chosen.items() if before != split]:
                raise UserError(
                    f'data.source takes the split "{name}" of {title} twice, once as {split}: give splits that have '
                    "no images in common"
                )
        return chosen

    def _columns(self, datasets: Any, features: Mapping[str, Any], title: str) -> tuple[str, str, str | None]:
        """The columns of the images, the labels and, if there is one, the groups."""
        for role in ("image", "label", "group"):
            name = getattr(self, role)
            if name and name not in features:
                raise UserError(
                    f'{title} has no column "{name}" (data.source.{role}){did_you_mean(name, features)}: its columns '
                    f"are {_listed(features)}"
                )
        images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
        image = self.image or _only(images, "image", "of the feature Image", features, title)
        if not _holds_images(datasets, features[image]):
            raise UserError(
                f'column "{image}" of {title} is {_kind(features[image])}, not Image or the bytes of image files'
                + (f": its images are in {_listed(images)}" if images else "")
            )
        usual = [name for name in features if name.lower() in USUAL["label"]]
        label = self.label or _only(classes or usual, "label", "of the feature ClassLabel", features, title)
        if not isinstance(features[label], datasets.ClassLabel) and not _is_plain(datasets, features[label]):
            raise UserError(
                f'column "{label}" of {title} is {_kind(features[label])}, not ClassLabel, whole numbers or texts'
            )
        groups = [name for name in features if name.lower() in USUAL["group"]]
        return image, label, self.group if self.group is not None else next(iter(groups), None)

    def _notes(self, image: str, label: str, group: str | None) -> list[str]:
        taken = {"image": image, "label": label, "group": group}
        columns = [f'"{name}" as the {role}' for role, name in taken.items() if name and getattr(self, role) is None]
        return [f"columns of the data set: {', '.join(columns)}"] if columns else []


def is_saved(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote a folder."""
    return any((folder / mark).is_file() for mark in _MARKS)


def import_datasets(what: str) -> Any:
    """Import the package.

    Raises:
      UserError: it is not installed; `what` needs it.
    """
    if download.is_offline():  # It is read at the import, in whatever order packages are.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{what} needs datasets, which is not installed: run pip install 'imgcls_jax[datasets]'"
        ) from error
    return datasets


def _only(fitting: Sequence[str], role: str, kind: str, features: Mapping[str, Any], title: str) -> str:
    if len(fitting) > 1:
        raise UserError(
            f"{title} has the columns {_listed(fitting)}, each of which may be its {role}: say which by "
            f"data.source.{role}"
        )
    if not fitting:
        raise UserError(f"{title} has no column {kind}: its columns are {_listed(features)}; set data.source.{role}")
    return fitting[0]


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _kind(feature: Any) -> str:
    return getattr(feature, "dtype", None) or type(feature).__name__


def _holds_images(datasets: Any, feature: Any) -> bool:
    if isinstance(feature, dict):  # an Image whose feature was lost on the way through Parquet
        return "bytes" in feature
    return isinstance(feature, datasets.Image) or _kind(feature) in ("binary", "large_binary")


def _is_plain(datasets: Any, feature: Any) -> bool:
    if not isinstance(feature, datasets.Value):
        return False
    return feature.dtype in ("string", "large_string", "bool") or feature.dtype.lstrip("u").startswith("int")


def _cells(table: Any, column: str) -> list[Any]:
    """All cells of a column, as Python's own values."""
    return table.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()


def _labels(table: Any, column: str, where: str, unlabeled: int | None) -> list[int | str]:
    labels = _cells(table, column)
    if not labels:
        raise UserError(f"the {where} has no images")
    if missing := sum(label in (None, "", unlabeled) for label in labels):
        split = where.partition(" ")[0]
        advice = f'leave it out by data.source.{split} = ""' if split != "train" else "remove those rows"
        raise UserError(f'{missing:,} of {len(labels):,} images of the {where} have no label in "{column}": {advice}')
    return labels


def _numbers(labels: Sequence[int | str], class_names: Sequence[str], numbered: bool, where: str) -> np.ndarray:
    """The number of each label: its own where labels are numbers of classes, else that of the class of its name."""
    by_name = {name: number for number, name in enumerate(class_names)}
    numbers: dict[int | str, int] = {}
    for label in dict.fromkeys(labels):
        if numbered and not isinstance(label, str):
            number = int(label) if 0 <= label < len(class_names) else None
        else:
            number = by_name.get(str(label))
        if number is None:
            raise UserError(
                f"{where} has the label {short(label)}, which is none of the {len(class_names)} classes"
                f"{did_you_mean(str(label), class_names)}"
            )
        numbers[label] = number
    return np.array([numbers[label] for label in labels], np.int32)


def _groups(table: Any, column: str | None) -> list[str] | None:
    return None if not column or column not in table.features else [str(cell) for cell in _cells(table, column)]


def _images(datasets: Any, table: Any, column: str, split: str) -> dict[str, Any]:
    """The ids, the fingerprint and the reader of the images of a split, for `Examples`."""
    images = table.select_columns([column]).with_format(None)
    if isinstance(table.features[column], datasets.Image):
        images = images.cast_column(column, datasets.Image(decode=False))  # the bytes or the path of each file
    paths = _paths(images, column)

    def fingerprint() -> str:
        stored = [Path(file["filename"]) for file in table.cache_files]
        outside = [path for path in paths if path and os.path.isabs(path)]
        return digest(
            [
                f"{split} {column} {len(table)} {table._fingerprint}",
                *(f"{file} {described(file).version}" for file in stored),
                *(f"{file} {described(Path(file)).version}" for file in outside),
            ]
        )

    def read(indices: Sequence[int]) -> list[Encoded]:
        return [_encoded(cell) for cell in images[list(indices)][column]]

    names = [Path(path).name if path else "" for path in paths]
    ids = [f"{split}[{row}] {name}".rstrip() for row, name in enumerate(names)]
    return {"ids": ids, "fingerprint": fingerprint, "read": read}


def _paths(images: Any, column: str) -> list[str | None]:
    """The path of each image that has one, without reading images."""
    if not isinstance(images.features[column], dict) and _kind(images.features[column]) in ("binary", "large_binary"):
        return [None] * len(images)
    rows, paths = images.with_format("arrow"), []
    for start in range(0, len(images), _CHUNK):
        for cells in rows[start : start + _CHUNK].column(column).chunks:  # not copied: they hold the images
            if "path" not in [field.name for field in cells.type]:
                return [None] * len(images)
            paths += cells.field("path").to_pylist()
    return paths


def _encoded(cell: Any) -> Encoded:
    """The bytes of an image, or else the file; one without either counts as empty, and so as unreadable."""
    if isinstance(cell, dict):
        content, path = cell.get("bytes"), cell.get("path")
        return content if content is not None else Path(path) if path else b""
    return cell or b""
