"""Reading torch's files: against torch itself, against files assembled by hand, and against attacks."""

import collections
import contextlib
import io
import os
import pickle
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.weights.formats.read import read
from imgcls_jax.weights.formats.save import save_pth, save_safetensors

STATE = {
    "conv.weight": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "brain": np.arange(6).astype(ml_dtypes.bfloat16),
    "double": np.array([np.pi, np.nan, np.inf, -0.0]),
    "bool": np.array([True, False]),
    "bn.num_batches_tracked": np.array(2**40, np.int64),
    "byte": np.arange(4, dtype=np.uint8),
    "char": np.arange(-2, 2, dtype=np.int8),
    "short": np.arange(-2, 2, dtype=np.int16),
    "int": np.arange(-2, 2, dtype=np.int32),
    "complex": np.array([1 + 2j], np.complex64),
    "empty": np.zeros((0, 3), np.float32),
}
TORCH_ONLY = ("complex",)  # safetensors' numpy side has no complex numbers


def assert_same(got, expected):
    """Same names, and the same bits."""
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert got[name].tobytes() == array.tobytes(), name


# --- there and back -------------------------------------------------------------------------------------------------


def test_pth_there_and_back_is_exact_and_repeatable(tmp_path):
    save_pth(STATE, tmp_path / "a.pth")
    save_pth(STATE, tmp_path / "b.pth")
    assert_same(read(tmp_path / "a.pth"), STATE)
    assert list(read(tmp_path / "a.pth")) == list(STATE)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b.pth"]


def test_safetensors_there_and_back_is_exact(tmp_path):
    state = {name: array for name, array in STATE.items() if name not in TORCH_ONLY}
    save_safetensors(state, tmp_path / "a.safetensors")
    assert_same(read(tmp_path / "a.safetensors"), state)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **{"fc.weight": STATE["half"], "fc.bias": STATE["double"]})
    assert_same(read(tmp_path / "a.npz"), {"fc.weight": STATE["half"], "fc.bias": STATE["double"]})


def test_strided_and_big_endian_arrays_are_written_by_value(tmp_path):
    state = {"t": STATE["conv.weight"].transpose(2, 3, 1, 0), "b": np.arange(3, dtype=">f4")}
    save_pth(state, tmp_path / "a.pth")
    assert_same(read(tmp_path / "a.pth"), {"t": np.ascontiguousarray(state["t"]), "b": np.arange(3, dtype=np.float32)})


def test_a_type_torch_lacks_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"x is float8_e4m3fn"):
        save_pth({"x": np.zeros(2, ml_dtypes.float8_e4m3fn)}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


# --- against torch --------------------------------------------------------------------------------------------------


def torch_state(torch):
    """Tensors that share storages, have strides and offsets, and Parameters."""
    base = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict(
        base=base,
        offset=base[5:9],
        transposed=base.view(4, 6).t(),
        stepped=base[1::3],
        expanded=base[:1].expand(5),
        scalar=torch.tensor(3),
        parameter=torch.nn.Parameter(torch.ones(2, 2)),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    )
    types = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
    state |= {name: (torch.arange(4) - 1).to(getattr(torch, name)) for name in types}
    state["uint16"] = torch.tensor([1, 65535], dtype=torch.uint16)
    return state


def as_numpy(torch, tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch")
    state = torch_state(torch)
    path = tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    got = read(path)
    assert_same(got, {name: as_numpy(torch, tensor) for name, tensor in state.items()})
    assert got["base"].base is not None
    assert not got["base"].flags.writeable


def test_big_endian_files(tmp_path):
    torch = pytest.importorskip("torch")
    state = {k: v for k, v in torch_state(torch).items() if k in ("base", "stepped", "bfloat16", "complex64", "int8")}
    torch.save(state, tmp_path / "little.pth")
    with zipfile.ZipFile(tmp_path / "little.pth") as little, zipfile.ZipFile(tmp_path / "big.pth", "w") as big:
        width = {"0": 4, "1": 2, "2": 1, "3": 4}  # of base and stepped, bfloat16, int8, complex64's two parts
        assert [name.rsplit("/", 1)[1] for name in little.namelist() if "/data/" in name] == list(width)
        for name in little.namelist():
            content = little.read(name)
            if name.endswith("/byteorder"):
                content = b"big"
            if "/data/" in name:
                size = width[name.rsplit("/", 1)[1]]
                content = np.frombuffer(content, f"u{size}").byteswap().tobytes()
            big.writestr(name, content)
    assert_same(read(tmp_path / "big.pth"), {k: as_numpy(torch, v) for k, v in state.items()})


def test_torch_reads_what_we_write(tmp_path):
    torch = pytest.importorskip("torch")
    save_pth(STATE, tmp_path / "a.pth")
    for mmap in (False, True):
        got = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mmap)
        assert list(got) == list(STATE)
        assert_same({name: as_numpy(torch, tensor) for name, tensor in got.items()}, STATE)
    safetensors_torch = pytest.importorskip("safetensors.torch")
    state = {name: array for name, array in STATE.items() if name not in TORCH_ONLY}
    save_safetensors(state, tmp_path / "a.safetensors")
    got = safetensors_torch.load_file(tmp_path / "a.safetensors")
    assert_same({name: as_numpy(torch, tensor) for name, tensor in got.items()}, state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "model_ema": state, "args": {"lr": 0.1}},
        lambda state: {"state_dict": {f"model._orig_mod.{k}": v for k, v in state.items()}, "hparams": (1, "a", None)},
        lambda state: {"anything": state, "step": 7},
    ],
)
def test_state_dicts_inside_checkpoints(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    state = {"fc.weight": torch.ones(2, 3), "bn.weight": torch.ones(2)}
    torch.save(wrap(state), tmp_path / "a.ckpt")
    assert_same(read(tmp_path / "a.ckpt"), {name: tensor.numpy() for name, tensor in state.items()})


def test_optimizers_and_schedules_beside_the_weights(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    everything = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    everything |= {"dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1, 2]), "set": {1}}
    torch.save(everything, tmp_path / "a.pth")
    assert_same(read(tmp_path / "a.pth"), {k: v.numpy() for k, v in model.state_dict().items()})


def test_real_checkpoints(real_data):
    torch = pytest.importorskip("torch")
    for name in ("resnet20-12fca82f.th", "resnet56-4bfd9763.th"):
        path = real_data / "weights" / name
        expected = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        assert_same(read(path), {k.removeprefix("module."): v.numpy() for k, v in expected.items()})


# --- attacks --------------------------------------------------------------------------------------------------------


class Reduce:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw(code: bytes) -> bytes:
    return b"\x80\x02" + code + b"."


def as_zip(path, program, records=()):
    """A torch file around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in records:
            archive.writestr(f"archive/{name}", content)


def as_legacy(path, program):
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in header) + program + pickle.dumps([], 2))


TOUCH = "open('{canary}', 'w')"
ATTACKS = {
    "os.system": (lambda canary: pickle.dumps(Reduce(os.system, f"touch {canary}")), "posix.system"),
    "eval": (lambda canary: pickle.dumps(Reduce(eval, TOUCH.format(canary=canary))), "builtins.eval"),
    "stack global": (lambda canary: pickle.dumps(Reduce(exec, TOUCH.format(canary=canary)), 4), "builtins.exec"),
    "getattr": (lambda canary: raw(b"c__builtin__\ngetattr\n"), "__builtin__.getattr"),
    "inside a dict": (lambda canary: pickle.dumps({"w": {"x": Reduce(os.system, f"touch {canary}")}}), "posix.system"),
    "unknown class": (lambda canary: pickle.dumps(Reduce(io.StringIO, "x")), "_io.StringIO"),
    "argparse": (lambda canary: raw(b"cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00aK\x01sb"), "argparse.Namespace"),
    "inst": (lambda canary: raw(f"(S'touch {canary}'\niposix\nsystem\n".encode()), "posix.system"),
    "obj": (lambda canary: raw(f"(cposix\nsystem\nS'touch {canary}'\no".encode()), "posix.system"),
    "obj of an allowed class": (lambda canary: raw(b"(ccollections\nOrderedDict\no"), "opcode OBJ"),
    "newobj_ex": (lambda canary: raw(b"ccollections\nOrderedDict\n)}\x92"), "opcode NEWOBJ_EX"),
    "extension": (lambda canary: raw(b"\x82\x01"), "opcode EXT1"),
    "text persistent id": (lambda canary: raw(b"Pabc\n"), "opcode PERSID"),
    "dotted name": (lambda canary: raw(b"\x8c\x05torch\x8c\x11storage.os.system\x93"), "torch.storage.os.system"),
    "torch.load": (lambda canary: raw(b"ctorch\nload\nX\x01\x00\x00\x00x\x85R"), "torch.load"),
    "call of a type": (lambda canary: raw(b"ctorch\nFloatStorage\n)R"), "asks to call torch.FloatStorage"),
    "call of a string": (lambda canary: raw(b"X\x01\x00\x00\x00x)R"), "call of no function"),
    "attributes of a function": (
        lambda canary: raw(b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb"),
        "damaged",
    ),
    "out-of-band buffer": (lambda canary: raw(b"\x97"), "opcode NEXT_BUFFER"),
}  # fmt: skip


@pytest.mark.parametrize("container", [as_zip, as_legacy])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_execute_nothing_and_are_named(tmp_path, container, attack):
    make, named = ATTACKS[attack]
    path, canary = tmp_path / "a.pth", tmp_path / "canary"
    container(path, make(canary))
    with pytest.raises(UserError, match=re.escape(named)) as error:
        read(path)
    assert "a.pth" in str(error.value)
    assert "Nothing in it was executed" in str(error.value)
    assert not canary.exists()


def test_the_attacks_are_real(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(ATTACKS["os.system"][0](canary))
    assert canary.exists()


def test_pickled_arrays_inside_npz_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.array([Reduce(os.system, f"touch {tmp_path / 'canary'}")], object))
    with pytest.raises(UserError, match=r"a.npz"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "canary").exists()


# --- damage ---------------------------------------------------------------------------------------------------------


def tensor_program(size=(2,), stride=(1,), offset=0, elements=4, kind="FloatStorage"):
    """A state dict {"w": tensor} over the storage "0"."""

    def integers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    def integer(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    storage = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage += integer(elements) + b"tQ"
    tensor = storage + integer(offset) + integers(size) + integers(stride) + b"\x89}t"
    return raw(b"}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"Rs")


CONTENT = np.arange(4, dtype=np.float32).tobytes()


def test_the_hand_made_file_is_read(tmp_path):
    as_zip(tmp_path / "a.pth", tensor_program((2,), (2,), 1), [("data/0", CONTENT)])
    np.testing.assert_array_equal(read(tmp_path / "a.pth")["w"], [1, 3])


@pytest.mark.parametrize(
    ("program", "records", "message"),
    [
        (tensor_program((3,), (2,)), [("data/0", CONTENT)], "reaches to byte 20 of a storage of 16"),
        (tensor_program((2, 2), (2**31 - 1, 1)), [("data/0", CONTENT)], "of a storage of 16 bytes"),
        (tensor_program(offset=3), [("data/0", CONTENT)], "reaches to byte 20"),
        (tensor_program((-1,)), [("data/0", CONTENT)], "negative"),
        (tensor_program(offset=-1), [("data/0", CONTENT)], "negative"),
        (tensor_program((2, 2), (1,)), [("data/0", CONTENT)], "strides"),
        (tensor_program(elements=2**40, offset=2**39), [("data/0", CONTENT)], "16 bytes in data/0"),
        (tensor_program(elements=-1), [("data/0", CONTENT)], "no size"),
        (tensor_program(), [], "lacks its record data/0"),
        (tensor_program(kind="QInt8Storage"), [("data/0", CONTENT)], "torch.QInt8Storage"),
        (tensor_program(), [("data/0", CONTENT), ("byteorder", b"middle")], "byte order"),
        (tensor_program()[:-20], [("data/0", CONTENT)], "cut short"),
        (b"", [], "cut short"),
        (raw(b"t"), [], "damaged"),
        (raw(b"h\x07"), [], "damaged"),
        (raw(b"}q\x00X\x01\x00\x00\x00ah\x00s"), [], "nested more than 50 deep"),
        (raw(b"}"), [("constants.pkl", b"")], "TorchScript"),
    ],
)
def test_damaged_zip_files(tmp_path, program, records, message):
    as_zip(tmp_path / "a.pth", program, records)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated_files(tmp_path, share):
    torch = pytest.importorskip("torch")
    state = {f"layer{i}.weight": torch.randn(100, 10) for i in range(5)}
    for name, zipped in (("zip.pth", True), ("legacy.pth", False)):
        path = tmp_path / name
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(UserError, match=r"truncated|cut short|damaged"):
            read(path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # in a damaged text, by pickletools
def test_random_damage_never_ends_in_another_exception(tmp_path):
    """Bytes changed at random in both formats: the file is read, or a UserError says why not."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for zipped in (True, False):
        torch.save({"w": torch.randn(3, 2), "n": 1}, tmp_path / "good.pth", _use_new_zipfile_serialization=zipped)
        good = np.frombuffer((tmp_path / "good.pth").read_bytes(), np.uint8)
        for _ in range(300):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 3)] = rng.integers(0, 256, 3)
            (tmp_path / "bad.pth").write_bytes(bad.tobytes())
            with contextlib.suppress(UserError):
                read(tmp_path / "bad.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b"hello", "starts like no checkpoint"),
        (pickle.dumps({"a": 1}), "pickle of another program"),
        (struct.pack("<Q", 10**6) + b'{"w":{}}', "damaged safetensors"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.pth")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no weight file .*a.pth"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("tree", "message"),
    [({"epoch": 3}, "only 'epoch'"), ([1], "holds a list"), ({"a": {"x": 0}, "b": {"y": 0}}, "only 'a', 'b'")],
)
def test_checkpoints_without_a_model(tmp_path, tree, message):
    as_zip(tmp_path / "a.pth", pickle.dumps(tree, 2))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.pth")


def test_two_state_dicts_are_not_guessed_between(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"student": {"w": torch.ones(1)}, "teacher": {"w": torch.ones(1)}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"state dicts under 'student', 'teacher'"):
        read(tmp_path / "a.pth")
