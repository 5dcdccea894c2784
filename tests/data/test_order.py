import numpy as np
import pytest

from imgcls_jax.data.order import (
    _BALANCED,
    balanced_order,
    by_class,
    epoch_order,
    permutation,
    split_order,
    stable_order,
    train_order,
)


def test_numbers_are_fixed_for_good():
    # Committed, because a change would silently give every run and every held-out split another order.
    assert epoch_order(0, 0, 8).tolist() == [0, 1, 6, 5, 3, 7, 2, 4]
    assert split_order(0, 3, 8).tolist() == [4, 1, 2, 3, 5, 6, 0, 7]


def test_philox_against_the_definition():
    """Philox 4×64 with 10 rounds written out from the paper (Salmon et al., 2011)."""

    def philox(counter: list[int], key: list[int]) -> list[int]:
        mask = 2**64 - 1
        for round_ in range(10):
            if round_:
                key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
            a, b = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
            counter = [(b >> 64) ^ counter[1] ^ key[0], b & mask, (a >> 64) ^ counter[3] ^ key[1], a & mask]
        return counter

    seed, epoch = 7, 5
    # NumPy counts up before the first block; stream 1 is the epochs'.
    numbers = [x for block in (1, 2, 3) for x in philox([block, 1, epoch, 0], [seed, 0])]
    assert epoch_order(seed, epoch, 12).tolist() == np.argsort(np.array(numbers, np.uint64)).tolist()


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_is_a_permutation(n):
    assert sorted(epoch_order(3, 4, n).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 2**16 + 1])
@pytest.mark.parametrize("bits", [1, 8, 50, 64])
def test_stable_order_is_that_of_numpy(n, bits):
    """Numbers of few bits are tied in their leading ones, or altogether."""
    numbers = np.random.default_rng(n).integers(0, 2**bits, n, np.uint64, endpoint=False) << (64 - bits) // 2
    np.testing.assert_array_equal(stable_order(numbers), np.argsort(numbers, kind="stable"))
    numbers = np.random.default_rng(n).integers(0, 2**bits, n, np.uint64, endpoint=False)
    np.testing.assert_array_equal(stable_order(numbers), np.argsort(numbers, kind="stable"))


def test_seeds_epochs_and_uses_differ():
    orders = {tuple(o.tolist()) for o in (epoch_order(0, 0, 50), epoch_order(1, 0, 50), epoch_order(0, 1, 50))}
    orders |= {tuple(split_order(0, 0, 50).tolist()), tuple(permutation(50, 0, 9).tolist())}
    assert len(orders) == 5


def test_uniform_first_place():
    first = np.bincount([epoch_order(seed, 0, 5)[0] for seed in range(1000)], minlength=5)
    assert (np.abs(first - 200) < 60).all()  # Standard deviation 12.6.


def test_balanced_counts():
    labels = np.repeat([0, 1, 3], [90, 9, 2]).astype(np.int32)
    order = balanced_order(labels, seed=0, epoch=0)
    assert len(order) == 101
    assert sorted(np.bincount(labels[order])[[0, 1, 3]].tolist()) == [33, 34, 34]
    times = np.bincount(order, minlength=101)
    assert times[:90].max() == 1
    for rare in (times[90:99], times[99:]):
        assert rare.max() - rare.min() <= 1


def test_balanced_leaves_out_another_part_each_epoch_and_mixes_classes():
    labels = np.repeat([0, 1], [900, 100]).astype(np.int32)
    a, b = (balanced_order(labels, seed=0, epoch=e) for e in (0, 1))
    assert set(a.tolist()) != set(b.tolist())
    halves = [np.mean(labels[half]) for half in np.split(a, 2)]
    assert all(0.4 < share < 0.6 for share in halves)


def test_order_of_each_sampling():
    labels = np.repeat([0, 1], [9, 3]).astype(np.int32)
    assert sorted(train_order(labels, "shuffle", 5, 2).tolist()) == list(range(12))
    times = np.bincount(train_order(labels, "balanced", 5, 2), minlength=12)
    assert times[9:].tolist() == [2, 2, 2]
    assert sorted(times[:9].tolist()) == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def many(classes: int, count: int) -> np.ndarray:
    """Labels in no order, some of which do not occur."""
    return (3 * np.random.default_rng(0).integers(0, classes, count)).astype(np.int32)


@pytest.mark.parametrize("labels", [many(300, 1000), np.zeros(3, np.int32), np.array([5, 2, 5]), np.zeros(0, int)])
def test_members_of_each_class_are_those_with_its_label(labels):
    found = [(label, members.tolist()) for label, members in by_class(labels)]
    assert found == [(label, np.flatnonzero(labels == label).tolist()) for label in np.unique(labels).tolist()]


def test_balanced_order_against_its_definition():
    """Written out class by class: no run's order may ever change."""
    labels, seed, epoch = many(40, 500), 3, 2
    classes = np.unique(labels)
    quota, extra = divmod(len(labels), len(classes))
    lucky = permutation(len(classes), seed, _BALANCED, epoch, 0)[:extra].tolist()
    chosen = []
    for rank, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        shuffled = members[permutation(len(members), seed, _BALANCED, epoch, 1 + rank)]
        chosen += np.resize(shuffled, quota + (rank in lucky)).tolist()
    order = np.array(chosen)[permutation(len(labels), seed, _BALANCED, epoch, 1 + len(classes))]
    assert balanced_order(labels, seed, epoch).tolist() == order.tolist()
