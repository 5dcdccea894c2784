"""A folder of images, one sub-folder per class."""

import contextlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.config.data import PathText, Source
from imgcls_jax.data.examples import Examples, Progress, Splits, no_progress
from imgcls_jax.data.files import ImageFiles, PassedOver, find_images, is_image, list_folder
from imgcls_jax.data.image_formats import KNOWN, REMEDIES
from imgcls_jax.data.sources import rows
from imgcls_jax.data.sources.layout import find_layout, passed_over
from imgcls_jax.errors import UserError, did_you_mean

_TABLES = (*rows.SUFFIXES, ".txt", ".json", ".xlsx")  # the last three as soon as they are saved as one of the others


class Folder(Source):
    """A folder of images: PATH/train/CLASS/*, and optionally PATH/val/CLASS/* and PATH/test/CLASS/*; or PATH/CLASS/*,
    which is split by `validation_share` and `test_share`. The folders may also be called training, valid, validation or
    testing, in any case, and end in _images, _set or _data."""

    path: PathText
    """The folder. Classes are the sub-folders' names in sorted order."""
    labeled_test: bool = True
    """False: the classes of PATH/test are unknown, so that it is left out here and is for `predict` only."""

    def open(self, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress | None = None) -> Splits:
        """List the images of PATH/train, PATH/val, PATH/test; or of PATH, if it has no such folders.

        A class's images may lie at any depth below its folder. Hidden files and folders, and files whose suffix is no
        image format's, are passed over and counted; links are followed. Names of classes in two Unicode forms are one
        name.

        Raises:
          UserError: there is no such folder, it has no images, images lie outside class folders, a training class is
            empty, another split has a class that training lacks, or the layout could be meant in several ways.
        """
        on_progress = on_progress or no_progress
        root = Path(os.path.expanduser(self.path))  # which, unlike Path's method, never raises
        if not os.path.isdir(root):
            raise UserError(_no_folder(root, self.path))
        layout = find_layout(root)
        folders = {"train": layout.train, "validation": layout.validation}
        folders["test"] = layout.test if self.labeled_test else None
        found = {name: _Found(name, root, path, on_progress) for name, path in folders.items() if path is not None}
        train = found["train"]
        class_names = train.class_names()
        _refuse_empty(train)
        splits = {name: one.examples(class_names, train) for name, one in found.items()}
        notes = (*layout.notes, *(note for one in found.values() for note in one.notes), *alike(class_names))
        title = f"the folder {root}"
        return Splits(splits["train"], splits.get("validation"), splits.get("test"), class_names, title, notes)


class _Found:
    """What lies in the folder of one split."""

    def __init__(self, split: str, root: Path, folder: Path, on_progress: Progress):
        self.split, self.root, self.folder = split, root, folder
        try:
            listing = list_folder(folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be listed: {error.strerror or error}") from error
        if listing.images:
            self._refuse_images(listing.images, listing.folders)
        passed: dict[str, PassedOver] = {}
        self.images = {}
        for done, name in enumerate(listing.folders):
            on_progress(f"listing {folder}", done, len(listing.folders))
            found, passed[name] = find_images(folder / name)
            self.images[name] = ImageFiles.of(found)
        self.passed = passed
        self.notes = passed_over(passed, folder)
        if folder != root and str(listing.passed):
            self.notes.append(f"passed over in {folder}: {listing.passed}")

    def _refuse_images(self, images: list[str], folders: list[str]) -> None:
        """Refuse images beside class folders, or in place of them."""
        inside = f"{self.folder}/CLASS/"
        if folders:
            text = f"{self.folder} holds {images[0]} outside any class folder: move its images into {inside}"
        else:
            text = f"{self.folder} holds {len(images)} images but no class folders: put each into {inside}"
        if self.split == "test":
            text += ", or set data.source.labeled_test = False if their classes are unknown"
        raise UserError(text + _table_hint(self.folder, self.root))

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in Unicode's composed form, which file systems may have taken apart."""
        if not self.images:
            raise UserError(f"{self.folder} holds no images: expected {self.folder}/CLASS/*.jpg, or {_expected(self)}")
        names: dict[str, str] = {}
        stripped: dict[str, str] = {}
        for folder in self.images:
            name = unicodedata.normalize("NFC", folder)
            if (other := stripped.setdefault(name.strip(), folder)) != folder:
                differ = "the Unicode form of their letters" if name in names else "spaces around their names"
                raise UserError(
                    f"{self.folder} has two class folders {other!a} and {folder!a} that differ only in {differ}: move "
                    "the images of one into the other"
                )
            names[name] = folder
        if len(names) == 1:
            raise UserError(_one_class(self.folder, next(iter(self.images)), self.root))
        return tuple(sorted(names))

    def examples(self, class_names: tuple[str, ...], train: "_Found") -> Examples:
        """Give the images with their labels, in the order of the names of their folders and files."""
        numbers = {name: number for number, name in enumerate(class_names)}
        files: list[ImageFiles] = []
        given: list[int] = []
        for folder, images in sorted(self.images.items(), key=lambda item: unicodedata.normalize("NFC", item[0])):
            name = unicodedata.normalize("NFC", folder)
            if images and name not in numbers:
                raise UserError(
                    f'class "{folder}" in {self.folder} has no folder in {train.folder.name}/'
                    + did_you_mean(name, class_names)
                    + (": set data.source.labeled_test = False if its classes are unknown" * (self.split == "test"))
                )
            if images:
                given.append(numbers[name])
                files.append(images)
        if not files:
            raise UserError(f"{self.folder} holds no images{_others(self)}: fill or remove it")
        labels = np.repeat(np.array(given, np.int32), [len(images) for images in files])
        return Examples.of_files(self.split, ImageFiles.joined(files), labels, self.root)


def _refuse_empty(train: _Found) -> None:
    empty = [name for name, images in train.images.items() if not images]
    if len(empty) == len(train.images):
        raise UserError(f"no class folder of {train.folder} holds images{_others(train)}")
    if empty:
        folder = train.folder / empty[0]
        raise UserError(f"class folder {folder} holds no images{_others(train, empty[0])}: fill or remove it")


def alike(class_names: Sequence[str]) -> list[str]:
    """Return remarks on classes whose names differ in case only, which letters do and mistakes do."""
    folded: dict[str, str] = {}
    notes = []
    for name in class_names:
        if (other := folded.setdefault(name.casefold(), name)) != name:
            notes.append(f'the classes "{other}" and "{name}" differ in upper and lower case only')
    return notes


# ---- what messages say of a folder that is otherwise than expected


def _no_folder(root: Path, path: str) -> str:
    where = f"data.source.path {root}"
    if os.path.exists(root):
        hint = f"{_as_table(root)}" if root.suffix.lower() in _TABLES else ""
        return f"{where} is a file: give the folder that holds the images{hint}"
    if "$" in path:
        return f"{where} does not exist: variables are not replaced in it; let the shell do it, without single quotes"
    if "://" in path:
        return f"{where} does not exist: it must be a folder of this machine, not an address"
    above = next(parent for parent in root.absolute().parents if os.path.isdir(parent))
    missing = root.absolute().relative_to(above).parts[0]
    try:
        siblings = [entry.name for entry in above.iterdir() if os.path.isdir(entry)]
    except OSError as error:
        return f"{where} cannot be found: {above} cannot be listed ({error.strerror or error})"
    return f"{where} does not exist: {above} has no folder {missing}{did_you_mean(missing, siblings)}"


def _expected(found: _Found) -> str:
    return f"{found.folder}/train/CLASS/*.jpg{_table_hint(found.folder, found.root)}"


def _one_class(folder: Path, name: str, root: Path) -> str:
    text = f"{folder} has only one class folder, {name}/: a classifier needs two or more"
    try:
        inside = list_folder(folder / name)
    except OSError:
        return text
    below = folder / name
    with contextlib.suppress(OSError):  # one folder in another, as archives are unpacked to
        while len(inside.folders) == 1 and not inside.images:
            below /= inside.folders[0]
            inside = list_folder(below)
    if len(inside.folders) > 1 and not inside.images:
        return f"{text}; did you mean data.source.path = {below}?"
    return text + _table_hint(folder / name, root)


def _table_hint(*folders: Path) -> str:
    """A hint where a file that may name the classes lies in or beside one of the folders."""
    for folder in dict.fromkeys((*folders, folders[0].absolute().parent)):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        except OSError:
            continue
        for name in names:
            if os.path.splitext(name)[1].lower() in _TABLES and not is_image(name):
                return _as_table(folder / name)
    return ""


def _as_table(path: Path) -> str:
    return f'; if {path.name} names their classes, take c.Table("{path}") as data.source (docs/data.md)'


def _others(found: _Found, name: str | None = None) -> str:
    """A remark on what was passed over in place of images, such as .heic files."""
    passed = PassedOver()
    for folder, one in found.passed.items():
        if name in (None, folder):
            passed.add(one)
    if not str(passed):
        return ""
    unread = Counter({suffix: count for suffix, count in passed.suffixes.items() if suffix})
    remedy = next((REMEDIES[suffix] for suffix in unread if suffix in REMEDIES), "convert them")
    advice = f"; only {KNOWN} images are read: {remedy}" if unread else ""
    return f" (passed over: {passed}{advice})"
