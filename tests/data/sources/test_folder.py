import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from imgcls_jax.config.faults import explain
from imgcls_jax.data import files
from imgcls_jax.data.image_formats import KNOWN, SUFFIXES
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.errors import UserError


def message_of(path: Path, **changes) -> str:
    with pytest.raises(UserError) as caught:
        Folder(str(path), **changes).open()
    return str(caught.value)


def test_train_and_validation(pets: Path):
    source = Folder(str(pets)).open()
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
    assert len(Folder(str(pets)).open().validation) == 3


def test_test_folder(pets: Path):
    (pets / "val").rename(pets / "test")
    source = Folder(str(pets)).open()
    assert (source.validation, len(source.test)) == (None, 3)


def test_single_folder(pets: Path):
    source = Folder(str(pets / "train")).open()
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
    source = Folder(str(pets)).open()
    assert source.class_names == ("cat", "dog")
    added = {id.removeprefix("train/cat/") for id in source.train.ids if id.startswith("train/cat/")}
    assert added - {f"{i}.png" for i in range(6)} == {
        "a/b/c/deep.PNG", "x.JpEg", "spaced name.tif", "ünï.bmp", "two.dots.webp",
    }  # fmt: skip


def test_links_are_followed_and_cycles_end(pets: Path, tmp_path: Path, picture):
    picture(tmp_path / "elsewhere" / "bird.png")
    (pets / "train" / "bird").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    source = Folder(str(pets)).open()
    assert source.class_names == ("bird", "cat", "dog")
    assert source.train.ids[0] == "train/bird/bird.png"
    assert source.train.labels.tolist().count(0) == 1


def test_broken_link_is_listed_so_that_it_is_reported(pets: Path):
    (pets / "train" / "cat" / "gone.png").symlink_to(pets / "nowhere.png")
    assert "train/cat/gone.png" in Folder(str(pets)).open().train.ids


def test_home_is_expanded(pets: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    assert len(Folder("~/pets").open().train) == 10


def test_file_name_that_is_not_utf8(pets: Path):
    name = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(pets / "train/cat/0.png", pets / "train/cat" / name)
    examples = Folder(str(pets)).open().train
    assert f"train/cat/{name}" in examples.ids
    assert examples.fingerprint()


def test_fingerprint_changes_with_the_files(pets: Path):
    def fingerprint() -> str:
        return Folder(str(pets)).open().train.fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    os.utime(pets / "train/cat/0.png", ns=(1, 1))
    touched = fingerprint()
    assert touched != before
    (pets / "train/cat/0.png").unlink()
    assert fingerprint() not in (before, touched)


def test_class_missing_in_validation_is_allowed(pets: Path):
    shutil.rmtree(pets / "val" / "dog")
    assert Folder(str(pets)).open().validation.labels.tolist() == [0, 0]


def test_class_missing_in_training(pets: Path):
    (pets / "val" / "dog").rename(pets / "val" / "dogs")
    assert message_of(pets) == f'class "dogs" in {pets}/val has no folder in train/ (did you mean "dog"?)'


def test_unlabeled_test(pets: Path, picture):
    picture(pets / "test" / "mystery" / "0.png")
    assert message_of(pets).endswith("set data.source.labeled_test = False if its classes are unknown")
    assert Folder(str(pets), labeled_test=False).open().test is None


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
    flat = f"{tmp_path} holds 2 images but no class folders: put each into {tmp_path}/CLASS/"
    assert message_of(tmp_path) == flat
    (tmp_path / "labels.csv").write_text("id,label\n0,cat\n1,dog\n")
    assert message_of(tmp_path).startswith(f"{flat}; if labels.csv names their classes, ")
    assert "labels.csv" in message_of(tmp_path / "labels.csv")
    (tmp_path / "images").mkdir()
    for name in ("0.png", "1.png"):
        (tmp_path / name).rename(tmp_path / "images" / name)
    assert message_of(tmp_path).startswith(f"{tmp_path} has only one class folder, images/: a classifier needs two or")
    assert "; if labels.csv names their classes, " in message_of(tmp_path)
    assert "; if labels.csv names their classes, " in message_of(tmp_path / "images")


def test_image_beside_the_class_folders(pets: Path, picture):
    picture(pets / "train" / "stray.png")
    assert message_of(pets) == (
        f"{pets}/train holds stray.png outside any class folder: move its images into {pets}/train/CLASS/"
    )


def test_one_class(pets: Path):
    shutil.rmtree(pets / "train" / "dog")
    assert message_of(pets) == f"{pets}/train has only one class folder, cat/: a classifier needs two or more"


def test_empty_class(pets: Path, monkeypatch):
    monkeypatch.setattr(files, "SUFFIXES", SUFFIXES - {".heic"})  # as without its plug-in
    (pets / "train" / "eel").mkdir()
    assert message_of(pets) == f"class folder {pets}/train/eel holds no images: fill or remove it"
    for i in range(3):
        (pets / "train" / "eel" / f"{i}.heic").touch()
    assert message_of(pets) == (
        f"class folder {pets}/train/eel holds no images (passed over: 3 .heic files; only {KNOWN} images "
        "are read: pip install pi-heif, or convert them to JPEG): fill or remove it"
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
    assert message_of(pets) == (
        f"{pets} has val/ but no train/; if val is a class, move all class folders into {pets}/train/"
    )


def test_a_path_object_is_taken_as_its_text(pets: Path):
    assert Folder(pets) == Folder(str(pets))


def test_missing(tmp_path: Path, picture):
    source = Folder(str(tmp_path / "pets"))
    assert "does not exist" in source.missing()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    assert "holds images" in source.missing()
    for name in ("cat", "dog"):
        picture(tmp_path / "pets" / name / "1.png")
    assert source.missing() is None


def tree(root: Path, picture, *folders: str) -> Path:
    """Two images in each of these folders, "/a/{b,c}" being two."""
    for folder in folders:
        head, _, names = folder.partition("{")
        for name in names.rstrip("}").split(",") if names else ("",):
            for i in range(2):
                picture(root / f"{head}{name}" / f"{i}.png", (2, 2))
    return root


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ("Training/{a,b} Testing/{a,b}", {"train": 4, "test": 4}),
        ("TRAIN/{a,b} Valid/{a,b} TEST_images/{a,b}", {"train": 4, "validation": 4, "test": 4}),
        ("train_set/{a,b} validation-data/{a,b}", {"train": 4, "validation": 4}),
        ("invalid valid", {"train": 4, "classes": ("invalid", "valid"), "note": "valid/ is taken for a class"}),
        ("bus car train", {"train": 6, "classes": ("bus", "car", "train"), "note": "train/ is taken for a class"}),
        ("train/{bus,car,train}", {"train": 6, "classes": ("bus", "car", "train")}),
        ("a/{left,right} b/{left,up}", {"train": 8, "classes": ("a", "b")}),
        ("a/images b/images", {"train": 4, "classes": ("a", "b")}),
        ("testbench trainee", {"train": 4, "classes": ("testbench", "trainee")}),
    ],
)
def test_layouts_that_are_understood(tmp_path, picture, folders, expected):
    source = Folder(tree(tmp_path, picture, *folders.split())).open()
    counts = {
        name: len(examples)
        for name in ("train", "validation", "test")
        if (examples := getattr(source, name)) is not None
    }
    assert counts == {name: count for name, count in expected.items() if isinstance(count, int)}
    assert source.class_names == expected.get("classes", ("a", "b"))
    assert any(expected["note"] in note for note in source.notes) if "note" in expected else not source.notes


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("train/{a,b} valdiation/{a,b}", 'beside it valdiation/ with images, .* (did you mean "validation"?): call it'),
        ("train/{a,b} eval/{a,b}", "{root} has train/, which is taken for the training images, and beside it eval/"),
        ("train/{a,b} val/{a,b} extra", "beside it extra/ with images"),
        ("bus car train/{steam,electric}", "if train is a class, move all class folders into {root}/train/"),
        ("trian/{a,b} val/{a,b}", "{root} has val/ but no train/: call trian/ train"),
        ("fold1/{a,b} fold2/{a,b}", "fold1/, fold2/ all hold the folders a/, b/, and no images beside them"),
        ("trian/{a,b} tset/{a,b}", '(did you mean "train"?)'),
        ("train test", "{root}/train holds 2 images but no class folders"),
        ("valid test other", "{root} has valid/ but no train/"),
        ("pets/{a,b}", "{root} has only one class folder, pets/: .* did you mean data.source.path = {root}/pets?"),
        (
            "out/pets/{a,b}",
            "{root} has only one class folder, out/: .* did you mean data.source.path = {root}/out/pets?",
        ),
        ("Train/{a,b} train/{a,b}", "{root} has both Train/ and train/: keep one of them"),
        ("train/{a,b} test", "{root}/test holds 2 images but no class folders: .*set data.source.labeled_test = False"),
    ],
)
def test_layouts_that_could_be_meant_in_several_ways(tmp_path, picture, folders, message):
    tree(tmp_path, picture, *folders.split())
    said = message_of(tmp_path)
    for part in message.replace("{root}", str(tmp_path)).split(".*"):
        assert part.strip() in said


def test_what_is_passed_over_is_named_and_counted(pets: Path, picture, monkeypatch):
    monkeypatch.setattr(files, "SUFFIXES", SUFFIXES - {".heic"})
    for i in range(90):
        (pets / "train" / "cat" / f"IMG_{i}.HEIC").touch()
    (pets / "train" / "cat" / "._0.png").touch()
    (pets / "train" / "notes.txt").touch()
    (pets / "annotations").mkdir()
    (pets / "annotations" / "0.xml").touch()
    picture(pets / "__MACOSX" / "cat" / "0.png")
    assert Folder(pets).open().notes == (
        f"passed over in {pets}: 1 hidden or of the system",
        f"passed over in {pets}: annotations/, without images",
        f"passed over in {pets}/train/cat: 90 .heic files, 1 hidden or of the system; to read .heic files, "
        "pip install pi-heif, or convert them to JPEG",
        f"passed over in {pets}/train: 1 .txt file",
    )


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_a_class_may_be_written_in_two_unicode_forms(tmp_path, picture):
    tree(tmp_path, picture, f"train/{NFD}", "train/dog", f"val/{NFC}", "val/dog")
    source = Folder(tmp_path).open()
    assert source.class_names == (NFC, "dog")
    assert source.validation.labels.tolist() == [0, 0, 1, 1]
    assert source.train.ids[0] == f"train/{NFD}/0.png"  # the file's name as it is


@pytest.mark.parametrize(
    ("other", "reason"), [(NFC, "the Unicode form of their letters"), (f"{NFD} ", "spaces around")]
)
def test_two_classes_of_one_name_are_refused(tmp_path, picture, other, reason):
    assert reason in message_of(tree(tmp_path, picture, NFD, other, "dog"))


def test_classes_of_one_name_in_two_cases_are_said(tmp_path, picture):
    if len(list(tree(tmp_path, picture, "a", "A", "b").iterdir())) < 3:
        pytest.skip("the file system does not tell case apart")
    source = Folder(tmp_path).open()
    assert source.class_names == ("A", "a", "b")
    assert source.notes == ('the classes "A" and "a" differ in upper and lower case only',)


def test_a_class_name_that_is_not_utf8(tmp_path, picture):
    name = os.fsdecode(b"caf\xe9")
    assert Folder(tree(tmp_path, picture, name, "dog")).open().class_names == (name, "dog")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("$DATA/pets", "variables are not replaced"),
        ("file:///data", "not an address"),
        ("s3://bucket/x", "not an address"),
        ("~nobody_of_this_name/x", "does not exist"),
        ("x" * 300, "does not exist"),
    ],
)
def test_paths_that_are_none(path, message):
    assert message in message_of(path)


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_current_folder(path):
    with pytest.raises(ValidationError) as caught:
        Folder(path)
    assert explain(caught.value).startswith("path: the path is empty: was it written with a variable that is not set?")
