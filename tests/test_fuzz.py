"""Seeded fuzzing of everything that is read: each outcome is success or one UserError, and nothing is executed.

A few inputs of each kind run always; with `-m slow` some hundreds. The same inputs come in every run.
"""

import contextlib
import io
import json
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.config.tree import leaves, to_tree
from imgcls_jax.data import decode
from imgcls_jax.errors import UserError
from imgcls_jax.report import record
from imgcls_jax.weights.formats.read import read
from imgcls_jax.weights.formats.save import save_pth, save_safetensors

pytestmark = pytest.mark.usefixtures("bounded_memory")

REPOSITORY = Path(__file__).parents[1]
DIGITS = REPOSITORY / "configs" / "digits_cnn.py"
CONFIG = files.load(DIGITS)
PATHS = [path for path, _ in leaves(to_tree(CONFIG))]
EXAMPLES = pytest.mark.parametrize("examples", [25, pytest.param(800, marks=pytest.mark.slow)])
# What a file could make a program do; heard while `_watching` is set.
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
)
_watching: list[str] | None = None


def _heard(event: str, _: object) -> None:
    if _watching is not None and event in FORBIDDEN:
        _watching.append(event)


sys.addaudithook(_heard)


def fuzz(inputs: st.SearchStrategy, check: Callable[[object], None], examples: int) -> None:
    """Call `check` with many inputs, the same ones each time."""

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def run(value):
        global _watching
        _watching = heard = []
        with warnings.catch_warnings(), contextlib.suppress(UserError):
            warnings.simplefilter("ignore")
            try:
                check(value)
            finally:
                _watching = None
        assert not heard

    run()


def damaged(sound: list[bytes]) -> st.SearchStrategy:
    """Files with bytes changed, cut off, put in, repeated or taken from another file."""
    places = st.integers(0, max(map(len, sound)))
    numbers = st.sampled_from([b"\xff" * 4, b"\xff" * 8, bytes(8), struct.pack("<q", 2**62), struct.pack("<i", 2**30)])
    change = st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat", "splice"]), places, numbers | st.binary(max_size=8)
    )

    def apply(parts):
        data, other, changes = parts
        for kind, place, content in changes:
            place %= len(data) + 1
            if kind == "set":
                data = data[:place] + content + data[place + len(content) :]
            elif kind == "cut":
                data = data[:place]
            elif kind == "insert":
                data = data[:place] + content + data[place:]
            elif kind == "repeat":
                data = data[:place] + data[place : place + 64] * 8 + data[place:]
            else:
                data = data[:place] + other[place:]
        return data

    return st.tuples(st.sampled_from(sound), st.sampled_from(sound), st.lists(change, min_size=1, max_size=4)).map(
        apply
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**20, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


# --- settings -------------------------------------------------------------------------------------------------------

VALUES = (
    st.text(max_size=30)
    | JSON.map(lambda value: json.dumps(value))
    | st.sampled_from(
        ["²", "-" * 3000 + "1", "[" * 3000, "(" * 3000 + ")" * 3000, "1e999", "nan", "9" * 5000, "\0", "None"]
    )
    | st.sampled_from(["{'kind': 'SGD'}", "SGD", "[]", "{}", "()", "0x10", "1_0", "True", "b'1'", "{1}", "..."])
    | st.integers().map(str)
    | st.floats().map(str)
)
KEYS = (
    st.sampled_from(PATHS) | st.text(max_size=20) | st.tuples(st.sampled_from(PATHS), st.text(max_size=5)).map("".join)
)


@EXAMPLES
def test_overrides(examples):
    def check(item):
        config = files.override(CONFIG, ["=".join(item)])
        assert isinstance(config, c.Config)
        assert json.loads(json.dumps(to_tree(config))) == to_tree(config)

    fuzz(st.tuples(KEYS, VALUES), check, examples)


def changed_somewhere(tree, draw):
    """The tree with one of its nodes, of any depth, replaced or removed."""
    node = tree = json.loads(json.dumps(tree))
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
            node = node[key]
        elif draw(st.booleans()):
            node[key] = draw(JSON)
            return tree
        else:
            del node[key]
            return tree


@EXAMPLES
def test_saved_configs(examples, tmp_path):
    document, path = files.document(CONFIG), tmp_path / "config.json"

    def check(data):
        path.write_text(json.dumps(changed_somewhere(document, data.draw)), encoding="utf-8", errors="surrogatepass")
        assert isinstance(files.restore(path), c.Config)

    fuzz(st.data(), check, examples)


@EXAMPLES
def test_config_files(examples, tmp_path):
    """A line of a config file lost, twice, moved, or cut off."""
    lines, path = DIGITS.read_text().splitlines(), tmp_path / "config.py"

    def check(change):
        kind, place, end = change
        place %= len(lines)
        changed = {
            "lost": lines[:place] + lines[place + 1 :],
            "twice": [*lines[:place], lines[place], *lines[place:]],
            "moved": [lines[place], *lines[:place], *lines[place + 1 :]],
            "cut": [*lines[:place], lines[place][:end]],
        }[kind]
        path.write_text("\n".join(changed))
        assert isinstance(files.load(path), c.Config)

    changes = st.tuples(st.sampled_from(["lost", "twice", "moved", "cut"]), st.integers(0, 500), st.integers(0, 80))
    fuzz(changes, check, examples)


# --- weights --------------------------------------------------------------------------------------------------------

STATE = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "bn.steps": np.array(7, np.int64)}


def weight_files(folder: Path) -> list[bytes]:
    save_pth(STATE, folder / "a.pth")
    save_safetensors(STATE, folder / "a.safetensors")
    np.savez(folder / "a.npz", **STATE)
    np.savez_compressed(folder / "b.npz", **STATE)
    with zipfile.ZipFile(folder / "a.pth") as archive:
        program = archive.read("archive/data.pkl")
    header = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    storages = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in STATE.values())
    (folder / "legacy.pth").write_bytes(header + program + pickle.dumps(["0", "1"], 2) + storages)
    assert read(folder / "legacy.pth").keys() == STATE.keys()
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@EXAMPLES
def test_weight_files(examples, tmp_path):
    (tmp_path / "sound").mkdir()
    sound, path = weight_files(tmp_path / "sound"), tmp_path / "weights"

    def check(data):
        path.write_bytes(data)
        arrays = read(path)
        assert all(isinstance(array, np.ndarray) for array in arrays.values())

    fuzz(damaged(sound), check, examples)


# Opcodes with their arguments, of which a program is put together.
FRAGMENTS = [
    b"(",
    b")",
    b"]",
    b"}",
    b"0",
    b"1",
    b"2",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"d",
    b"l",
]
FRAGMENTS += [
    b"K\x01",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"G" + bytes(8),
    b"N",
    b"\x88",
    b"\x89",
]
FRAGMENTS += [b"X\x01\x00\x00\x00a", b"X\x07\x00\x00\x00storage", b"\x8c\x01b", b"C\x01c", b"\x8f", b"\x90", b"\x91"]
FRAGMENTS += [b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"\x94", b"R", b"Q", b"b", b"\x81", b"\x93", b"o", b"\x92"]
FRAGMENTS += [
    f"c{name}\n".encode() for name in ("torch\nFloatStorage", "torch._utils\n_rebuild_tensor_v2", "os\nsystem")
]
FRAGMENTS += [
    f"c{name}\n".encode() for name in ("collections\nOrderedDict", "__builtin__\nset", "torch\nSize", "torch\ndevice")
]
FRAGMENTS += [b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"]
FRAGMENTS += [b"2\x86" * 40, b"\x85" * 2000, b"(K\x02t(K\x00t", b"K\x00(K\x02K\x02t(K\x00K\x01t\x89}t"]


@EXAMPLES
def test_pickle_programs(examples, tmp_path):
    path = tmp_path / "a.pth"

    def check(parts):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + b"".join(parts) + b".")
            archive.writestr("archive/data/0", bytes(16))
        read(path)

    fuzz(st.lists(st.sampled_from(FRAGMENTS), max_size=40), check, examples)


# --- images and arrays ----------------------------------------------------------------------------------------------


def image_files() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


@EXAMPLES
def test_images(examples):
    def check(data):
        try:
            pixels = np.asarray(decode.decode(data, 3).image)
        except decode.UnreadableImageError as error:
            raise UserError(str(error)) from None
        assert pixels.dtype == np.uint8

    fuzz(damaged(image_files()), check, examples)


@EXAMPLES
def test_arrays_of_images(examples, tmp_path):
    arrays = {
        "x_train": np.zeros((6, 4, 4, 3), np.uint8),
        "y_train": np.arange(6) % 2,
        "label_names": np.array(["a", "b"]),
    }
    np.savez(tmp_path / "sound.npz", **arrays)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    sound, path = [(tmp_path / f"{name}.npz").read_bytes() for name in ("sound", "small")], tmp_path / "images.npz"

    def check(data):
        path.write_bytes(data)
        assert len(c.Arrays(str(path)).open().train) > 0

    fuzz(damaged(sound), check, examples)


# --- work directories -----------------------------------------------------------------------------------------------


@EXAMPLES
def test_records_of_runs(examples, finished_run):
    workdir, *_ = finished_run
    sound = {name: (workdir / name).read_bytes() for name in ("config.json", "result.json", "metrics.jsonl")}
    contents = (
        damaged(list(sound.values())) | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50)
    )

    def check(change):
        name, content = change
        (workdir / name).write_bytes(content)
        try:
            record.read(workdir)
        finally:
            (workdir / name).write_bytes(sound[name])

    fuzz(st.tuples(st.sampled_from(sorted(sound)), contents), check, examples)
