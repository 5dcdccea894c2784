"""From settings to splits: held-out shares, unreadable images, and what is left in the work directory."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import BadImage, load
from imgcls_jax.data.image_formats import KNOWN
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.data.sources.tfds import TFDS
from imgcls_jax.errors import UserError


def arrays(n: int = 40, **changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {"x_train": rng.integers(0, 256, (n, 8, 8, 3), np.uint8), "y_train": np.arange(n) % 4}
    return given | changes


def test_folder_end_to_end(pets, settings):
    dataset = load(settings(Folder(str(pets))))
    assert dataset.class_names == ("cat", "dog")
    assert [(s.name, len(s), s.nbytes) for s in dataset.splits] == [("train", 10, 1920), ("validation", 3, 576)]
    assert dataset.train.class_counts(3).tolist() == [6, 4, 0]
    image = Image.open(pets / "val/dog/0.png").resize((9, 8), Image.Resampling.BILINEAR).crop((0, 0, 8, 8))
    np.testing.assert_array_equal(dataset.validation.read(np.array([2]))[0], np.asarray(image))
    assert dataset.validation.ids[2] == "val/dog/0.png"
    assert dataset.train.aspect.tolist() == [1.0] * 10
    assert (dataset.test, dataset.bad) == (None, [])


def test_held_out_splits_are_disjoint_stratified_and_keep_their_images(settings):
    given = arrays()
    dataset = load(settings(Arrays(), validation_share=0.25, test_share=0.2), arrays=given)
    assert [(s.name, len(s)) for s in dataset.splits] == [("train", 24), ("validation", 8), ("test", 8)]
    assert sorted(id for s in dataset.splits for id in s.ids) == sorted(f"x_train[{i}]" for i in range(40))
    for split in dataset.splits:
        assert len(set(split.class_counts(4).tolist())) == 1
        original = [int(id[8:-1]) for id in split.ids]
        np.testing.assert_array_equal(split.read_all(), given["x_train"][original])
        np.testing.assert_array_equal(split.labels, given["y_train"][original])
        np.testing.assert_array_equal(split.read(np.array([3, 1, 1])), given["x_train"][original][[3, 1, 1]])


def test_split_seed_and_hash(settings):
    def of(seed: int, share: float = 0.25) -> tuple[str, list[str]]:
        dataset = load(settings(Arrays(), validation_share=share, split_seed=seed), arrays=arrays())
        return dataset.split_hash, dataset.validation.ids

    assert of(0) == of(0)
    assert len({of(0)[0], of(1)[0], of(0, 0.5)[0]}) == 3


def test_validation_share_does_not_move_the_test(settings):
    tests = [
        load(settings(Arrays(), validation_share=share, test_share=0.2), arrays=arrays()).test.ids
        for share in (0.0, 0.25, 0.5)
    ]
    assert tests[0] == tests[1] == tests[2]


def test_every_split_shares_one_cache_whatever_its_share(pets, settings, tmp_path):
    for share, seed in ((0.0, 0), (0.25, 0), (0.5, 1)):
        load(settings(Folder(str(pets / "train")), validation_share=share, split_seed=seed))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_evaluation_canvas_of_its_own(pets, settings):
    config = settings(
        Folder(str(pets / "train")),
        canvas=Canvas(16, 16, fit="stretch"),
        eval_canvas=Canvas(8, 8),
        validation_share=0.3,
    )
    dataset = load(config)
    assert dataset.train.read_all().shape == (7, 16, 16, 3)
    assert dataset.validation.read_all().shape == (3, 8, 8, 3)
    np.testing.assert_allclose(dataset.train.aspect, 1.2)
    assert dataset.validation.aspect.tolist() == [1, 1, 1]
    for split, how in ((dataset.train, (16, 16)), (dataset.validation, (9, 8))):
        for row, id in enumerate(split.ids):
            image = Image.open(pets / "train" / id).resize(how, Image.Resampling.BILINEAR)
            width = split.canvas.width
            np.testing.assert_array_equal(split.read(np.array([row]))[0], np.asarray(image.crop((0, 0, width, width))))


def test_share_where_the_source_has_the_split(pets, settings):
    message = f"^data.validation_share is 0.2, but the folder {pets} has a validation split of its own: set it to 0$"
    with pytest.raises(UserError, match=message):
        load(settings(Folder(str(pets)), validation_share=0.2))


def test_class_too_small(settings):
    labels = np.array([0] * 20 + [1] * 19 + [2])
    with pytest.raises(UserError, match='^class "2" has only 1 image, too few to hold out 0.1 of them for validation'):
        load(settings(Arrays(), validation_share=0.1), arrays=arrays(y_train=labels))


@pytest.fixture
def broken_pets(pets: Path) -> Path:
    (pets / "train" / "cat" / "2.png").write_bytes(b"")
    (pets / "val" / "dog" / "0.png").write_text("not an image")
    return pets


def test_splits_say_how_their_canvases_are_kept(settings):
    """64 images of one color: 12 KiB as they are."""
    arrays = {"x_train": np.zeros((64, 9, 9, 3), np.uint8), "y_train": np.arange(64) % 2}

    def storage(kib: float, encoding: str) -> str:
        config = settings(Arrays(), cache_gib=kib / 2**20, cache_encoding=encoding)
        return load(config, arrays=arrays).train.storage

    assert storage(100, "webp") == "cached as they are"
    assert storage(1, "webp") == storage(10, "none") == "decoded in every epoch"
    assert storage(10, "webp") == "cached as lossless WebP"


@pytest.mark.parametrize("gib", [1.0, 1e-9, 0.0])
def test_bad_images_are_set_aside_and_listed(broken_pets, settings, tmp_path, gib):
    config = settings(Folder(str(broken_pets)), max_bad_share=0.2, cache_gib=gib)
    for _ in range(2):  # The second time they come from the cache's memory, if there is one.
        dataset = load(config, tmp_path / "run")
        assert dataset.bad == [
            BadImage("train/cat/2.png", "train", "the file is empty (0 bytes)"),
            BadImage("val/dog/0.png", "validation", f"not a {KNOWN} image"),
        ]
        assert (len(dataset.train), len(dataset.validation)) == (9, 2)
        assert "train/cat/2.png" not in dataset.train.ids
        assert (dataset.train.read_all().max(axis=(1, 2, 3)) > 0).all()
        with open(tmp_path / "run" / "bad_images.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [tuple(row.values()) for row in rows] == [(b.path, b.split, b.reason) for b in dataset.bad]
        with np.load(tmp_path / "run" / "split.npz") as saved:
            assert saved["train"].tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
            assert saved["validation"].tolist() == [0, 1]
            assert str(saved["hash"]) == dataset.split_hash
    assert (broken_pets / "train" / "cat" / "2.png").exists()


def test_too_many_bad_images(broken_pets, settings, tmp_path):
    message = (
        f"^2 of 13 images of the folder {broken_pets} cannot be read, listed in {tmp_path}/run/bad_images.csv; the "
        r"first is train/cat/2.png \(the file is empty \(0 bytes\)\): repair or remove them, or raise "
        r"data.max_bad_share \(now 0.01\)$"
    )
    with pytest.raises(UserError, match=message):
        load(settings(Folder(str(broken_pets))), tmp_path / "run")
    assert (tmp_path / "run" / "bad_images.csv").exists()


def test_bad_images_of_a_held_out_split(broken_pets, settings):
    config = settings(Folder(str(broken_pets / "train")), validation_share=0.5, max_bad_share=0.2)
    dataset = load(config)
    assert [image.path for image in dataset.bad] == ["cat/2.png"]
    assert len(dataset.train) + len(dataset.validation) == 9


def test_class_of_which_no_image_is_readable(pets, settings):
    for path in (pets / "train" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match='^no training image of class "dog" can be read: see bad_images.csv$'):
        load(settings(Folder(str(pets)), max_bad_share=0.9))


def test_data_that_changed_since_the_run_began(pets, settings, tmp_path, picture):
    load(settings(Folder(str(pets))), tmp_path / "run")
    picture(pets / "train" / "cat" / "new.png")
    with pytest.raises(UserError, match="the data have changed since the run in .* began"):
        load(settings(Folder(str(pets))), tmp_path / "run")


def test_cache_folder_from_the_environment(pets, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "from_env"))
    load(settings(Folder(str(pets)), cache_dir=None))
    assert any((tmp_path / "from_env" / "canvases").iterdir())


def test_arrays_for_another_source(settings, pets):
    with pytest.raises(UserError, match="^arrays were given, but data.source is Folder: use Arrays"):
        load(settings(Folder(str(pets))), arrays=arrays())


def test_all_canvases_without_a_copy_where_that_is_possible(pets, settings):
    whole = load(settings(Folder(str(pets)))).train
    assert np.shares_memory(whole.read_all(), whole.read_all())
    part = load(settings(Folder(str(pets / "train")), validation_share=0.3)).train
    np.testing.assert_array_equal(part.read_all(), part.read(np.arange(len(part))))


def test_read_out_of_range(settings):
    dataset = load(settings(Arrays(), validation_share=0.25), arrays=arrays())
    with pytest.raises(IndexError):
        dataset.train.read(np.array([30]))


def test_real_folders(real_folders, settings):
    imagenette = load(settings(Folder(str(real_folders / "imagenette")), canvas=Canvas(32, 32)))
    assert [len(s) for s in imagenette.splits] == [1000, 500]
    assert imagenette.train.class_counts(10).tolist() == [100] * 10
    pets = load(settings(Folder(str(real_folders / "cats_dogs")), canvas=Canvas(32, 32), validation_share=0.2))
    assert [len(s) for s in pets.splits] == [560, 140, 300]
    assert pets.class_names == ("cats", "dogs")
    assert pets.bad == imagenette.bad == []
    path = real_folders / "imagenette" / imagenette.train.ids[0]
    with Image.open(path) as image:
        assert image.size == (224, 224)
        reference = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(imagenette.train.read(np.array([0]))[0], reference)


def test_tfds_shares(settings, digits_dir):
    source = TFDS("imgcls_digits", "train", None, "test", data_dir=str(digits_dir))
    config = settings(source, canvas=Canvas(8, 8, 1), mean=(0.5,), std=(0.5,), validation_share=0.1)
    dataset = load(config)
    assert abs(len(dataset.validation) - 0.1 * (len(dataset.train) + len(dataset.validation))) <= 5
    assert set(dataset.validation.ids).isdisjoint(dataset.train.ids)


@pytest.mark.parametrize(
    ("images", "share", "note"),
    [
        (100, 0.0, "there are no validation images, so that nothing measures the model while it trains: data."),
        (100, 0.2, "only 20 validation images: each is 5.0 % of the accuracy, whose standard error is up to 11 %"),
        (100, 0.5, None),
    ],
)
def test_what_validation_cannot_tell_is_said(settings, images, share, note):
    arrays = {"x_train": np.zeros((images, 8, 8, 3), np.uint8), "y_train": np.arange(images) % 2}
    notes = load(settings(Arrays(), validation_share=share), arrays=arrays).notes
    assert len(notes) == (note is not None)
    assert not note or notes[0].startswith(note)
