"""Random orders that depend on their seed only: not on NumPy's version, the machine or the number of processes."""

from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

_EPOCH, _SPLIT, _BALANCED = 1, 2, 3  # Keeps the streams of different uses apart.


def permutation(n: int, seed: int, *stream: int) -> Int64[np.ndarray, " n"]:
    """A random permutation of 0 … n − 1, from (seed, stream of up to three numbers).

    Sorts raw Philox numbers (Salmon et al., 2011), whose stream NumPy guarantees, unlike `Generator.permutation`'s.
    """
    counter = [0, *stream, *[0] * (3 - len(stream))]
    numbers = np.random.Philox(key=[seed, 0], counter=counter).random_raw(n)
    return np.argsort(numbers, kind="stable")


def epoch_order(seed: int, epoch: int, n: int) -> Int64[np.ndarray, " n"]:
    """The order in which epoch `epoch` of a run with seed `seed` sees `n` examples."""
    return permutation(n, seed, _EPOCH, epoch)


def split_order(seed: int, label: int, n: int) -> Int64[np.ndarray, " n"]:
    """The order in which a class's `n` examples are held out."""
    return permutation(n, seed, _SPLIT, label)


def balanced_order(labels: Int32[np.ndarray, " n"], seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """An order of `n` examples in which every class that occurs comes n / classes times (± 1).

    A rare class's examples are repeated, each equally often (± 1) before any comes again; of a frequent class a
    random part is left out, another one each epoch.
    """
    classes = np.unique(labels)
    quota, extra = divmod(len(labels), len(classes))
    lucky = set(permutation(len(classes), seed, _BALANCED, epoch, 0)[:extra].tolist())
    chosen = []
    for rank, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        wanted = quota + (rank in lucky)
        shuffled = members[permutation(len(members), seed, _BALANCED, epoch, 1 + rank)]
        chosen.append(np.resize(shuffled, wanted))
    return np.concatenate(chosen)[permutation(len(labels), seed, _BALANCED, epoch, 1 + len(classes))]


def train_order(
    labels: Int32[np.ndarray, " n"], sampling: Literal["shuffle", "balanced"], seed: int, epoch: int
) -> Int64[np.ndarray, " n"]:
    """The examples of one epoch of training: each once ("shuffle"), or each class equally often ("balanced")."""
    if sampling == "balanced":
        return balanced_order(labels, seed, epoch)
    return epoch_order(seed, epoch, len(labels))
