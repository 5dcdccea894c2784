"""Understand how a folder of images is laid out: which of its folders are splits, and which are classes."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imgcls_jax.data.files import PassedOver, find_images, is_hidden, is_image, list_folder
from imgcls_jax.data.image_formats import REMEDIES
from imgcls_jax.errors import UserError, did_you_mean

NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folder of each split; case does not matter, and an ending such as _images may follow."""

_ENDING = re.compile(r"[-_ ]?(images|set|data)$")
EVERY_NAME = tuple(name for names in NAMES.values() for name in names)
"""All names in `NAMES`."""


@dataclass(frozen=True)
class Layout:
    """The folders of the splits."""

    train: Path
    """The folder whose sub-folders are the classes."""
    validation: Path | None
    test: Path | None
    notes: tuple[str, ...]
    """Sentences on what was passed over and what could have been meant otherwise."""


class _Contents(NamedTuple):
    """What lies directly in a folder."""

    has_images: bool
    folders: tuple[str, ...]
    """Names of its folders, sorted; not complete where `has_images`."""


def find_layout(root: Path) -> Layout:
    """Tell splits from classes by the names of folders and by where images lie.

    Raises:
      UserError: the folder cannot be listed, or its layout could be meant in several ways: the message says what was
        understood.
    """
    try:
        listing = list_folder(root)
    except OSError as error:
        raise UserError(f"{root} cannot be listed: {error.strerror or error}") from error
    splits = _splits(root, listing.folders)
    contents = {name: _contents(root / name) for name in listing.folders}
    notes = [f"passed over in {root}: {listing.passed}"] if str(listing.passed) else []
    if not splits:
        _refuse_same_folders(root, contents)
        return Layout(root, None, None, tuple(notes))
    if _are_classes(splits, contents):
        names = ", ".join(f"{name}/" for name in splits.values())
        notes.append(f"{names} is taken for a class: its images lie beside those of other classes")
        return Layout(root, None, None, tuple(notes))
    if "train" not in splits:
        raise UserError(_no_train(root, next(iter(splits.values())), contents))
    if empty := _refuse_others(root, splits, contents):
        notes.append(f"passed over in {root}: {', '.join(f'{name}/' for name in empty)}, without images")
    train, validation, test = (root / splits[name] if name in splits else None for name in NAMES)
    assert train is not None
    return Layout(train, validation, test, tuple(notes))


def split_of(name: str) -> str | None:
    """Return the split that a folder or a cell of a table means by its name; None if it is none's."""
    return next((split for split, names in NAMES.items() if _ENDING.sub("", name.lower()) in names), None)


def _splits(root: Path, folders: list[str]) -> dict[str, str]:
    """The folder of each split that there is, by the split's name."""
    splits: dict[str, str] = {}
    for split in NAMES:
        found = [name for name in folders if split_of(name) == split]
        if len(found) > 1:
            raise UserError(f"{root} has both {found[0]}/ and {found[1]}/: keep one of them")
        if found:
            splits[split] = found[0]
    return splits


def _contents(folder: Path) -> _Contents:
    """Look into a folder until an image is found, of which a class may have very many."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif is_image(entry.name):
                    return _Contents(True, ())
    except OSError:  # It is named when its images are listed.
        pass
    return _Contents(False, tuple(sorted(folders)))


def _are_classes(splits: dict[str, str], contents: dict[str, _Contents]) -> bool:
    """Whether the one folder that is called like a split is a class: like all others, it holds images directly."""
    full = {name for name, inside in contents.items() if inside.has_images or inside.folders}
    return len(splits) == 1 and len(full) > 1 and all(contents[name].has_images for name in full)


def _refuse_same_folders(root: Path, contents: dict[str, _Contents]) -> None:
    """Refuse folders that all hold the same folders: splits under names that are none."""
    full = {name: inside for name, inside in contents.items() if inside.has_images or inside.folders}
    kinds = {inside.folders for inside in full.values()}
    if len(full) < 2 or len(kinds) > 1 or len(common := kinds.pop()) < 2:
        return
    raise UserError(
        f"{_listed(root, list(full))} all hold the folders {_names(common)}, and no images beside them: if they are "
        f"splits, call them train, val and test{_meant(list(full))}; if they are classes, move them into {root}/train/"
    )


def _refuse_others(root: Path, splits: dict[str, str], contents: dict[str, _Contents]) -> list[str]:
    """Refuse folders with images beside those of the splits; return those without."""
    train, empty = splits["train"], []
    for name in contents.keys() - splits.values():
        if contents[name].has_images or (contents[name].folders and find_images(root / name)[0]):
            raise UserError(
                f"{root} has {train}/, which is taken for the training images, and beside it {name}/ with images, "
                f"which is no split's name{_meant([name])}: call it val or test, or move it elsewhere; if {train} is a "
                f"class, move all class folders into {root}/train/"
            )
        empty.append(name)
    return sorted(empty)


def _no_train(root: Path, lone: str, contents: dict[str, _Contents]) -> str:
    others = [name for name in contents if name != lone]
    near = next((name for name in others if did_you_mean(name, NAMES["train"])), None)
    hint = f": call {near}/ train" if near else ""
    return f"{root} has {lone}/ but no train/{hint}; if {lone} is a class, move all class folders into {root}/train/"


def _meant(folders: list[str]) -> str:
    """A hint on the first of the names that is a misspelled split's."""
    return next((hint for name in folders if (hint := did_you_mean(name, EVERY_NAME))), "")


def _listed(root: Path, names: list[str]) -> str:
    return f"{root} has no train/, and {_names(names)}"


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{name}/" for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def passed_over(found: dict[str, PassedOver], where: Path) -> list[str]:
    """Say what was passed over among the images of the classes below a folder, by class.

    Args:
      found: what was passed over, by name of the class's folder.
      where: the folder that holds them.
    """
    total = PassedOver()
    for one in found.values():
        total.add(one)
    if not str(total):
        return []
    classes = [name for name, one in found.items() if str(one)]
    only = f"{where / classes[0]}" if len(classes) == 1 else f"{where}, in {len(classes)} of its {len(found)} folders"
    advice = [f"; to read {suffix} files, {remedy}" for suffix, remedy in REMEDIES.items() if total.suffixes[suffix]]
    return [f"passed over in {only}: {total}{''.join(advice)}"]
