"""Sources made of lists of pairs, and the rules that every source must keep."""

import dataclasses
import doctest
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.config.data import Canvas, Source
from imgcls_jax.data import examples as module
from imgcls_jax.data import load
from imgcls_jax.data.examples import Examples, Splits
from imgcls_jax.data.files import ImageFile, ImageFiles, described, versions
from imgcls_jax.errors import UserError


def gray(value: int, *shape: int) -> np.ndarray:
    return np.full(shape or (8, 8), value, np.uint8)


def message_of(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        Splits.from_pairs("the table", *args, **kwargs)
    return str(caught.value)


def expect(message: str, call) -> None:
    """A UserError with this message; where annotations are enforced, a wrong type ends there."""
    with pytest.raises(Exception) as error:  # noqa: PT011
        call()
    if type(error.value).__name__ != "TypeCheckError":
        assert isinstance(error.value, UserError)
        assert message in str(error.value)


def test_names_are_numbered_in_sorted_order(pets):
    images = [pets / "train/dog/0.png", str(pets / "train/cat/3.png"), pets / "train/cat/1.png"]
    splits = Splits.from_pairs("the table", zip(images, ("dog", "cat", "cat"), strict=True), test=[(images[1], "dog")])
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [1, 0, 0]
    assert splits.train.labels.dtype == np.int32
    assert splits.train.ids == [Path(image).as_posix() for image in images]
    assert splits.train.read([2, 0]) == [images[2], images[0]]
    assert splits.train.pixels is None
    assert splits.validation is None
    assert splits.test.labels.tolist() == [1]


def test_numbers_need_no_names():
    splits = Splits.from_pairs("the table", [(gray(i), np.int64(i % 3)) for i in range(6)])
    assert splits.class_names == ("0", "1", "2")
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert splits.train.ids == [f"train[{i}]" for i in range(6)]


def test_names_may_be_given_for_numbers_and_for_an_order():
    names = ("night", "day", "dusk")
    numbered = Splits.from_pairs("the table", [(gray(0), 0), (gray(1), 1)], class_names=names)
    named = Splits.from_pairs("the table", [(gray(0), "night"), (gray(1), "day")], class_names=names)
    for splits in (numbered, named):
        assert splits.class_names == names
        assert splits.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_arrays_of_one_shape_are_held_as_one_array(shape):
    images = [gray(i, *shape) for i in range(3)]
    pixels = Splits.from_pairs("the table", [(image, i) for i, image in enumerate(images)]).train.pixels
    np.testing.assert_array_equal(pixels, np.stack(images).reshape(3, 5, 4, -1))


def test_images_of_all_kinds_together(pets, settings):
    """A path, bytes and arrays of two shapes give the canvases that Folder gives for the same files."""
    from PIL import Image

    from imgcls_jax.data.sources.folder import Folder

    files = [*sorted((pets / "train/cat").iterdir())[:2], *sorted((pets / "train/dog").iterdir())[:2]]
    images = [files[0], files[1].read_bytes(), np.asarray(Image.open(files[2])), str(files[3])]

    class Mixed(Source, abstract=True):
        def open(self, arrays=None, on_progress=None):
            return Splits.from_pairs("a mixture", zip(images, ("cat", "cat", "dog", "dog"), strict=True))

    ours = load(settings(Mixed())).train
    theirs = load(settings(Folder(str(pets)))).train
    rows = [theirs.ids.index(file.relative_to(pets).as_posix()) for file in files]
    np.testing.assert_array_equal(ours.read_all(), theirs.read(np.array(rows)))
    assert ours.labels.tolist() == theirs.labels[rows].tolist()


def test_fingerprint_changes_with_every_kind_of_image(pets):
    def of(*images) -> str:
        return Splits.from_pairs("the table", [(image, 0) for image in images]).train.fingerprint()

    file = pets / "train/cat/0.png"
    before = of(file, b"one", gray(1))
    assert of(file, b"one", gray(1)) == of(str(file), b"one", gray(1)) == before
    others = {of(file, b"two", gray(1)), of(file, b"one", gray(2)), of(b"one", file, gray(1)), of(file, b"one")}
    os.utime(file, ns=(1, 1))
    others.add(of(file, b"one", gray(1)))
    file.unlink()
    others.add(of(file, b"one", gray(1)))
    assert len(others) == 6 and before not in others


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "the table has no training images"),
        (
            [(gray(0), "cat"), (gray(0), 1)],
            "the training labels of the table are names, such as 'cat', and numbers, such as 1: give all of one kind",
        ),
        ([(gray(0), 0), (gray(0), -1)], "train[1] of the table has the label -1, but there are 1 classes"),
        ([(3, 0)], "train[0] of the table must be a path, the bytes of an image file, or an array, not int"),
        (
            [(gray(0), 0), (np.zeros((4, 4)), 0)],
            "train[1] of the table must be a uint8 or uint16 array of the shape [h, w] or [h, w, 1 to 16], not "
            "float64 [4, 4]",
        ),
        ([(gray(0, 4, 4, 17), 0)], "train[0] of the table must be a uint8 or uint16 array of the shape [h, w] or"),
        ([(gray(0, 4), 0)], "train[0] of the table must be a uint8 or uint16 array of the shape [h, w] or"),
    ],
)
def test_wrong_pairs(pairs, message):
    expect(message, lambda: Splits.from_pairs("the table", pairs))


def test_labels_that_training_lacks():
    train = [(gray(0), "cat"), (gray(0), "dog")]
    assert message_of(train, validation=[(gray(0), "dogs")]) == (
        'validation[0] of the table has the label "dogs", which is none of its 2 classes (did you mean "dog"?)'
    )
    assert message_of(train, class_names=["cat", "cow"]).startswith('train[1] of the table has the label "dog", which')
    assert message_of([(gray(0), 0)], test=[(gray(0), 1)]) == (
        "test[0] of the table has the label 1, but there are 1 classes"
    )


def test_examples_of_docstrings():
    assert doctest.testmod(module).attempted == doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


# ---- the rules that a source must keep ------------------------------------------------------------------------------


def opened(change) -> Source:
    """A source that gives what `change` makes of right splits."""

    class Wrong(Source, abstract=True):
        def open(self, arrays=None, on_progress=None):
            return change(Splits.from_pairs("the table", [(gray(i), i % 2) for i in range(6)]))

    return Wrong()


def train_with(**changes):
    return lambda splits: dataclasses.replace(splits, train=dataclasses.replace(splits.train, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda splits: None, "Wrong.open must return Splits, not NoneType"),
        (lambda splits: [(1, 2)], "Wrong.open must return Splits, not list"),
        (
            lambda splits: dataclasses.replace(splits, class_names=("a",)),
            "labels of the train split of the table (Wrong.open) go from 0 to 1, but there are 1 class names",
        ),
        (train_with(ids=["a"]), "the train split of the table (Wrong.open) has 1 ids, but 6 labels"),
        (
            train_with(ids=list("abcdea")),
            'the train split of the table (Wrong.open) has the example "a" twice: each needs an id of its own',
        ),
        (
            train_with(labels=np.zeros(6)),
            "labels of the train split of the table (Wrong.open) must be integers of the shape [n], or with a name",
        ),
        (train_with(labels=np.zeros(0, np.int32)), "the train split of the table (Wrong.open) has no images"),
    ],
)
def test_a_source_that_breaks_a_rule_is_named(settings, change, message):
    source = opened(change)
    expect(message, lambda: load(settings(source, canvas=Canvas(8, 8, 1), mean=(0.5,), std=(0.5,))))


def test_a_source_without_open(settings):
    class Closed(Source, abstract=True):
        pass

    with pytest.raises(NotImplementedError, match="Closed has no method open"):
        load(settings(Closed()))


def test_a_label_listed_twice(pets):
    pairs = [(pets / "train/cat/0.png", "cat"), (pets / "train/cat/0.png", "dog")]
    splits = Splits.from_pairs("the table", pairs)
    with pytest.raises(UserError, match="has the example .*cat/0.png. twice"):
        module.check(splits, "Table")


def test_part_of_the_examples():
    whole = Splits.from_pairs("the table", [(gray(i), i % 2) for i in range(6)]).train
    part = whole.take(np.array([4, 1]))
    assert isinstance(part, Examples)
    assert (part.ids, part.labels.tolist()) == (["train[4]", "train[1]"], [0, 1])
    assert part.read([1])[0].max() == 1
    assert part.pixels[:, 0, 0, 0].tolist() == [4, 1]
    assert len({whole.fingerprint(), part.fingerprint(), whole.take(np.array([1, 4])).fingerprint()}) == 3


def test_files_keep_their_paths_wherever_they_lie(pets, tmp_path, monkeypatch):
    cat, dog = pets / "train/cat/0.png", pets / "train/dog/1.png"

    def made(paths: list[Path], root: Path) -> Examples:
        files = ImageFiles.of([described(path) for path in paths])
        return Examples.of_files("train", files, np.zeros(len(paths), np.int32), root)

    inside = made([dog, cat], pets / "train")
    assert (inside.ids, inside.read([1, 0])) == (["dog/1.png", "cat/0.png"], [cat, dog])
    outside = made([dog, cat], pets / "train/cat")
    assert (outside.ids, outside.read([1, 0])) == ([dog.as_posix(), "0.png"], [cat, dog])
    assert made([dog, cat], pets / "train/ca").ids == [dog.as_posix(), cat.as_posix()]  # the beginning of a name
    monkeypatch.chdir(pets)
    here = made([Path("train/cat/0.png")], Path())
    assert (here.ids, here.read([0])) == (["train/cat/0.png"], [Path("train/cat/0.png")])
    assert len({inside.fingerprint(), outside.fingerprint(), here.fingerprint()}) == 3


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 3000])
def test_a_digest_is_that_of_the_lines_in_order(count):
    lines = [f"{i} ü {os.fsdecode(bytes([255]))}" for i in range(count)]
    text = b"".join(line.encode("utf-8", "surrogateescape") + b"\n" for line in lines)
    assert module.digest(iter(lines)) == hashlib.sha256(text).hexdigest()


def test_many_files_have_the_versions_of_each():
    files = [ImageFile(f"{i}.png", i, 10**18 + i, 2 * i) for i in range(5000)]
    columns = ImageFiles.joined([ImageFiles.of(files[:10]), ImageFiles.of([]), ImageFiles.of(files[10:])])
    assert columns.names == [file.name for file in files]
    assert list(versions(columns.numbers)) == [file.version for file in files]
