"""Weight files made to ask for more than they hold: each is one error, quickly and in little memory."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.weights.formats.read import read
from imgcls_jax.weights.formats.save import save_pth

pytestmark = pytest.mark.usefixtures("bounded_memory")

LEGACY = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]


def raw(code: bytes) -> bytes:
    return b"\x80\x02" + code + b"."


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def integers(*values: int) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(
    shape=(2,), strides=(1,), offset=0, elements=4, key=b"X\x01\x00\x00\x000", kind="torch\nFloatStorage\n"
) -> bytes:
    storage = b"(" + text("storage") + b"c" + kind.encode() + key + text("cpu") + integer(elements) + b"tQ"
    arguments = storage + integer(offset) + integers(*shape) + integers(*strides) + b"\x89}t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"R"


def state_dict(value: bytes) -> bytes:
    return raw(b"}" + text("w") + value + b"s")


def pth(path, program, content=bytes(16), change=lambda name, info: None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("archive/data.pkl", program), ("archive/data/0", content)):
            info = zipfile.ZipInfo(name)
            change(name, info)
            archive.writestr(info, data)


NESTED_TUPLE = b")" + b"\x85" * 100_000  # ((((…),),),)
SHARED_TUPLE = text("a") + b"2\x86" * 60  # a pair of the pair before: 2^60 texts
PROGRAMS = {
    "a stride of 0 over one element": (state_dict(tensor((2**40,), (0,))), "over a storage of 16 bytes"),
    "two strides of 0": (state_dict(tensor((2**20, 2**20), (0, 0))), "over a storage of 16 bytes"),
    "overlapping windows": (state_dict(tensor((3, 2), (1, 1))), "24 bytes over a storage of 16"),
    "2^80 elements": (state_dict(tensor((2**40, 2**40), (2**40, 1))), "reaches to byte"),
    "a size of 2^80": (state_dict(tensor((2**80,), (1,))), "more than 64 bits"),
    "a size of 2^80 beside one of 0": (state_dict(tensor((0, 2**80), (1, 1))), "more than 64 bits"),
    "a storage of 2^80": (state_dict(tensor(elements=2**80)), "no size"),
    "a storage of 10^5 digits": (state_dict(tensor(elements=10**100_000)), "no size"),
    "100 dimensions": (state_dict(tensor((1,) * 100, (1,) * 100)), "100 axes"),
    "a shape that is a dict": (raw(tensor().replace(integers(2), b"}", 1)), "no sizes"),
    "a storage's key nested": (state_dict(tensor(key=NESTED_TUPLE)), "no name"),
    "a storage's key shared": (state_dict(tensor(key=SHARED_TUPLE)), "no name"),
    "a nested tuple as a key": (raw(b"}" + NESTED_TUPLE + b"K\x01s"), "is a key"),
    "a shared tuple as a key": (raw(b"}" + SHARED_TUPLE + b"K\x01s"), "is a key"),
    "keys of many": (raw(b"}(" + NESTED_TUPLE + b"K\x01u"), "is a key"),
    "keys of a dict made at once": (raw(b"(" + NESTED_TUPLE + b"K\x01d"), "is a key"),
    "keys of an OrderedDict": (raw(b"ccollections\nOrderedDict\n](" + NESTED_TUPLE + b"K\x01\x86e\x85R"), "is a key"),
    "a nested tuple in a set": (raw(b"c__builtin__\nset\n](" + NESTED_TUPLE + b"e\x85R"), "is in a set"),
    "a nested tuple in a frozenset": (b"\x80\x04(" + NESTED_TUPLE + b"\x91.", "is in a set"),
    "a nested tuple as a device": (raw(b"ctorch\ndevice\n" + NESTED_TUPLE + b"\x85R"), "device"),
    "a nested tuple as a name": (b"\x80\x04" + NESTED_TUPLE + text("x") + b"\x93.", "name is no text"),
    "a tensor as a key": (raw(b"}" + tensor() + b"K\x01s"), "is a key"),
    "lists in lists, 10,000 deep": (raw(b"]" * 10_000 + b"a" * 9_999), "nested more than 50 deep"),
    "a dict in itself, twice": (
        raw(b"}q\x00(" + text("a") + b"h\x00" + text("b") + b"h\x00u"),
        "nested more than 50 deep, or in itself",
    ),
    "shared containers": (raw(b"}" + text("a") + b"]" + b"2\x86" * 45 + b"s"), "holds only 'a'"),
    "copies of copies": (
        raw(b"](" + b"K\x01K\x01\x86" * 20_000 + b"e\x85q\x00" + b"ccollections\nOrderedDict\nh\x00R0" * 1000),
        "same things again and again",
    ),
    "a name of a million letters": (raw(b"c" + b"a" * 10**6 + b"\nb\n"), "asks for aaa"),
    "a number of 10^5 digits": (raw(b"I" + b"9" * 10**5 + b"\n"), "damaged"),
    "no end of marks": (raw(b"(" * 10**5), "damaged"),
    "an empty stack": (raw(b"0"), "damaged"),
    "memo of nothing": (raw(b"h\x00"), "damaged"),
    "a text longer than the file": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.", "cut short"),
    "bytes longer than the file": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "cut short"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("case", PROGRAMS)
def test_hostile_pickles(tmp_path, case, container):
    program, message = PROGRAMS[case]
    path = tmp_path / "a.pth"
    if container == "zip":
        pth(path, program)
    else:
        import pickle

        block = struct.pack("<q", 4) + bytes(16)
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in LEGACY) + program + pickle.dumps(["0"], 2) + block)
        if case == "shared containers":
            message = "belongs to no tensor"
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert len(str(error.value)) < 1000
    assert str(error.value).startswith(str(path))


def test_tensors_together_larger_than_the_file(tmp_path):
    program = b"}(" + b"".join(text(f"w{i}") + tensor((250,), elements=250) for i in range(1000)) + b"u"
    pth(tmp_path / "a.pth", raw(program), bytes(1000))
    assert len(read(tmp_path / "a.pth")) == 1000  # tied, and small beside the names
    program = b"}(" + b"".join(text(f"w{i}") + tensor((2**18,), elements=2**18) for i in range(40)) + b"u"
    pth(tmp_path / "b.pth", raw(program), bytes(2**20))
    with pytest.raises(UserError, match="more than 16 times its own size"):
        read(tmp_path / "b.pth")


def test_wrappers_without_end(tmp_path):
    name = "module." * 100_000 + "w"
    save_pth({name: np.zeros(2, np.float32)}, tmp_path / "a.pth")
    assert list(read(tmp_path / "a.pth")) == [name.removeprefix("module." * 10)]


# --- zip archives ---------------------------------------------------------------------------------------------------


def changed_bytes(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def test_one_flipped_bit_of_a_tensor(tmp_path):
    values = np.arange(1000, dtype=np.float32)
    save_pth({"w": values}, tmp_path / "a.pth")
    place = (tmp_path / "a.pth").read_bytes().index(values.tobytes()) + 1234
    changed_bytes(tmp_path / "a.pth", lambda data: data.__setitem__(place, data[place] ^ 4))
    with pytest.raises(UserError, match="checksum of its record archive/data/0 is wrong"):
        read(tmp_path / "a.pth")


def test_a_torch_file_without_checksums_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    np.testing.assert_array_equal(read(tmp_path / "a.pth")["w"], np.arange(4))


def encrypted(data):
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + place] |= 1


def with_size(size):
    """A central directory that gives every record this size."""

    def change(data):
        start = -1
        while (start := data.find(b"PK\x01\x02", start + 1)) >= 0:
            data[start + 20 : start + 28] = struct.pack("<II", size, size)

    return change


def overlapping(data):
    """Every entry of the central directory at the first record."""
    start = -1
    while (start := data.find(b"PK\x01\x02", start + 1)) >= 0:
        data[start + 42 : start + 46] = bytes(4)


@pytest.mark.parametrize("kind", ["pth", "npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [(encrypted, "ncrypted"), (with_size(2**31 - 1), "anew"), (with_size(3), "anew"), (overlapping, "overlap")],
)
def test_lying_zip_archives(tmp_path, kind, change, message):
    path = tmp_path / f"a.{kind}"
    if kind == "pth":
        save_pth({"w": np.arange(100, dtype=np.float32)}, path)
    else:
        np.savez(path, w=np.arange(100.0), v=np.arange(3))
    changed_bytes(path, change)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for value in (1, 2):
            archive.writestr("archive/data.pkl", state_dict(b"K" + bytes([value])))
    with pytest.raises(UserError, match="two records of one name"):
        read(tmp_path / "a.pth")


def test_a_compressed_torch_file(tmp_path):
    pth(tmp_path / "a.pth", state_dict(tensor()), change=lambda name, info: setattr(info, "compress_type", 8))
    with pytest.raises(UserError, match="compressed record"):
        read(tmp_path / "a.pth")


# --- npz ------------------------------------------------------------------------------------------------------------


def npy(shape, dtype="<f4", content=bytes(16)) -> bytes:
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy((2**40,)), "says it has"),
        (npy((2**40, 2**40)), "says it has"),
        (npy((3,)), "says it has 12 bytes, and has 16"),
        (npy((1,) * 100, "<f4", bytes(4)), "says it has"),
        (npy((-4,)), "anew"),
        (npy((2,), "|O"), "object"),
        (npy((4,), "<U1"), "not numbers"),
        (npy((2,), [("a", "<f4"), ("b", "<f4")]), "not numbers"),
        (npy("(" * 5000), "anew"),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"", "anew"),
        (b"hello world", "magic"),
    ],
)
def test_hostile_npz_members(tmp_path, member, message):
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
            archive.writestr("w.npy", member)
        with pytest.raises(UserError, match=message) as error:
            read(tmp_path / "a.npz")
        assert str(error.value).startswith(str(tmp_path / "a.npz"))


def test_an_npz_that_unpacks_to_gigabytes(tmp_path):
    """By its directory: nothing is unpacked to find out."""
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros(1000))
    changed_bytes(tmp_path / "a.npz", with_size(2**31 - 1))
    with pytest.raises(UserError, match="unpacks to"):
        read(tmp_path / "a.npz")


def test_a_compressed_npz_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros((300, 1000), np.float32))
    assert read(tmp_path / "a.npz")["w"].shape == (300, 1000)


# --- safetensors ----------------------------------------------------------------------------------------------------


def safetensors(header, content=b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + content


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # The oldest safetensors does not know the type's name.
        (safetensors(entry("F4", (2,), (0, 1)), bytes(1)), "float4.*not read|damaged.*InvalidHeader"),
        (safetensors(entry("F8_E4M3", (2,), (0, 2)), bytes(2)), "float8_e4m3fn.*not read"),
        (safetensors(entry("F8_E5M2", (2,), (0, 2)), bytes(2)), "float8_e5m2.*not read"),
        (safetensors(entry("F99"), bytes(4)), "damaged"),
        (safetensors(entry(shape=(1,) * 100), bytes(4)), "damaged"),
        (safetensors(entry(shape=(2**40, 2**40)), bytes(4)), "damaged"),
        (safetensors(entry(shape=(2**80,)), bytes(4)), "damaged"),
        (safetensors(entry(shape=(0, 2**63), offsets=(0, 0))), "damaged"),
        (safetensors(entry(shape=(2**40,), offsets=(0, 2**42))), "damaged"),
        (safetensors(entry(shape=(-1,)), bytes(4)), "damaged"),
        (safetensors(entry() | {"v": entry()["w"]}, bytes(4)), "damaged"),
        (safetensors(b'{"w":' + b"[" * 10**5 + b"]" * 10**5 + b"}"), "damaged"),
        (safetensors({"__metadata__": {"a": "b"}}), "holds only nothing"),
        (struct.pack("<Q", 2**63) + b"{}", "damaged"),
    ],
)
def test_hostile_safetensors(tmp_path, content, message):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / "a.safetensors")
    assert str(error.value).startswith(str(tmp_path / "a.safetensors"))


def test_an_empty_archive(tmp_path):
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError):
        read(tmp_path / "a.npz")
