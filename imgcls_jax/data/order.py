"""Draw random orders that depend on their seed only: not on NumPy's version, the machine or the process count."""

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64, Integer, Shaped, UInt64

_EPOCH, _SPLIT, _BALANCED, _GROUPS = 1, 2, 3, 4  # Keeps the streams of different uses apart.


def permutation(n: int, seed: int, *stream: int) -> Int64[np.ndarray, " n"]:
    """Draw a random permutation of 0 … n − 1 from a seed and a stream of up to three numbers.

    Sorts raw Philox numbers (Salmon et al., 2011), whose stream NumPy guarantees, unlike `Generator.permutation`'s.
    """
    counter = [0, *stream, *[0] * (3 - len(stream))]
    return stable_order(np.random.Philox(key=[seed, 0], counter=counter).random_raw(n))


def stable_order(numbers: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Compute `np.argsort(numbers, kind="stable")`, for random numbers in less than half its time."""
    n = len(numbers)
    bits = max(n - 1, 1).bit_length()
    # Each number's leading bits, with its place for the others: numpy sorts plain numbers by vector instructions.
    keys = numbers >> bits << bits
    keys |= np.arange(n, dtype=np.uint64)
    keys.sort()
    order = (keys & ((1 << bits) - 1)).astype(np.int64)
    keys >>= bits
    tied = np.flatnonzero(keys[1:] == keys[:-1])  # in the bits that were left
    if len(tied):
        places = np.union1d(tied, tied + 1)
        found = order[places]
        order[places] = found[np.lexsort((found, numbers[found]))]
    return order


def by_class(labels: Integer[np.ndarray, " n"]) -> Iterator[tuple[int, Int64[np.ndarray, " k"]]]:
    """Give each class that occurs with the indices of its examples, both ascending: one sort for any number of classes,
    where a look at all labels for each class would take classes × examples."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    begins = np.ones(len(labels), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    for start, end in itertools.pairwise([*np.flatnonzero(begins), len(labels)]):
        yield int(ordered[start]), order[start:end]


def epoch_order(seed: int, epoch: int, n: int) -> Int64[np.ndarray, " n"]:
    """Draw the order in which the epoch `epoch` of a run with the seed `seed` uses `n` examples, each once."""
    return permutation(n, seed, _EPOCH, epoch)


def split_order(seed: int, label: int, n: int) -> Int64[np.ndarray, " n"]:
    """Draw the order in which a class's `n` examples are held out."""
    return permutation(n, seed, _SPLIT, label)


def group_order(seed: int, n: int) -> Int64[np.ndarray, " n"]:
    """Draw the order in which `n` groups are held out, among those that are equally hard to place."""
    return permutation(n, seed, _GROUPS)


def balanced_order(labels: Int32[np.ndarray, " n"], seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Draw an order of n examples in which every class that occurs has n / classes places (± 1).

    The examples of a rare class are repeated, all equally often (± 1); of a frequent class a random part is left out,
    a different one in each epoch.
    """
    classes = [members for _, members in by_class(labels)]
    quota, extra = divmod(len(labels), len(classes))
    lucky = set(permutation(len(classes), seed, _BALANCED, epoch, 0)[:extra].tolist())
    chosen = []
    for rank, members in enumerate(classes):
        wanted = quota + (rank in lucky)
        shuffled = members[permutation(len(members), seed, _BALANCED, epoch, 1 + rank)]
        chosen.append(np.resize(shuffled, wanted))
    return np.concatenate(chosen)[permutation(len(labels), seed, _BALANCED, epoch, 1 + len(classes))]


def train_order(
    labels: Shaped[np.ndarray, "n *k"], sampling: Literal["shuffle", "balanced"], seed: int, epoch: int
) -> Int64[np.ndarray, " n"]:
    """Draw the examples of one epoch of training: each once ("shuffle"), or each class equally often ("balanced")."""
    if sampling == "balanced":
        return balanced_order(labels, seed, epoch)
    return epoch_order(seed, epoch, len(labels))
