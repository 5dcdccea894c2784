"""Stratified, seeded hold-out, and the record of who is in which split."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from imgcls_jax.data.order import split_order
from imgcls_jax.data.source import digest
from imgcls_jax.errors import UserError


def hold_out(
    labels: Int32[np.ndarray, " n"], share: float, seed: int, class_names: Sequence[str], purpose: str
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Indices kept and indices held out, both ascending: of each class `share` of its examples, rounded to the
    nearest, at least one. A class's choice does not depend on the other classes.

    Raises UserError when a class has too few examples to be on both sides.
    """
    held = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        count = max(1, int(len(members) * share + 0.5))
        if count >= len(members):
            raise UserError(
                f'class "{class_names[label]}" has only {len(members)} image{"s"[: len(members) > 1]}, too few to hold '
                f"out {share:g} of them for {purpose}: add images, remove the class, or give a {purpose} split"
            )
        held.append(members[split_order(seed, label, len(members))[:count]])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True), chosen


def split_hash(splits: Mapping[str, tuple[Sequence[str], Int32[np.ndarray, " n"]]]) -> str:
    """12 hexadecimal digits of the SHA-256 over every split's name and its examples' ids and labels, in order."""
    return digest(
        line
        for name, (ids, labels) in splits.items()
        for line in (f"[{name}]", *(f"{label} {id}" for id, label in zip(ids, labels.tolist(), strict=True)))
    )[:12]


def record(workdir: Path, hash_: str, indices: Mapping[str, Int64[np.ndarray, " n"]]) -> None:
    """Writes `indices` (of each split's examples within their source's split) and the hash to WORKDIR/split.npz.

    Raises UserError when the file is there with another hash: the data are not those the run began with.
    """
    path = workdir / "split.npz"
    if path.exists():
        with np.load(path) as saved:
            before = str(saved["hash"])
        if before != hash_:
            raise UserError(
                f"the data have changed since the run in {workdir} began (split hash {before}, now {hash_}): "
                "restore them, or start afresh in another work directory"
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    partial = workdir / f".split.{os.getpid()}.npz"
    np.savez(partial, hash=np.array(hash_), **indices)  # type: ignore[arg-type]
    partial.replace(path)
