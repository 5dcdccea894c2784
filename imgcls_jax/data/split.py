"""Hold out a stratified share of the examples, and record which example is in which split."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped, UInt64

from imgcls_jax.data.examples import digest
from imgcls_jax.data.groups import divide
from imgcls_jax.data.order import by_class, split_order
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError

_T = TypeVar("_T")
_PART = 2**12
_FILE = "split.npz"
# Names in it besides those of the splits.
_HASH, _TRAINED = "hash", "trained_content"


def hold_out(
    labels: Integer[np.ndarray, " n"],
    share: float,
    seed: int,
    class_names: Sequence[str],
    purpose: str,
    groups: Sequence[str] | None = None,
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Choose a share of each class's examples to be held out; the choice in one class does not depend on the others.

    Args:
      labels: class of each example.
      share: share of each class, in (0, 1); rounded to the nearest number of examples, at least one.
      seed: seed of the choice.
      class_names: name of each class, for messages.
      purpose: the split that is made, for messages.
      groups: group of each example; none is divided, so that shares are only near. None: every example is one.

    Returns:
      Indices kept and indices held out, both ascending.

    Raises:
      UserError: a class has too few examples, or groups, to be in both.
    """
    if groups is not None:
        parts = divide(labels, groups, (1 - share, share), seed)
        return _sides(labels, parts == 1, class_names, purpose)
    is_held = np.zeros(len(labels), bool)
    for label, members in by_class(labels):
        count = max(1, int(len(members) * share + 0.5))
        if count >= len(members):
            raise UserError(
                f'class "{class_names[label]}" has only {len(members)} image{"s"[: len(members) > 1]}, too few to hold '
                f"out {share:g} of them for {purpose}: add images, remove the class, or give a {purpose} split"
            )
        is_held[members[split_order(seed, label, len(members))[:count]]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def fold(
    labels: Integer[np.ndarray, " n"],
    which: int,
    count: int,
    seed: int,
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Hold out one of `count` folds, equal within one image in size and in each class; of groups, none is divided.

    Args:
      labels: class of each example.
      which: number of the fold, from 0.
      count: number of folds.
      seed: seed of the choice, the same for all folds.
      class_names: name of each class, for messages.
      groups: group of each example; None: every example is one.

    Returns:
      Indices kept and indices held out, both ascending. Every example is held out in one of the folds.

    Raises:
      UserError: there are more folds than examples or groups, or all examples of a class are in one fold.
    """
    units, what = (len(labels), "images") if groups is None else (len(set(groups)), "groups")
    if count > units:
        raise UserError(f"{units} {what} cannot be divided into {count} folds: take {units} at most")
    if groups is None:
        parts = np.empty(len(labels), np.int64)
        begun = 0  # Where the last class ended, so that folds differ in size by one at most.
        for label, members in by_class(labels):
            parts[members[split_order(seed, label, len(members))]] = (begun + np.arange(len(members))) % count
            begun += len(members)
    else:
        parts = divide(labels, groups, (1 / count,) * count, seed)
    return _sides(labels, parts == which, class_names, f"fold {which} of {count}")


def _sides(
    labels: Integer[np.ndarray, " n"], is_held: Bool[np.ndarray, " n"], class_names: Sequence[str], purpose: str
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the indices of both sides, if every class is on the first one and there is a second one."""
    lost = np.setdiff1d(labels, labels[~is_held])
    if len(lost):
        raise UserError(
            f'all images of class "{class_names[lost[0]]}" are held out together for {purpose}: it has too few images, '
            "or all are of one group: add images, remove the class, or give a split of your own"
        )
    if not is_held.any():
        raise UserError(f"there is nothing to hold out for {purpose}: there are fewer groups or images than parts")
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def split_hash(
    splits: Mapping[str, tuple[Sequence[str], Shaped[np.ndarray, "n *k"], UInt64[np.ndarray, " n"]]],
) -> str:
    """Compute 12 hexadecimal digits that identify which images, with which labels, are in which split.

    They are the first of the SHA-256 over every split's name and its examples' labels, hashes and ids, in order.

    Args:
      splits: ids, labels and hashes of the encoded images of each split's examples, by its name.
    """
    return digest(
        line
        for name, (ids, labels, content) in splits.items()
        for line in itertools.chain([f"[{name}]"], _lines(ids, labels, content))
    )[:12]


def _lines(ids: Sequence[str], labels: Shaped[np.ndarray, "n *k"], content: UInt64[np.ndarray, " n"]) -> Iterator[str]:
    """A line for each example; in parts, because Python's numbers take eight times as much as an array's."""
    names = iter(ids)
    for start in range(0, len(labels), _PART):
        part = slice(start, start + _PART)
        for label, hash_, id in zip(labels[part].tolist(), content[part].tolist(), names, strict=False):
            yield f"{label} {hash_:016x} {id}"


def record(
    workdir: Path, hash_: str, indices: Mapping[str, Int64[np.ndarray, " n"]], trained: UInt64[np.ndarray, " k"]
) -> list[str]:
    """Write the indices of each split's examples, the hash and what is trained on to WORKDIR/split.npz, unless the
    file is there.

    Args:
      workdir: folder of the run; made if missing.
      hash_: the `split_hash`.
      indices: of each split's examples within the split of the source that they are taken from.
      trained: hash of the content of each training image.

    Returns:
      A sentence where the file was damaged, and is written anew.

    Raises:
      UserError: the file is there with another hash: the data are not those that the run began with.
    """
    path, notes = workdir / _FILE, []
    if path.exists():
        before = _saved_hash(path)
        if before == hash_:
            return []
        if before is not None:
            raise UserError(changed(workdir, before, hash_))
        notes = [f"{path} is damaged: it is made anew"]
    workdir.mkdir(parents=True, exist_ok=True)
    with outputs.writing(path, binary=True) as file:
        np.savez(file, **{_HASH: np.array(hash_), _TRAINED: trained}, **indices)  # type: ignore[arg-type]
    return notes


def trained_on(workdir: Path) -> UInt64[np.ndarray, " k"] | None:
    """Return the hash of the content of each image that a run was trained on; None where its split.npz lacks them."""
    found = _saved(workdir / _FILE, lambda saved: saved[_TRAINED])
    return found if found is not None and found.dtype == np.uint64 and found.ndim == 1 else None


def sizes(workdir: Path) -> dict[str, int]:
    """Return the number of images of each split of a run; of none where its split.npz is damaged or gone."""
    others = (_HASH, _TRAINED)
    return _saved(workdir / _FILE, lambda saved: {n: len(saved[n]) for n in saved.files if n not in others}) or {}


def changed(workdir: Path, before: str, now: str) -> str:
    """Say that the data of a run are not those that it began with."""
    return (
        f"the data have changed since the run in {workdir} began (split hash {before}, now {now}): restore them, or "
        "start again in another work directory"
    )


def _saved_hash(path: Path) -> str | None:
    """The hash in a split.npz; None where it is damaged."""
    found = _saved(path, lambda saved: str(saved[_HASH]))
    return found if re.fullmatch("[0-9a-f]{12}", found or "") else None


def _saved(path: Path, read: Callable[[Any], _T]) -> _T | None:
    """What `read` makes of an open split.npz; None where it is damaged or gone."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            return read(saved)
    except Exception:  # the zip format and numpy's have many errors
        return None
