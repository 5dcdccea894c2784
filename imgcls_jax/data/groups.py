"""Divide groups of examples, such as the images of one patient, so that none is on two sides."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64, Integer

from imgcls_jax.data.examples import Examples, Splits
from imgcls_jax.data.order import group_order
from imgcls_jax.errors import UserError


def divide(
    labels: Integer[np.ndarray, " n"], groups: Sequence[str], shares: Sequence[float], seed: int
) -> Int64[np.ndarray, " n"]:
    """Divide examples into parts, whole groups at a time, so that each class has about its share in every part.

    Each group, those of the most uneven classes first, goes where the parts' class counts, relative to what they should
    be, then differ least: the algorithm of scikit-learn's `StratifiedGroupKFold`, with shares added.

    Args:
      labels: class of each example.
      groups: group of each example.
      shares: share of each part; their sum is 1.
      seed: of the order among groups that are equally uneven.

    Returns:
      The part of each example.
    """
    _, label = np.unique(labels, return_inverse=True)
    names, group = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    counts = np.zeros((len(names), label.max() + 1))
    np.add.at(counts, (group, label), 1)
    order = group_order(seed, len(names))
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    # What every part should have of each class.
    wanted = np.asarray(shares)[:, None] * counts.sum(axis=0)
    have = np.zeros_like(wanted)
    parts = np.empty(len(names), np.int64)
    for i in order:
        parts[i] = _best(have, wanted, counts[i])
        have[parts[i]] += counts[i]
    return parts[group]


def _best(
    have: Float64[np.ndarray, "parts classes"],
    wanted: Float64[np.ndarray, "parts classes"],
    added: Float64[np.ndarray, " classes"],
) -> int:
    """The part to which a group is added; of equally good ones the one that has the least of its examples."""
    full = have / wanted
    unevenness = np.array([_with(full, part, added / wanted[part]).std(axis=0).mean() for part in range(len(have))])
    near = np.isclose(unevenness, unevenness.min())
    filled = np.where(near, have.sum(axis=1) / wanted.sum(axis=1), np.inf)
    return int(filled.argmin())


def _with(
    full: Float64[np.ndarray, "parts classes"], part: int, added: Float64[np.ndarray, " classes"]
) -> Float64[np.ndarray, "parts classes"]:
    changed = full.copy()
    changed[part] += added
    return changed


def of_paths(source: Splits, pattern: str | None) -> Splits:
    """Group the examples of a source by what a regular expression finds in their paths; None: as the source has them.

    Raises:
      UserError: it does not occur in a path.
    """
    if pattern is None:
        return source
    found = re.compile(pattern)

    def grouped(examples: Examples | None) -> Examples | None:
        if examples is None:
            return None
        matches = [found.search(id) for id in examples.ids]
        if without := [id for id, match in zip(examples.ids, matches, strict=True) if match is None]:
            raise UserError(
                f"data.group_pattern {pattern!r} is not found in {len(without)} of {len(matches)} {examples.name} "
                f"paths of {source.title}, such as {without[0]}"
            )
        names = ["/".join(match.groups("")) or match[0] for match in matches if match]
        return dataclasses.replace(examples, groups=names)

    train = grouped(source.train)
    assert train is not None
    return dataclasses.replace(source, train=train, validation=grouped(source.validation), test=grouped(source.test))


def refuse_divided(parts: Mapping[str, tuple[Examples, Int64[np.ndarray, " n"]]], title: str) -> None:
    """Raise UserError if a group has examples in two splits.

    Args:
      parts: of each split, the examples that it is taken from and the indices of those it takes.
      title: how the message calls the source.
    """
    sides = {
        name: {examples.groups[i] for i in rows.tolist()}
        for name, (examples, rows) in parts.items()
        if examples.groups is not None
    }
    for one, other in itertools.combinations(sides, 2):
        if shared := sorted(sides[one] & sides[other]):
            raise UserError(
                f"{len(shared)} of {len(sides[one] | sides[other])} groups of {title} are both in {one} and in {other}"
                f', such as "{shared[0]}", so that what was seen would be measured: move each to one side, or leave '
                "the splits to data.validation_share and data.test_share"
            )
