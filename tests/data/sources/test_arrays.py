from pathlib import Path

import numpy as np
import pytest

from imgcls_jax.data.examples import check
from imgcls_jax.data.sources.arrays import Arrays
from imgcls_jax.errors import UserError


def arrays(**changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {"x_train": rng.integers(0, 256, (6, 5, 4, 3), np.uint8), "y_train": np.array([0, 1, 2, 0, 1, 2])}
    return {key: value for key, value in (given | changes).items() if value is not None}


def message_of(given: dict | None, path: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        Arrays(path and str(path)).open(given)
    return str(caught.value)


def test_given_from_python():
    given = arrays(x_test=np.zeros((2, 5, 4, 3), np.uint8), y_test=np.array([1, 1], np.uint8))
    source = Arrays().open(given)
    assert source.class_names == ("0", "1", "2")
    assert (source.validation, len(source.test)) == (None, 2)
    assert source.train.labels.dtype == np.int32
    np.testing.assert_array_equal(source.train.read([3])[0], given["x_train"][3])
    assert source.train.ids[3] == "x_train[3]"


def test_npz_with_names_and_keys_of_its_own(tmp_path: Path):
    names = np.array(["ant", "bee", "cow"])
    np.savez(tmp_path / "x.npz", **arrays(label_names=names, coarse=np.zeros(3), odd=np.array([None], object)))
    source = Arrays(str(tmp_path / "x.npz")).open(None)
    assert source.class_names == ("ant", "bee", "cow")
    assert len(source.train) == 6


def test_byte_names():
    assert Arrays().open(arrays(label_names=np.array([b"a", b"b", b"c"]))).class_names == ("a", "b", "c")


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 1)])
def test_gray(shape):
    assert Arrays().open(arrays(x_train=np.zeros(shape, np.uint8))).train.pixels.shape == (6, 5, 4, 1)


def test_fingerprint_is_the_contents():
    one, same, other = (Arrays().open(arrays()).train for _ in range(3))
    other.pixels[0, 0, 0, 0] ^= 1
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "the data in memory lacks x_train: x_train, y_train, x_validation,"),
        ({"y_train": None}, "the data in memory lacks y_train"),
        ({"x_test": np.zeros((2, 5, 4, 3), np.uint8)}, "the data in memory lacks y_test"),
        (
            {"y_valid": np.zeros(2)},
            '"y_valid" is not a key of the arrays of the data in memory (did you mean "y_validation"?): they are',
        ),
        (
            {"x_train": np.zeros((6, 5, 4, 3), np.float32)},
            "x_train of the data in memory must be uint8 (0 … 255) or uint16 (0 … 65535), black to white, not float32",
        ),
        ({"x_train": np.zeros((6, 5, 4, 17), np.uint8)}, "[N, H, W, C] with 1 to 16 channels, not [6, 5, 4, 17]"),
        ({"x_train": np.zeros((6, 3, 32, 32), np.uint8)}, "not [6, 3, 32, 32]: move the channels last"),
        ({"x_train": np.zeros((6, 60), np.uint8)}, "not [6, 60]"),
        (
            {"x_train": np.zeros((0, 5, 4, 3), np.uint8)},
            "x_train of the data in memory is empty: its shape is [0, 5, 4, 3]",
        ),
        (
            {"y_train": np.array(list("abcabc"))},
            "y_train of the data in memory must be integers (classes), 0 and 1 per",
        ),
        ({"y_train": np.full(6, np.nan)}, "holds nan: numbers to predict must be finite"),
        ({"y_train": np.zeros(5)}, "y_train of the data in memory must have 6 rows, one per image, not 5"),
        ({"y_train": np.zeros((5, 2), int)}, "must have 6 rows, one per image, not 5"),
        ({"y_train": np.zeros((6, 1), int)}, "must have the shape [6], one label an image, not [6, 1]"),
        (
            {"y_train": np.eye(6, dtype=int), "x_test": np.zeros((1, 5, 4, 3), np.uint8), "y_test": np.array([0])},
            "y_test is of another kind or shape than y_train",
        ),
        ({"y_train": np.eye(6, dtype=int), "label_names": np.array(list("ab"))}, "has 2 names, but label 5 occurs"),
        ({"y_train": np.zeros(5, int)}, "must have the shape [6], one label an image, not [5]"),
        ({"y_train": 2 * np.eye(6, dtype=int)}, "a column per label, so that its values must be 0 or 1, not 2"),
        ({"y_train": np.array([0, 1, -1, 0, 1, 2])}, "holds the label -1: labels start at 0"),
        ({"y_train": np.array([0, 1, 2**40, 0, 1, 2])}, "labels are class numbers 0, 1, 2"),
        ({"label_names": np.array(["a", "b"])}, "label_names of the data in memory has 2 names, but label 2 occurs"),
        (
            {"x_test": np.zeros((1, 5, 4, 3), np.uint8), "y_test": np.array([7])},
            "the data in memory: label 7 occurs in validation or test, but training labels end at 2",
        ),
    ],
)
def test_messages(changes, message):
    assert message in message_of(arrays(**changes))


def test_several_labels_and_numbers():
    labels = Arrays().open(arrays(y_train=np.eye(6, dtype=bool)[:, :3], label_names=np.array(["a", "b", "c"])))
    assert (labels.train.labels.dtype, labels.class_names) == (np.uint8, ("a", "b", "c"))
    np.testing.assert_array_equal(labels.train.labels, np.eye(6)[:, :3])
    numbers = Arrays().open(arrays(y_train=np.linspace(0, 1, 6)))
    assert (numbers.train.labels.dtype, numbers.train.labels.shape) == (np.float32, (6, 1))


def test_neither_or_both_of_path_and_arrays(tmp_path: Path):
    assert message_of(None).endswith("and has neither")
    assert message_of(arrays(), tmp_path / "x.npz").endswith("not both")


def test_files(tmp_path: Path):
    assert message_of(None, tmp_path / "absent.npz") == f"there is no file {tmp_path}/absent.npz"
    (tmp_path / "text.npz").write_text("hello")
    assert f"{tmp_path}/text.npz is not an .npz file of plain arrays" in message_of(None, tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "is not an .npz file of plain arrays" in message_of(None, tmp_path / "one.npy")
    np.savez(tmp_path / "pickle.npz", x_train=np.array([{}], object))
    assert "is not an .npz file of plain arrays" in message_of(None, tmp_path / "pickle.npz")
    np.savez(tmp_path / "keys.npz", images=np.zeros(3), labels=np.zeros(3))
    assert message_of(None, tmp_path / "keys.npz").startswith(f"the file {tmp_path}/keys.npz lacks x_train")
    np.savez(tmp_path / "short.npz", **arrays(), x_val=np.zeros(3))
    assert '"x_val" is not a key of the arrays of the file' in message_of(None, tmp_path / "short.npz")
    np.savez(tmp_path / "more.npz", **arrays(), source=np.array("a camera"))
    assert Arrays(str(tmp_path / "more.npz")).open().notes == (f"passed over in the file {tmp_path}/more.npz: source",)


def test_two_classes_of_one_name():
    twice = Arrays().open(arrays(label_names=np.array(["a", "b", "a"])))
    with pytest.raises(UserError, match='the data in memory has two classes of the name "a": each needs a name of its'):
        check(twice, opened="Arrays")


def test_missing(tmp_path):
    file = tmp_path / "x.npz"
    assert Arrays(str(file)).missing() == f"there is no file {file}"
    np.savez(file)
    assert Arrays(str(file)).missing() is None
    assert "given from Python" in Arrays().missing()
