"""A folder of images, one sub-folder a class."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imgcls_jax.config.data import Folder
from imgcls_jax.data.source import Examples, Source, did_you_mean, digest
from imgcls_jax.errors import UserError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
"""Files with other suffixes are not images; case does not matter."""

TRAIN, VALIDATION, TEST = (
    tuple(name + ending for name in names for ending in ("", "_images"))
    for names in (("train",), ("val", "valid", "validation"), ("test",))
)


def open_folder(config: Folder) -> Source:
    """The splits of PATH/train, PATH/(val|valid|validation), PATH/test; or of PATH, if it has no such folders.

    A class's images may lie at any depth below its folder. Hidden files and folders, and files whose suffix is no
    image format's, are left out; links are followed.

    Raises UserError when there is no such folder, it has no images, images lie outside class folders, a training
    class is empty, or another split has a class that training lacks.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(_no_folder(root))
    title = f"the folder {root}"
    train, validation, test = (_named(root, names) for names in (TRAIN, VALIDATION, TEST))
    if train is None:
        if lone := validation or test:
            raise UserError(f"{title} has {lone.name}/ but no train/")
        train = root
    if not config.labelled_test:
        test = None
    class_names = tuple(_class_folders(train))
    if not class_names:
        raise UserError(_no_classes(train))
    if len(class_names) == 1:
        raise UserError(f"{train} has only one class folder, {class_names[0]}/: a classifier needs two or more")
    splits = {
        name: _examples(name, root, train, folder, class_names)
        for name, folder in (("train", train), ("validation", validation), ("test", test))
        if folder is not None
    }
    counts = np.bincount(splits["train"].labels, minlength=len(class_names))
    if empty := [name for name, count in zip(class_names, counts, strict=True) if count == 0]:
        raise UserError(
            f"class folder {train / empty[0]} holds no images{_other_suffixes(train / empty[0])}: fill or remove it"
            if len(empty) < len(class_names)
            else f"no class folder of {train} holds images{_other_suffixes(train)}"
        )
    return Source(splits["train"], splits.get("validation"), splits.get("test"), class_names, title)


def _named(root: Path, names: tuple[str, ...]) -> Path | None:
    found = [entry for entry in sorted(root.iterdir()) if entry.name.lower() in names and entry.is_dir()]
    if len(found) > 1:
        raise UserError(f"{root} has both {found[0].name}/ and {found[1].name}/: keep one of them")
    return found[0] if found else None


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images_beside_class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_file() and _is_image(entry.name))


def _examples(name: str, root: Path, train: Path, folder: Path, class_names: tuple[str, ...]) -> Examples:
    if stray := _images_beside_class_folders(folder):
        raise UserError(
            f"{folder} holds {stray[0]} outside any class folder: move its images into {folder.name}/CLASS/"
        )
    class_numbers = {class_name: i for i, class_name in enumerate(class_names)}
    labels, files, sizes = [], [], []
    for class_name in _class_folders(folder):
        found = sorted(_images(folder / class_name, ()))
        if found and class_name not in class_numbers:
            raise UserError(
                f'class "{class_name}" in {folder} has no folder in {train.name}/'
                + did_you_mean(class_name, class_names)
                + (": set data.source.labelled_test = False if its classes are unknown" if name == "test" else "")
            )
        for path, size, modified in found:
            labels.append(class_numbers[class_name])
            files.append(Path(path))
            sizes.append(f"{size} {modified}")
    if not files and name != "train":
        raise UserError(f"{folder} holds no images{_other_suffixes(folder)}: fill or remove it")
    ids = [file.relative_to(root).as_posix() for file in files]
    return Examples(
        name=name,
        labels=np.asarray(labels, np.int32),
        ids=ids,
        fingerprint=lambda: digest([str(root.resolve()), *ids, *sizes]),
        read=lambda indices: [files[i] for i in indices],
    )


def _images(folder: Path, parents: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Path, bytes and time of change (ns) of every image below `folder`."""
    real = os.path.realpath(folder)
    if real in parents:  # A link to a folder that holds it.
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(Path(entry.path), (*parents, real))
            elif _is_image(entry.name):
                try:
                    status = entry.stat()
                    yield entry.path, status.st_size, status.st_mtime_ns
                except FileNotFoundError:  # A broken link: set aside when it is read.
                    yield entry.path, 0, 0


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _no_folder(root: Path) -> str:
    if root.exists():
        return f"data.source.path {root} is a file: give the folder that holds the images"
    above = next(parent for parent in root.absolute().parents if parent.is_dir())
    missing = root.absolute().relative_to(above).parts[0]
    try:
        siblings = [entry.name for entry in above.iterdir() if entry.is_dir()]
    except PermissionError:
        siblings = []
    return f"data.source.path {root} does not exist: {above} has no folder {missing}{did_you_mean(missing, siblings)}"


def _no_classes(folder: Path) -> str:
    if images := _images_beside_class_folders(folder):
        return f"{folder} holds {len(images)} images but no class folders: put each into {folder}/CLASS/"
    return f"{folder} holds no images: expected {folder}/CLASS/*.jpg, or {folder}/train/CLASS/*.jpg"


def _other_suffixes(folder: Path) -> str:
    """A remark on the commonest of the files that were passed over, such as .heic."""
    names = (name for _, _, found in os.walk(folder) for name in found if not name.startswith("."))
    suffixes = Counter(suffix for name in names if (suffix := os.path.splitext(name)[1].lower()) not in SUFFIXES)
    if not suffixes:
        return ""
    suffix, count = suffixes.most_common(1)[0]
    return f" (it has {count} {suffix or 'suffixless'} files, which are not read: convert them to JPEG or PNG)"
