"""Tables of files and labels, with pandas as an independent reader."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data import load
from imgcls_jax.data.bad_rows import BadRows
from imgcls_jax.data.sources.folder import Folder
from imgcls_jax.data.sources.table import Table
from imgcls_jax.errors import UserError

pandas = pytest.importorskip("pandas")


@pytest.fixture
def frame(pets: Path):
    """The pets' files and labels as pandas has them, in no order of their own."""
    files = sorted(pets.rglob("*.png"))
    table = pandas.DataFrame({
        "path": [file.relative_to(pets).as_posix() for file in files],
        "species": [file.parent.name for file in files],
        "subset": [file.parts[-3] for file in files],
        "age": np.arange(len(files)) / 2,
    })  # fmt: skip
    return table.sample(frac=1, random_state=0)


WRITERS = {
    "pets.csv": lambda frame, path: frame.to_csv(path, index=False),
    "semicolons.csv": lambda frame, path: frame.to_csv(path, index=False, sep=";", encoding="utf-8-sig"),
    "quoted.csv": lambda frame, path: frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n"),
    "pets.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "pets.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "pets.parquet": lambda frame, path: frame.astype({"species": "category"}).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_table_says_what_pandas_wrote(pets, frame, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    WRITERS[name](frame, pets / name)
    source = Table(str(pets / name)).open()
    assert source.class_names == ("cat", "dog")
    for split, examples in (("train", source.train), ("val", source.validation)):
        rows = frame[frame.subset == split]
        assert examples.ids == rows.path.tolist()
        assert [source.class_names[label] for label in examples.labels] == rows.species.tolist()
        assert examples.read([1]) == [pets / rows.path.iloc[1]]
    assert source.test is None
    assert source.notes == ('columns of the table: "path" as the file, "species" as the label, "subset" as the split',)


def test_a_table_has_the_images_of_its_folder(pets, frame, settings):
    frame.sort_values("path").to_csv(pets.parent / "pets.csv", index=False)
    ours = load(settings(Table(str(pets.parent / "pets.csv"), folder=str(pets))))
    theirs = load(settings(Folder(str(pets))))
    assert ours.split_hash == theirs.split_hash
    assert (ours.validation.read_all() == theirs.validation.read_all()).all()


def write(folder: Path, text: str, name: str = "table.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("10 9 0 9", (["0", "9", "10"], [2, 1, 0, 1])),
        ("1 0 2 1", (["0", "1", "2"], [1, 0, 2, 1])),
        ("b a a b", (["a", "b"], [1, 0, 0, 1])),
        ("b 10 9 b", (["10", "9", "b"], [2, 0, 1, 2])),
    ],
)
def test_labels_are_names_and_whole_numbers_sort_by_value(tmp_path, cells, expected):
    names = [f"{i}.png" for i in range(4)]
    images(tmp_path, *names)
    rows = "".join(f"{name}, {label} \n" for name, label in zip(names, cells.split(), strict=True))
    source = Table(write(tmp_path, f"file,label\n{rows}")).open()
    assert (list(source.class_names), source.train.labels.tolist()) == expected


def test_class_names_give_numbers_their_names(tmp_path):
    images(tmp_path, "0.png", "1.png", "2.png")
    table = write(tmp_path, "file,label\n0.png,1\n1.png,0\n2.png,cat\n")
    source = Table(table, class_names=("dog", "cat")).open()
    assert (source.class_names, source.train.labels.tolist()) == (("dog", "cat"), [1, 0, 1])
    with pytest.raises(BadRows, match='line 2: "1" is none of data.source.class_names'):
        Table(table, class_names=("cat",)).open()


def test_every_row_with_a_mistake_is_listed(tmp_path, settings):
    images(tmp_path, "0.png", "1.png", "2.png", "3.png", "folder/4.png")
    lines = [
        "image,label,split",
        "0.png,cat,train",
        "1.png,dog,Training",
        "gone.png,cat,train",
        "",
        ",cat,train",
        "2.png,,train",
        "2.png,cow,val",
        "./0.png,dog,test",
        "3.png,cat,trian",
        "3.png,cat",
        "folder,cat,train",
    ]
    table = write(tmp_path, "\n".join(lines))
    expected = {
        4: f"there is no file {tmp_path}/gone.png",
        6: '"image" is empty',
        7: '"label" is empty',
        8: '"cow" is no class of training rows',
        9: f'{tmp_path}/0.png is also named in line 2 as "cat" in train',
        10: '"trian" is no split (did you mean "train"?)',
        11: "it has 2 cells, and the header 3",
        12: f"{tmp_path}/folder is a folder",
    }
    with pytest.raises(BadRows) as caught:
        Table(table).open()
    assert {row.line: row.reason for row in caught.value.rows} == expected
    assert str(caught.value) == (
        f"8 of 10 rows of {table} cannot be used (empty cell: 2, missing file: 1, unknown class: 1, file named twice: "
        f"1, unknown split: 1, unreadable row: 1, not a file: 1): line 4: {expected[4]}; line 6: {expected[6]}; "
        f"line 7: {expected[7]}; …"
    )
    with pytest.raises(UserError, match=r"; all are listed in .*/run/bad_rows.csv: correct or remove them$"):
        load(settings(Table(table)), tmp_path / "run")
    listed = pandas.read_csv(tmp_path / "run" / "bad_rows.csv")
    assert dict(zip(listed.line, listed.reason, strict=True)) == expected


def test_files_without_a_suffix_and_elsewhere(tmp_path):
    images(tmp_path / "images", "0.jpg", "1.jpg")
    table = write(tmp_path, "id,breed\n0,pug\n1,boxer\n")
    for settings, message in (
        ({}, 'no column that is called like a file .* its columns are "id", "breed"; set data.source.file'),
        ({"file": "di"}, r'no column "di" \(data.source.file\): its columns'),
        ({"file": "id", "folder": str(tmp_path / "image")}, "there is no folder .*image: set data.source.folder"),
        ({"file": "id", "folder": str(tmp_path / "images")}, r'but 0.jpg: set data.source.suffix = ".jpg"'),
    ):
        with pytest.raises(UserError, match=message):
            Table(table, **settings).open()
    source = Table(table, file="id", folder=str(tmp_path / "images"), suffix=".jpg").open()
    assert source.train.ids == ["0.jpg", "1.jpg"]


def test_a_test_without_labels_is_left_out_when_asked(tmp_path):
    images(tmp_path, "0.png", "1.png", "2.png")
    table = write(tmp_path, "file,label,split\n0.png,a,train\n1.png,b,train\n2.png,,test\n")
    with pytest.raises(BadRows):
        Table(table).open()
    assert Table(table, labeled_test=False).open().test is None
    assert Table(table.replace("table", "none")).missing() == f"there is no table {tmp_path}/none.csv"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty: its first line must name the columns"),
        ("t.csv", b"file,label\n", "has no rows"),
        ("t.csv", b"file,label,file\na,b,c\n", 'has two columns "file"'),
        ("t.csv", b"file,image,label\na,b,c\n", 'has the columns "file", "image", each of which may be its file'),
        ("t.csv", "file,label\na,Bär\n".encode("latin-1"), "is not UTF-8 text"),
        ("t.csv", b'file,label\n"a,b\n' + b"x" * 200_000, "line .*: field larger than"),
        ("t.csv", b"a.png,cat\nb.png,dog\n", "or add a header if it has none"),
        (
            "t.jsonl",
            b'{"file": 1\n[]\n{"file": 1, "label": 2}\n',
            "line 1: it is not JSON: .*; line 2: it must be a JSON",
        ),
        ("t.jsonl", b'{"file": 1\n', "its columns are none"),
        ("t.parquet", b"PAR1", "is not a Parquet file that can be read"),
        ("t.xlsx", b"", "is none of the tables that are read, .*: save it as CSV"),
        ("t.csv", None, "there is no table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Table(str(tmp_path / name)).open()


def test_a_parquet_without_its_reader(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"run pip install 'imgcls_jax\[parquet\]', or save it as CSV"):
        Table(str(tmp_path / "t.parquet")).open()


def test_a_name_in_two_unicode_forms_is_one_class(tmp_path):
    images(tmp_path, "0.png", "1.png", "2.png")
    labels = ("caf\u00e9", "cafe\u0301", "x")
    lines = [json.dumps({"file": f"{i}.png", "label": label}) for i, label in enumerate(labels)]
    assert Table(write(tmp_path, "\n".join(lines), "t.jsonl")).open().class_names == ("caf\u00e9", "x")


def test_several_labels_in_a_cell(pets, frame):
    names = ["cat|indoor", "indoor", "", " dog | indoor "]
    frame["species"] = [names[i % 4] for i in range(len(frame))]
    frame.to_csv(pets / "several.csv", index=False)
    source = Table(str(pets / "several.csv"), separator="|").open()
    assert source.class_names == ("cat", "dog", "indoor")
    train = frame[frame.subset == "train"].species.str.replace(" ", "")
    np.testing.assert_array_equal(source.train.labels, train.str.get_dummies("|")[list(source.class_names)])
    assert source.train.labels.dtype == np.uint8


def test_numbers_of_columns(pets, frame):
    frame["weight"] = -frame.age
    frame.to_csv(pets / "numbers.csv", index=False)
    source = Table(str(pets / "numbers.csv"), numbers=("age", "weight")).open()
    assert source.class_names == ("age", "weight")
    train = frame[frame.subset == "train"]
    np.testing.assert_array_equal(source.train.labels, train[["age", "weight"]].to_numpy(np.float32))


def test_mistakes_in_labels_and_numbers_are_listed_by_row(pets, frame):
    frame["age"] = ["three", *frame.age.astype(str)[1:-1], ""]
    frame.to_csv(pets / "wrong.csv", index=False)
    with pytest.raises(BadRows, match='2 of .*"age" is "three", which is no finite number'):
        Table(str(pets / "wrong.csv"), numbers=("age",)).open()
    with pytest.raises(UserError, match=r'no column "aeg" \(data.source.numbers\)'):
        Table(str(pets / "wrong.csv"), numbers=("aeg",)).open()
    with pytest.raises(BadRows, match='"dog" is none of data.source.class_names'):
        Table(str(pets / "wrong.csv"), separator="|", class_names=("cat", "indoor")).open()
