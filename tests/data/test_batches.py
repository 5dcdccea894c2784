import numpy as np
import pytest

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import Split, epoch_order, eval_batches, eval_steps, load, train_batches
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.errors import UserError

N = 23


@pytest.fixture
def split(settings) -> Split:
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (N, 8, 8, 3), np.uint8), "y_train": rng.integers(0, 3, N)}
    return load(settings(Arrays(), canvas=Canvas(8, 8, fit="stretch")), arrays=arrays).train


def test_training_batches(split):
    order = epoch_order(0, 0, N)
    batches = list(train_batches(split, order, 5))
    assert len(batches) == 4
    for step, batch in enumerate(batches):
        indices = order[5 * step : 5 * step + 5]
        assert {k: (v.dtype.name, v.shape) for k, v in batch.items()} == {
            "image": ("uint8", (5, 8, 8, 3)),
            "label": ("int32", (5,)),
            "aspect": ("float32", (5,)),
            "index": ("int32", (5,)),
        }
        np.testing.assert_array_equal(batch["image"], split.read_all()[indices])
        np.testing.assert_array_equal(batch["label"], split.labels[indices])
        np.testing.assert_array_equal(batch["index"], indices)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_resumed_epoch_continues_exactly(split, threads, start):
    order = epoch_order(0, 0, N)
    whole = list(train_batches(split, order, 5))
    rest = list(train_batches(split, order, 5, start_step=start, threads=threads))
    assert len(rest) == 4 - start
    for a, b in zip(whole[start:], rest, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_processes_share_the_global_batch(split):
    order = epoch_order(0, 0, N)
    parts = [train_batches(split, order, 6, process_index=i, process_count=3) for i in range(3)]
    for whole, *slices in zip(train_batches(split, order, 6), *parts, strict=True):
        for key in whole:
            np.testing.assert_array_equal(whole[key], np.concatenate([part[key] for part in slices]))


@pytest.mark.parametrize("batch_size", [1, 5, 8, 22, 23, 24, 100])
@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_counts_every_example_once(split, batch_size, processes):
    batch_size *= processes
    seen = []
    for process in range(processes):
        batches = list(eval_batches(split, batch_size, process_index=process, process_count=processes))
        assert len(batches) == eval_steps(N, batch_size)
        for batch in batches:
            assert batch["image"].shape == (batch_size // processes, 8, 8, 3)
            assert batch["mask"].dtype == bool
            seen += [image.tobytes() for image in batch["image"][batch["mask"]]]
    assert sorted(seen) == sorted(image.tobytes() for image in split.read_all())


def test_evaluation_keeps_the_order(split):
    batches = list(eval_batches(split, 8, threads=4))
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(labels, split.labels)
    assert batches[-1]["mask"].tolist() == [True] * 7 + [False]


def test_iterator_may_be_left_early(split):
    batches = train_batches(split, epoch_order(0, 0, N), 1, ahead=3)
    next(batches)
    del batches


def test_error_of_a_thread_arrives(split, monkeypatch):
    def broken(indices: np.ndarray) -> np.ndarray:
        raise UserError("x.png is gone")

    monkeypatch.setattr(split, "read", broken)
    with pytest.raises(UserError, match="x.png is gone"):
        list(train_batches(split, epoch_order(0, 0, N), 5))


def test_mistakes(split):
    with pytest.raises(UserError, match="^batch_size 24 exceeds the 23 training images: lower it$"):
        train_batches(split, epoch_order(0, 0, N), 24)
    with pytest.raises(ValueError, match="batch_size 5 is not a multiple of the 2 processes"):
        train_batches(split, epoch_order(0, 0, N), 5, process_count=2)
