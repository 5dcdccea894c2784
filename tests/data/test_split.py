from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.data.order import split_order
from imgcls_jax.data.split import fold, hold_out, record, sizes, split_hash, trained_on
from imgcls_jax.errors import UserError

NAMES = ("ant", "bee", "cow", "dog")


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.77])
@pytest.mark.parametrize("seed", [0, 1])
def test_stratified_against_counting(share, seed):
    labels = np.random.default_rng(seed).choice(4, 997, p=[0.6, 0.3, 0.08, 0.02]).astype(np.int32)
    kept, held = hold_out(labels, share, seed, NAMES, "validation")
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(997))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    for label in range(4):
        of_class = sum(1 for i in held if labels[i] == label)
        assert abs(of_class - share * sum(1 for x in labels if x == label)) <= 0.5


def test_of_many_classes_those_are_held_out_that_come_first_in_their_order():
    """Written out class by class: no run's split may ever change."""
    labels = np.random.default_rng(0).permutation(np.arange(3000) % 250).astype(np.int32)
    names, parts, begun = [str(label) for label in range(250)], np.empty(3000, int), 0
    held: list[int] = []
    for label in range(250):
        members = np.flatnonzero(labels == label)
        members = members[split_order(7, label, len(members))]
        held += members[:2].tolist()  # 0.2 of 12 is 2.4
        parts[members] = (begun + np.arange(len(members))) % 3
        begun += len(members)
    kept, found = hold_out(labels, 0.2, 7, names, "test")
    assert found.tolist() == sorted(held)
    assert kept.tolist() == sorted(set(range(3000)) - set(held))
    assert fold(labels, 1, 3, 7, names)[1].tolist() == np.flatnonzero(parts == 1).tolist()


def test_share_and_seed_decide_only_who_is_held_out():
    labels = np.repeat([0, 1], 50)
    once, again, other = (hold_out(labels, 0.2, seed, NAMES, "test")[1].tolist() for seed in (0, 0, 1))
    assert once == again != other
    larger = hold_out(labels, 0.4, 0, NAMES, "test")[1].tolist()
    assert set(once) < set(larger)


def test_a_class_is_split_the_same_beside_other_classes():
    few, many = np.repeat([0, 1], [30, 30]), np.repeat([0, 1, 2], [30, 30, 500])
    held_few, held_many = (hold_out(labels, 0.2, 0, NAMES, "test")[1] for labels in (few, many))
    assert held_few.tolist() == held_many[held_many < 60].tolist()


def test_rare_class_is_on_both_sides():
    kept, held = hold_out(np.array([0] * 50 + [1, 1]), 0.1, 0, NAMES, "validation")
    assert 50 in kept or 51 in kept
    assert 50 in held or 51 in held


def test_class_of_one_image():
    message = (
        r'^class "bee" has only 1 image, too few to hold out 0.2 of them for validation: add images, remove the class, '
        "or give a validation split$"
    )
    with pytest.raises(UserError, match=message):
        hold_out(np.array([0, 0, 0, 1]), 0.2, 0, NAMES, "validation")


def test_hash_sees_ids_labels_content_names_and_order():
    def of(name="train", ids=("a", "b"), labels=(0, 1), content=(7, 8)):
        return split_hash({name: (list(ids), np.array(labels, np.int32), np.array(content, np.uint64))})

    assert of() == of()
    others = {of("test"), of(ids=("a", "c")), of(labels=(1, 0)), of(ids=("b", "a"), labels=(1, 0)), of(content=(8, 7))}
    assert len(others | {of()}) == 6
    assert len(of()) == 12


def test_record_is_written_once_and_compared(tmp_path: Path):
    workdir = tmp_path / "run"
    rows = {"train": np.array([0, 2]), "validation": np.array([1])}
    content = np.array([2**64 - 1, 7], np.uint64)
    record(workdir, "abc012345678", rows, content)
    with np.load(workdir / "split.npz") as saved:
        assert str(saved["hash"]) == "abc012345678"
        assert saved["validation"].tolist() == [1]
    record(workdir, "abc012345678", rows, content)
    assert trained_on(workdir).tolist() == content.tolist()
    assert sizes(workdir) == {"train": 2, "validation": 1}
    assert [path.name for path in workdir.iterdir()] == ["split.npz"]
    with pytest.raises(
        UserError, match=r"data have changed since the run in .*run began \(split hash abc012345678, now 0123456789ab\)"
    ):
        record(workdir, "0123456789ab", rows, content)
    (workdir / "split.npz").write_bytes(b"")
    assert trained_on(workdir) is None and sizes(workdir) == {}
