"""Folds and held-out shares with and without groups, beside scikit-learn's splitters."""

import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from imgcls_jax.data import groups, load
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.data.sources.table import Table
from imgcls_jax.data.split import fold, hold_out
from imgcls_jax.errors import UserError

NAMES = ("ant", "bee", "cow")


def patients(seed, count=60, images=600):
    """Labels and groups of images: patients of very different numbers of images, each mostly of one class."""
    rng = np.random.default_rng(seed)
    of = rng.choice(count, images, p=rng.dirichlet(np.ones(count)))
    usual = rng.choice(3, count, p=(0.6, 0.3, 0.1))
    labels = np.where(rng.random(images) < 0.8, usual[of], rng.integers(0, 3, images))
    return labels, [f"patient{i:02}" for i in of]


@pytest.mark.parametrize("seed", range(5))
def test_two_equal_shares_are_the_folds_of_scikit_learn(monkeypatch, seed):
    # Of more folds, scikit-learn takes the one that rounding errors favor where several are equally good.
    count = 2
    monkeypatch.setattr(groups, "group_order", lambda seed, n: np.arange(n))  # as its shuffle=False
    labels, of = patients(seed)
    parts = groups.divide(labels, of, (1 / count,) * count, seed)
    expected = StratifiedGroupKFold(count).split(labels, labels, of)
    for number, (_, held) in enumerate(expected):
        assert np.flatnonzero(parts == number).tolist() == held.tolist()


def unevenness(labels, sides):
    """Greatest difference between a class's share in a fold and among all images."""
    overall = np.bincount(labels, minlength=3) / len(labels)
    return max(np.abs(np.bincount(labels[held], minlength=3) / len(held) - overall).max() for held in sides)


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_classes_even(seed):
    labels, of = patients(seed)
    sides = [fold(labels, k, 5, seed, NAMES, of) for k in range(5)]
    assert sorted(np.concatenate([held for _, held in sides]).tolist()) == list(range(len(labels)))
    for kept, held in sides:
        assert not {of[i] for i in kept} & {of[i] for i in held}
        assert len(kept) + len(held) == len(labels)
    theirs = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, of)
    assert (
        unevenness(labels, [held for _, held in sides]) < 1.5 * unevenness(labels, [held for _, held in theirs]) + 0.02
    )


@pytest.mark.parametrize("seed", range(3))
def test_folds_without_groups_are_as_even_as_scikit_learns(seed):
    labels, _ = patients(seed, images=593)
    sides = [fold(labels, k, 4, seed, NAMES)[1] for k in range(4)]
    theirs = [held for _, held in StratifiedKFold(4, shuffle=True, random_state=seed).split(labels, labels)]
    assert sorted(np.concatenate(sides).tolist()) == list(range(593))
    counts, expected = (sorted(np.bincount(labels[held]).tolist() for held in some) for some in (sides, theirs))
    assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(expected, axis=0).max() <= 1
    assert np.ptp([len(held) for held in sides]) <= 1
    assert fold(labels, 0, 4, seed + 1, NAMES)[1].tolist() != sides[0].tolist()


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_share_of_groups(share):
    labels, of = patients(0, count=150, images=1500)
    kept, held = hold_out(labels, share, 0, NAMES, "validation", of)
    assert not {of[i] for i in kept} & {of[i] for i in held}
    assert np.abs(np.bincount(labels[held]) / np.bincount(labels) - share).max() < 0.04
    assert hold_out(labels, share, 1, NAMES, "validation", of)[1].tolist() != held.tolist()


def test_a_class_of_one_group_cannot_be_on_both_sides():
    labels, of = np.repeat([0, 1], 10), ["a"] * 5 + ["b"] * 5 + ["c"] * 10
    with pytest.raises(UserError, match='all images of class "bee" are held out together for fold'):
        [fold(labels, k, 2, 0, NAMES, of) for k in range(2)]


def test_groups_of_a_table_and_of_paths(tmp_path, picture, settings):
    lines = ["file,label,patient"]
    for patient in range(6):
        for i in range(4):
            label = "sick" if patient % 2 else "well"
            picture(tmp_path / "scans" / label / f"p{patient}_{i}.png")
            lines.append(f"scans/{label}/p{patient}_{i}.png,{label},{patient}")
    (tmp_path / "scans.csv").write_text("\n".join(lines))
    table, folder = Table(str(tmp_path / "scans.csv")), Folder(str(tmp_path / "scans"))
    pattern = r"p(\d+)_"
    for source, how in ((table, {}), (folder, {"group_pattern": pattern}), (folder, {"group_pattern": r"p\d"})):
        held = [load(settings(source, fold=(k, 3), **how)).validation.ids for k in range(3)]
        assert [len(ids) for ids in held] == [8, 8, 8]
        assert all(len({id.rpartition("_")[0] for id in ids}) == 2 for ids in held)
    shared = load(settings(table, validation_share=0.3, test_share=0.3))
    assert len({id.rpartition("_")[0] for split in shared.splits for id in split.ids}) == 6

    (tmp_path / "split.csv").write_text(
        "\n".join([lines[0] + ",split", *(f"{line},train" for line in lines[1:-1]), f"{lines[-1]},val"])
    )
    with pytest.raises(
        UserError, match='^1 of 6 groups of the table .* are both in train and in validation, such as "5"'
    ):
        load(settings(Table(str(tmp_path / "split.csv"))))
    with pytest.raises(UserError, match="'q' is not found in 24 of 24 train paths of the folder .*, such as sick/p1_0"):
        load(settings(folder, group_pattern="q"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": (3, 3)}, r"data.fold = \(3, 3\): folds are counted from 0, so that the last of 3 is 2"),
        ({"fold": (0, 3), "validation_share": 0.1}, "but so does data.validation_share: keep one of them"),
        ({"fold": (199, 200)}, "6 images cannot be divided into 200 folds: take 6 at most"),
    ],
)
def test_folds_that_make_no_sense(settings, tiny_arrays, changes, message):
    arrays = {name: array for name, array in tiny_arrays.items() if not name.endswith("validation")}
    with pytest.raises(UserError, match=message):
        load(settings(Arrays(), **changes), arrays=arrays if "200" not in message else _few(arrays))
    whole = dataclasses.replace(settings(Arrays()), fold=(0, 3))
    with pytest.raises(UserError, match="has a validation split of its own: keep one"):
        load(whole, arrays=tiny_arrays)


def _few(arrays):
    """So few images that a fold stays empty."""
    return {name: array[:6] for name, array in arrays.items()}
