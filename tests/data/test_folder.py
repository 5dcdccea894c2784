import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.config.data import Folder
from imgcls_jax.data.folder import open_folder
from imgcls_jax.errors import UserError


def message_of(path: Path, **changes) -> str:
    with pytest.raises(UserError) as caught:
        open_folder(Folder(str(path), **changes))
    return str(caught.value)


def test_train_and_validation(pets: Path):
    source = open_folder(Folder(str(pets)))
    assert source.class_names == ("cat", "dog")
    assert source.train.ids == [f"train/cat/{i}.png" for i in range(6)] + [f"train/dog/{i}.png" for i in range(4)]
    assert source.train.labels.tolist() == [0] * 6 + [1] * 4
    assert source.train.labels.dtype == np.int32
    assert source.validation.labels.tolist() == [0, 0, 1]
    assert source.test is None
    assert source.train.read([7]) == [pets / "train/dog/1.png"]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid", "val_images"])
def test_names_of_the_validation_folder(pets: Path, name: str):
    (pets / "val").rename(pets / "moved")
    (pets / "moved").rename(pets / name)
    assert len(open_folder(Folder(str(pets))).validation) == 3


def test_test_folder(pets: Path):
    (pets / "val").rename(pets / "test")
    source = open_folder(Folder(str(pets)))
    assert (source.validation, len(source.test)) == (None, 3)


def test_single_folder(pets: Path):
    source = open_folder(Folder(str(pets / "train")))
    assert source.train.ids[0] == "cat/0.png"
    assert (source.validation, source.test, len(source.train)) == (None, None, 10)


def test_nested_hidden_foreign_and_oddly_named_files(pets: Path, picture):
    cats = pets / "train" / "cat"
    for name in ("a/b/c/deep.PNG", "x.JpEg", "spaced name.tif", "ünï.bmp", "two.dots.webp"):
        picture(cats / name)
    for name in (".hidden.png", ".DS_Store", "notes.txt", ".thumbs/0.png", "__MACOSX.csv"):
        (cats / name).parent.mkdir(exist_ok=True)
        (cats / name).touch()
    (pets / "train" / ".git").mkdir()
    (pets / ".ipynb_checkpoints").mkdir()
    source = open_folder(Folder(str(pets)))
    assert source.class_names == ("cat", "dog")
    added = {id.removeprefix("train/cat/") for id in source.train.ids if id.startswith("train/cat/")}
    assert added - {f"{i}.png" for i in range(6)} == {
        "a/b/c/deep.PNG", "x.JpEg", "spaced name.tif", "ünï.bmp", "two.dots.webp",
    }  # fmt: skip


def test_links_are_followed_and_cycles_end(pets: Path, tmp_path: Path, picture):
    picture(tmp_path / "elsewhere" / "bird.png")
    (pets / "train" / "bird").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    source = open_folder(Folder(str(pets)))
    assert source.class_names == ("bird", "cat", "dog")
    assert source.train.ids[0] == "train/bird/bird.png"
    assert source.train.labels.tolist().count(0) == 1


def test_broken_link_is_listed_so_that_it_is_reported(pets: Path):
    (pets / "train" / "cat" / "gone.png").symlink_to(pets / "nowhere.png")
    assert "train/cat/gone.png" in open_folder(Folder(str(pets))).train.ids


def test_home_is_expanded(pets: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    assert len(open_folder(Folder("~/pets")).train) == 10


def test_file_name_that_is_not_utf8(pets: Path):
    name = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(pets / "train/cat/0.png", pets / "train/cat" / name)
    examples = open_folder(Folder(str(pets))).train
    assert f"train/cat/{name}" in examples.ids
    assert examples.fingerprint()


def test_fingerprint_changes_with_the_files(pets: Path):
    def fingerprint() -> str:
        return open_folder(Folder(str(pets))).train.fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    os.utime(pets / "train/cat/0.png", ns=(1, 1))
    touched = fingerprint()
    assert touched != before
    (pets / "train/cat/0.png").unlink()
    assert fingerprint() not in (before, touched)


def test_class_missing_in_validation_is_allowed(pets: Path):
    shutil.rmtree(pets / "val" / "dog")
    assert open_folder(Folder(str(pets))).validation.labels.tolist() == [0, 0]


def test_class_missing_in_training(pets: Path):
    (pets / "val" / "dog").rename(pets / "val" / "dogs")
    assert message_of(pets) == f'class "dogs" in {pets}/val has no folder in train/ (did you mean "dog"?)'


def test_unlabelled_test(pets: Path, picture):
    picture(pets / "test" / "mystery" / "0.png")
    assert message_of(pets).endswith("set data.source.labelled_test = False if its classes are unknown")
    assert open_folder(Folder(str(pets), labelled_test=False)).test is None


def test_no_such_folder(pets: Path):
    assert message_of(pets.parent / "pest" / "x") == (
        f'data.source.path {pets.parent}/pest/x does not exist: {pets.parent} has no folder pest (did you mean "pets"?)'
    )


def test_a_file(pets: Path):
    path = pets / "train" / "cat" / "0.png"
    assert message_of(path) == f"data.source.path {path} is a file: give the folder that holds the images"


def test_empty_folder(tmp_path: Path):
    assert message_of(tmp_path) == (
        f"{tmp_path} holds no images: expected {tmp_path}/CLASS/*.jpg, or {tmp_path}/train/CLASS/*.jpg"
    )


def test_images_without_class_folders(tmp_path: Path, picture):
    picture(tmp_path / "0.png")
    picture(tmp_path / "1.png")
    assert message_of(tmp_path) == f"{tmp_path} holds 2 images but no class folders: put each into {tmp_path}/CLASS/"


def test_image_beside_the_class_folders(pets: Path, picture):
    picture(pets / "train" / "stray.png")
    assert message_of(pets) == (
        f"{pets}/train holds stray.png outside any class folder: move its images into train/CLASS/"
    )


def test_one_class(pets: Path):
    shutil.rmtree(pets / "train" / "dog")
    assert message_of(pets) == f"{pets}/train has only one class folder, cat/: a classifier needs two or more"


def test_empty_class(pets: Path):
    (pets / "train" / "eel").mkdir()
    assert message_of(pets) == f"class folder {pets}/train/eel holds no images: fill or remove it"
    for i in range(3):
        (pets / "train" / "eel" / f"{i}.heic").touch()
    assert message_of(pets) == (
        f"class folder {pets}/train/eel holds no images (it has 3 .heic files, which are not read: convert them to "
        "JPEG or PNG): fill or remove it"
    )


def test_no_images_at_all(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert message_of(tmp_path) == f"no class folder of {tmp_path} holds images"


def test_empty_validation(pets: Path):
    shutil.rmtree(pets / "val")
    (pets / "val" / "cat").mkdir(parents=True)
    assert message_of(pets) == f"{pets}/val holds no images: fill or remove it"


def test_two_validation_folders(pets: Path):
    (pets / "valid").mkdir()
    assert message_of(pets) == f"{pets} has both val/ and valid/: keep one of them"


def test_validation_without_training(pets: Path):
    shutil.rmtree(pets / "train")
    assert message_of(pets) == f"the folder {pets} has val/ but no train/"
