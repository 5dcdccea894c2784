"""An interpreter of the pickles inside torch checkpoints that can build tensors and plain containers and nothing else.

A pickle is a program. `pickle.Unpickler.find_class` can restrict what that program imports, but still lets it call,
subclass and set attributes on whatever was allowed. So this module does not use `pickle` at all: `pickletools` decodes
the opcodes, and the few that torch writes are carried out here, on inert records. No name from the file is ever
imported and no object from it is ever called.
"""

import dataclasses
import math
import mmap
import pickletools
from collections.abc import Callable
from typing import IO, Any

import ml_dtypes
import numpy as np

STORAGE_DTYPES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
    "torch.ComplexFloatStorage": np.dtype(np.complex64),
    "torch.ComplexDoubleStorage": np.dtype(np.complex128),
}
"""torch's typed storages and the numpy types of their elements."""

TENSOR_DTYPES: dict[str, np.dtype] = {
    f"torch.{name}": np.dtype(name)
    for name in (
        *("float32", "float64", "float16", "complex64", "complex128", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    )
} | {"torch.bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""torch's dtypes. Other than in the storages' names, they appear in optimiser and training settings."""

_UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")


class PickleError(ValueError):
    """The pickle is damaged, or asks for something that is not allowed; the message completes "it …"."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A name from the allow-list, as it lies on the interpreter's stack; never the object of that name itself."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """A reference to a flat block of elements, stored elsewhere in the file."""

    key: str
    dtype: np.dtype
    """Type of an element; uint8 for an untyped storage."""
    size: int
    """Length, elements."""
    offset: int = 0
    """First element within the block; only very old files have it."""
    block: int = 0
    """Length of the whole block, elements; more than `size` only in very old files."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; `strides` and `offset` count elements."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """The stack's marker, from which on a tuple, list or dict is collected."""


_MARK = _Mark()


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    _expect(isinstance(storage, Storage), "a tensor has no storage")
    return _tensor(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    _expect(isinstance(storage, Storage), "a tensor has no storage")
    _expect(isinstance(dtype, Global) and dtype.name in TENSOR_DTYPES, "a tensor has an unknown dtype")
    return _tensor(storage, TENSOR_DTYPES[dtype.name], offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Tensor:
    _expect(isinstance(data, Tensor), "a parameter is no tensor")
    return data


def _tensor(storage: Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor that is known to lie within its storage."""
    integers = (offset, *shape, *strides)
    _expect(all(type(n) is int and n >= 0 for n in integers), "a tensor has a negative or non-integer size")
    _expect(len(shape) == len(strides), "a tensor has more strides than sizes, or fewer")
    if math.prod(shape):
        end = (offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1) * dtype.itemsize
        room = storage.size * storage.dtype.itemsize
        _expect(end <= room, f"holds a tensor that reaches to byte {end} of a storage of {room} bytes")
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


_CALLABLE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda *items: dict(*items),
    "collections.Counter": lambda *items: dict(*items),
    "builtins.set": lambda *items: set(*items),
    "__builtin__.set": lambda *items: set(*items),
    "torch.Size": lambda *sizes: tuple(*sizes),
    "torch.device": lambda *device: ":".join(map(str, device)),
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.nn.parameter.Parameter": _rebuild_parameter,
}
"""Everything that a checkpoint may "call", and what is done here in its place."""

_ALLOWED = {*_CALLABLE, *STORAGE_DTYPES, *TENSOR_DTYPES, *_UNTYPED}


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise PickleError(problem if problem.startswith("holds") else f"is damaged: {problem}")


def _global(module: Any, name: Any) -> Global:
    full = f"{module}.{name}"
    if full not in _ALLOWED:
        raise PickleError(f"asks for {full}, which is neither a tensor nor a plain container")
    return Global(full)


def _persistent(identifier: Any) -> Storage:
    """A storage from ("storage", type, key, device, elements[, (view key, offset, elements) or None])."""
    _expect(isinstance(identifier, tuple) and len(identifier) >= 5, "a storage has an unknown form")
    tag, kind, key, _, size, *view = identifier
    _expect(tag == "storage" and isinstance(kind, Global), "a storage has an unknown form")
    _expect(type(size) is int and size >= 0, "a storage has no size")
    if kind.name in _UNTYPED:
        dtype = np.dtype(np.uint8)
    else:
        _expect(kind.name in STORAGE_DTYPES, f"a storage has the type {kind.name}")
        dtype = STORAGE_DTYPES[kind.name]
    if view and view[0] is not None:
        _, offset, part = view[0]
        _expect(type(offset) is int and type(part) is int and 0 <= offset <= offset + part <= size, "a storage's view")
        return Storage(str(key), dtype, part, offset, block=size)
    return Storage(str(key), dtype, size, block=size)


def load(stream: IO[bytes] | mmap.mmap) -> Any:
    """Read one pickle and leave the stream just behind it.

    Returns:
        dicts, lists, tuples, sets, strings, bytes, numbers, and `Tensor` records in place of tensors.

    Raises:
        PickleError: the pickle is truncated or damaged, or names anything outside the allow-list.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise PickleError(f"is damaged or cut short ({error})") from error
    raise PickleError("is cut short")


class _Machine:
    """The stack, the memo, and the opcodes."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        _expect(value is not _MARK, "its stack is out of step")
        return value

    def pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        _expect(isinstance(self.stack[-1], kind), f"something other than a {kind.__name__} is filled like one")
        return self.stack[-1]

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode."""
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                values = [self.pop() for _ in range(count)]
                stack.append(tuple(reversed(values)))
            case "TUPLE":
                stack.append(tuple(self.pop_to_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self.pop_to_mark())
            case "APPEND":
                value = self.pop()
                self.top(list).append(value)
            case "APPENDS":
                values = self.pop_to_mark()
                self.top(list).extend(values)
            case "EMPTY_SET":
                stack.append(set())
            case "ADDITEMS":
                values = self.pop_to_mark()
                self.top(set).update(values)
            case "FROZENSET":
                stack.append(frozenset(self.pop_to_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = self.pop_to_mark()
                stack.append(dict(zip(values[::2], values[1::2], strict=True)))
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.top(dict)[key] = value
            case "SETITEMS":
                values = self.pop_to_mark()
                self.top(dict).update(zip(values[::2], values[1::2], strict=True))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                stack.append(_global(module, name))
            case "BINPERSID":
                stack.append(_persistent(self.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, function = self.pop(), self.pop()
                _expect(isinstance(function, Global) and isinstance(arguments, tuple), "a call of no function")
                if function.name not in _CALLABLE:
                    raise PickleError(f"asks to call {function.name}")
                stack.append(_CALLABLE[function.name](*arguments))
            case "BUILD":
                # Only the attributes of a state dict's OrderedDict (its `_metadata`, module versions): not needed.
                self.pop()
                self.top(dict)
            case "INST":
                _global(*argument.split(" ", 1))
                raise PickleError(f"asks to construct {argument.replace(' ', '.')}")
            case _:
                raise PickleError(f"uses the pickle opcode {opcode}, which torch does not write")
