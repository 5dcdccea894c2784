import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls_jax.data import split
from imgcls_jax.data.ids import ChosenIds, RecordIds, are_distinct
from imgcls_jax.data.split import split_hash

RANGES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 5)), max_size=6)


def listed(ranges):
    return [f"{name}#{record}" for name, first, count in ranges for record in range(first, first + count)]


@given(RANGES, RANGES)
@settings(max_examples=25, deadline=None)
def test_records_are_those_of_a_list(ranges, others):
    ids, wanted = RecordIds(ranges), listed(ranges)
    assert ids == wanted and wanted == ids and ids != [*wanted, "a"]
    assert [ids[i] for i in range(len(ids))] == list(ids) == ids[:] == wanted
    assert (ids[1:-1], ids[::-2]) == (wanted[1:-1], wanted[::-2])
    assert ids.common(RecordIds(others)) == sum(one == other for one in wanted for other in listed(others))
    assert are_distinct(ids) == (len(set(wanted)) == len(wanted))
    for index in (len(ids), -len(ids) - 1):
        with pytest.raises(IndexError):
            ids[index]


def test_chosen_are_those_of_the_rows():
    ids = ChosenIds(["a", "b", "c"], np.array([2, 0]))
    assert ids == ["c", "a"] and ids[-1] == "a" and "b" not in ids


def test_equal_hashes_are_no_proof():
    class Same(str):
        def __hash__(self):
            return 7

    assert are_distinct([Same("a"), Same("b")]) and not are_distinct([Same("a"), Same("a")])


def test_hash_of_a_split_does_not_depend_on_the_parts_it_is_read_in(monkeypatch):
    ids = RecordIds([("a", 0, 4), ("b", 7, 3)])
    splits = {"train": (ids, np.arange(7, dtype=np.int32), np.arange(7, dtype=np.uint64))}
    lines = ["[train]", *(f"{i} {i:016x} {id}" for i, id in enumerate(ids))]
    wanted = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()[:12]
    assert split_hash(splits) == wanted
    monkeypatch.setattr(split, "_PART", 3)
    assert split_hash(splits) == wanted
