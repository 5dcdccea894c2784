"""Batches of canvases, read ahead by threads, on the host.

A batch is a dictionary of "image" uint8 [b, h, w, c], "label" int32 [b], "aspect" float32 [b] (see `Split`), "index"
int32 [b] (place in the split) and, in evaluation, "mask" bool [b]. With several processes, `batch_size` is the global
one and each process gets its own slice.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int64

from imgcls_jax.data.dataset import Split
from imgcls_jax.errors import UserError

Batch = dict[str, np.ndarray]


def train_batches(
    split: Split,
    order: Int64[np.ndarray, " n"],
    batch_size: int,
    *,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[Batch]:
    """The batches of one epoch, from `start_step` on: `split` in the order `order`, without the remainder.

    A resumed epoch is exact because batch s is examples order[s·batch_size : (s + 1)·batch_size], whatever came before.

    Args:
        threads: threads that read batches; each batch is read by one.
        ahead: batches held ready.

    Raises:
        UserError: there is not even one whole batch.
    """
    if len(order) < batch_size:
        raise UserError(f"batch_size {batch_size} exceeds the {len(order)} training images: lower it")
    local = _local_size(batch_size, process_count)
    first = process_index * local

    def batch(step: int) -> Batch:
        start = step * batch_size + first
        return _read(split, order[start : start + local])

    return _read_ahead(batch, range(start_step, len(order) // batch_size), threads, ahead)


def eval_batches(
    split: Split,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[Batch]:
    """`split` in its own order, every example once, in batches of one shape.

    The last batch is filled up with copies of the last example, whose "mask" is False.
    """
    local = _local_size(batch_size, process_count)

    def batch(step: int) -> Batch:
        start = step * batch_size + process_index * local
        indices = np.arange(start, start + local)
        inside = indices < len(split)
        return _read(split, np.where(inside, indices, len(split) - 1)) | {"mask": inside}

    return _read_ahead(batch, range(eval_steps(len(split), batch_size)), threads, ahead)


def eval_steps(n: int, batch_size: int) -> int:
    """Batches that `eval_batches` gives for `n` examples."""
    return -(-n // batch_size)


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is no multiple of the {process_count} processes")
    return batch_size // process_count


def _read(split: Split, indices: Int64[np.ndarray, " b"]) -> Batch:
    return {
        "image": split.read(indices),
        "label": split.labels[indices],
        "aspect": split.aspect[indices],
        "index": indices.astype(np.int32),
    }


def _read_ahead(batch: Callable[[int], Batch], steps: range, threads: int, ahead: int) -> Iterator[Batch]:
    import grain  # Here, because importing it takes seconds and imports JAX, which no other part of data does.

    # Grain's elements are whole batches: one per image costs more than reading a small image.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.source(steps).map(batch).to_iter_dataset(read_options=options))
