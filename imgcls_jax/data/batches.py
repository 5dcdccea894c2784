"""Read batches of canvases ahead of time, by threads of the host.

A batch is a dictionary of "image" uint8 [b, h, w, c], "label" int32 [b], "aspect" float32 [b] (see `Split`), "index"
int32 [b] (index in the split) and, in evaluation, "mask" bool [b]. With several processes, `batch_size` is that of all
together, and each process reads its own slice.
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
    """Read the batches of one epoch in order, without the remainder that fills no batch.

    Batch s holds the examples order[s·batch_size : (s + 1)·batch_size], whatever was read before, so that a resumed
    epoch is exact.

    Args:
      split: the images.
      order: the examples of the epoch, as indices into the split.
      batch_size: images per step of all processes together.
      start_step: first batch, counted from 0.
      process_index: which of the processes this is.
      process_count: number of processes that share each batch.
      threads: threads that read batches; each batch is read by one of them.
      ahead: batches that are read before they are asked for.

    Raises:
      UserError: the examples do not fill one batch.
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
    """Read a split in its own order, every example once, in batches of one shape.

    The last batch is filled with copies of the last example, whose "mask" is False. Arguments as for `train_batches`.
    """
    local = _local_size(batch_size, process_count)

    def batch(step: int) -> Batch:
        start = step * batch_size + process_index * local
        indices = np.arange(start, start + local)
        inside = indices < len(split)
        return _read(split, np.where(inside, indices, len(split) - 1)) | {"mask": inside}

    return _read_ahead(batch, range(eval_steps(len(split), batch_size)), threads, ahead)


def eval_steps(n: int, batch_size: int) -> int:
    """Return the number of batches in which `eval_batches` reads `n` examples."""
    return -(-n // batch_size)


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is not a multiple of the {process_count} processes")
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

    # The elements of Grain's data set are whole batches: the cost of an element exceeds that of a small image.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.source(steps).map(batch).to_iter_dataset(read_options=options))
