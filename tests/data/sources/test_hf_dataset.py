"""Sets of Hugging Face's `datasets`, which itself is the reference: its splits, names, labels and pixels."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.data import load
from imgcls_jax.data.canvas import read
from imgcls_jax.data.sources.hf_dataset import HFDataset
from imgcls_jax.errors import UserError
from imgcls_jax.tune.suggest.look import look, source_of

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at the import
datasets = pytest.importorskip("datasets")

NAMES = ["dog", "cat", "cow"]


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (7, 9)) -> list[Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)
    return [Image.fromarray(one) for one in pixels]


def table(count: int, seed: int = 0, **columns):
    """A table of images of PNG with a ClassLabel, and more columns."""
    values = {"photo": pictures(count, seed), "kind": [i % len(NAMES) for i in range(count)]} | columns
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    rows = datasets.Dataset.from_dict({name: values[name] for name in features}, features)
    for name in columns:
        rows = rows if name in features else rows.add_column(name, values[name])
    return rows


def saved(folder: Path, rows) -> str:
    rows.save_to_disk(folder)
    return str(folder)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    """A folder with the splits train, valid and testing, whose rows are in the format numpy."""
    parts = {"train": table(7), "valid": table(4, seed=1), "testing": table(3, seed=2)}
    return saved(tmp_path / "pets", datasets.DatasetDict(parts).with_format("numpy"))


def test_splits_names_labels_and_pixels_are_those_of_datasets(pets, settings):
    source = HFDataset(pets).open()
    theirs = datasets.load_from_disk(pets).with_format(None)
    assert source.class_names == tuple(theirs["train"].features["kind"].names) == tuple(NAMES)
    assert source.notes == ('columns of the data set: "photo" as the image, "kind" as the label',)
    canvas = c.Canvas(7, 9)
    for ours, name in ((source.train, "train"), (source.validation, "valid"), (source.test, "testing")):
        rows = theirs[name]
        assert ours.labels.tolist() == list(rows["kind"])
        assert ours.ids == [f"{name}[{i}]" for i in range(len(rows))]
        order = [len(rows) - 1, 0, 1]
        for index, encoded in zip(order, ours.read(order), strict=True):
            np.testing.assert_array_equal(read(encoded, canvas)[0], np.asarray(rows[index]["photo"]))
    dataset = load(settings(HFDataset(pets), canvas=canvas, image_size=(7, 9)))
    expected = np.stack([np.asarray(row["photo"]) for row in theirs["train"]])
    np.testing.assert_array_equal(dataset.train.read_all(), expected)


def test_the_fingerprint_changes_with_the_images(tmp_path, pets):
    before = HFDataset(pets).open().train.fingerprint()
    assert HFDataset(pets).open().train.fingerprint() == before
    saved(tmp_path / "others", datasets.DatasetDict(train=table(7, seed=9)))
    for file in (tmp_path / "others/train").iterdir():
        if file.suffix == ".arrow":
            file.replace(Path(pets) / "train" / file.name)
    assert HFDataset(pets).open().train.fingerprint() != before


def test_files_that_rows_only_name_are_read(tmp_path):
    for i, picture in enumerate(pictures(2)):
        picture.save(tmp_path / f"{i}.png")
    rows = {"photo": [str(tmp_path / f"{i}.png") for i in range(2)], "label": [0, 1]}
    folder = tmp_path / "set"
    whole = datasets.Dataset.from_dict(rows).cast_column("photo", datasets.Image())
    whole.save_to_disk(folder)  # with the files' bytes in it
    embedded = HFDataset(str(folder)).open().train
    assert embedded.ids == ["train[0] 0.png", "train[1] 1.png"]
    assert embedded.read([1]) == [(tmp_path / "1.png").read_bytes()]
    loaded = HFDataset(str(tmp_path / "folder"), data_dir=str(tmp_path / "cache"))
    for i, name in enumerate(("cat", "dog")):
        (tmp_path / "folder" / name).mkdir(parents=True)
        (tmp_path / f"{i}.png").rename(tmp_path / "folder" / name / f"{i}.png")
    source = loaded.open()  # as load_dataset takes folders of images
    assert (source.class_names, source.train.labels.tolist()) == (("cat", "dog"), [0, 1])
    assert source.train.read([1]) == [tmp_path / "folder/dog/1.png"]
    before = source.train.fingerprint()
    pictures(3)[2].save(tmp_path / "folder/dog/1.png")
    assert source.train.fingerprint() != before


def test_a_set_of_the_cache_is_found_by_its_name(tmp_path, monkeypatch):
    table(6).to_parquet(tmp_path / "train.parquet")
    cache = tmp_path / "cache"
    files = {"train": str(tmp_path / "train.parquet")}
    theirs = datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache))["train"]
    # As it lies there once it was downloaded.
    (folder,) = (cache / "parquet").glob("*/*/*/")
    cached = cache / "nobody___pets" / "default" / "0.0.0" / folder.name
    cached.parent.mkdir(parents=True)
    folder.rename(cached)
    (cached / "parquet-train.arrow").rename(cached / "pets-train.arrow")
    for module, name in (("datasets.config", "HF_HUB_OFFLINE"), ("huggingface_hub.constants", "HF_HUB_OFFLINE")):
        monkeypatch.setattr(sys.modules[module], name, True)
    source = HFDataset("nobody/pets", data_dir=str(cache)).open()
    assert (source.class_names, source.train.labels.tolist()) == (tuple(NAMES), [0, 1, 2, 0, 1, 2])
    with pytest.raises(
        UserError, match=r"^the data set nobody/cars cannot be opened \(.*\): give a folder that `save_"
    ):
        HFDataset("nobody/cars", data_dir=str(cache)).open()
    assert theirs.num_rows == len(source.train)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["b", "a", "b"], (), (("a", "b"), [1, 0, 1])),
        ([10, 9, 10], (), (("9", "10"), [1, 0, 1])),
        ([1, 0, 1], ("9", "0"), (("9", "0"), [1, 0, 1])),
        (["b", "a", "b"], ("b", "a"), (("b", "a"), [0, 1, 0])),
        ([-1, 1, 1], (), (("-1", "1"), [0, 1, 1])),
    ],
)
def test_labels_may_be_texts_and_whole_numbers(tmp_path, labels, names, expected):
    folder = saved(tmp_path / "set", table(3, category=labels, patient=["x", "y", "x"]))
    source = HFDataset(folder, label="category", class_names=names).open()
    assert (source.class_names, source.train.labels.tolist()) == expected
    assert source.train.groups == ["x", "y", "x"]
    assert HFDataset(folder, label="category", class_names=names, group="").open().train.groups is None


def test_the_numbers_of_a_class_label_are_places_whatever_its_names(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["1", "0"])})
    rows = datasets.Dataset.from_dict({"image": pictures(3), "label": [0, 1, 1]}, features)
    assert HFDataset(saved(tmp_path / "set", rows)).open().train.labels.tolist() == [0, 1, 1]


def test_a_column_of_bytes_holds_images_if_it_is_named(tmp_path):
    for picture in pictures(1):
        picture.save(tmp_path / "0.png")
    content = (tmp_path / "0.png").read_bytes()
    rows = datasets.Dataset.from_dict({"raw": [content, content], "label": ["a", "b"]})
    source = HFDataset(saved(tmp_path / "set", rows), image="raw").open()
    assert source.train.read([0, 1]) == [content, content]
    assert source.train.ids == ["train[0]", "train[1]"]


def test_damaged_and_missing_images_are_set_aside(tmp_path, settings):
    cells = [{"bytes": b"GIF89a", "path": "cut.gif"}, None]
    rows = table(4)
    broken = datasets.Dataset.from_dict({"photo": cells, "kind": [0, 1]}, rows.features)
    folder = saved(tmp_path / "set", datasets.concatenate_datasets([rows, broken]))
    dataset = load(settings(HFDataset(folder), max_bad_share=0.5))
    assert len(dataset.train) == 4
    assert [image.path for image in dataset.bad] == ["train[4] cut.gif", "train[5]"]
    assert dataset.bad[1].reason == "the file is empty (0 bytes)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": "phto"},
            '^the data set .* has no column "phto" .data.source.image. .did you mean "photo"..: its col',
        ),
        ({"image": "kind"}, 'column "kind" of the data set .* is int64, not Image or .*: its images are in "photo"$'),
        ({"label": "photo"}, 'column "photo" of the data set .* not ClassLabel, whole numbers or texts$'),
        ({"label": "kindd"}, 'no column "kindd" .data.source.label. .did you mean "kind".'),
        ({"group": "patient"}, 'no column "patient" .data.source.group.: its columns are "photo", "kind"$'),
        (
            {"train": "trian"},
            'has no split "trian" .data.source.train. .did you mean "train"..: its splits are train, ',
        ),
        ({"test": "valid"}, 'takes the split "valid" of the data set .* twice, once as validation'),
        ({"class_names": ("a", "b", "c")}, 'column "kind" of .* has names of its classes: leave out data.source.class'),
    ],
)
def test_a_mistake_is_one_sentence(pets, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        HFDataset(pets, **changes).open()
    assert "\n" not in str(caught.value)


def test_what_a_set_lacks_is_one_sentence(tmp_path, monkeypatch):
    def refused(name: str, rows) -> str:
        with pytest.raises(UserError) as caught:
            HFDataset(saved(tmp_path / name, rows)).open()
        return str(caught.value).replace(f"the data set {tmp_path}/", "")

    only = table(3)
    assert refused("a", datasets.DatasetDict(fold1=only)) == (
        "a has no training split: its splits are fold1; name one by data.source.train"
    )
    assert refused("b", datasets.DatasetDict(train=only, val=only, valid=only)) == (
        "b has both val and valid: say which by data.source.validation"
    )
    assert refused("c", only.remove_columns("kind")) == (
        'c has no column of the feature ClassLabel: its columns are "photo"; set data.source.label'
    )
    assert refused("d", only.remove_columns("photo")) == (
        'd has no column of the feature Image: its columns are "kind"; set data.source.image'
    )
    two = only.add_column("fine", [0, 1, 2]).cast_column("fine", datasets.ClassLabel(names=NAMES))
    assert refused("e", two) == (
        'e has the columns "kind", "fine", each of which may be its label: say which by data.source.label'
    )
    hidden = datasets.Dataset.from_dict({"photo": pictures(2), "kind": [-1, 1]}, only.features)
    assert refused("f", datasets.DatasetDict(train=only, test=hidden)) == (
        '1 of 2 images of the test split of f have no label in "kind": leave it out by data.source.test = ""'
    )
    texts = [datasets.Dataset.from_dict({"photo": pictures(2), "kind": kinds}) for kinds in (["a", "b"], ["a", "bb"])]
    parts = [part.cast_column("photo", datasets.Image()) for part in texts]
    assert refused("g", datasets.DatasetDict(train=parts[0], test=parts[1])).startswith(
        'g has no column of the feature ClassLabel: its columns are "photo", "kind"'
    )
    parts = [part.rename_column("kind", "label") for part in parts]
    assert refused("h", datasets.DatasetDict(train=parts[0], test=parts[1])) == (
        "column \"label\" of the test split of h has the label 'bb', which is none of the 2 classes"
    )
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"needs datasets, which is not installed: run pip install 'imgcls_jax\[datasets"
    ):
        HFDataset(str(tmp_path / "a")).open()


def test_the_first_command_knows_such_a_folder(pets):
    assert source_of(pets) == c.HFDataset(pets)
    seen = look(source_of(pets))
    assert (seen.height, seen.width, seen.counts.tolist()) == (7, 9, [3, 2, 2])
