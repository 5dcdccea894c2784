"""An interpreter of the pickles inside torch checkpoints that can build tensors and plain containers and nothing else.

A pickle is a program. `pickle.Unpickler.find_class` can restrict what that program imports, but still lets it call,
subclass and set attributes on whatever was allowed. So this module does not use `pickle` at all: `pickletools` decodes
the opcodes, and the few that torch writes are carried out here, on inert records. No name from the file is ever
imported and no object from it is ever called.
"""

import dataclasses
import io
import math
import mmap
import pickletools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

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
"""torch's dtypes. Other than in the storages' names, they appear in optimizer and training settings."""

_UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")

# Limits far beyond what any checkpoint has, so that a small file cannot ask for much time or memory.
_MOST_AXES = 32
_LONGEST_NAME = 200  # characters of a module and a name within it
_LONGEST_PICKLE = 2**28  # bytes
_Scalar = str | bytes | int | float | None


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
    """A tensor that is known to lie within its storage, and to have no more elements than it."""
    for sizes in (shape, strides):
        _expect(isinstance(sizes, tuple | list), "a tensor has no sizes")
        _expect(len(sizes) <= _MOST_AXES, f"holds a tensor of {len(sizes)} axes, more than {_MOST_AXES}")
    _expect(all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)), "a tensor has a negative or odd size")
    _expect(all(n < 2**63 for n in (offset, *shape, *strides)), "a tensor has a size of more than 64 bits")
    _expect(len(shape) == len(strides), "a tensor has more strides than sizes, or fewer")
    if elements := math.prod(shape):
        end = (offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1) * dtype.itemsize
        room = storage.size * storage.dtype.itemsize
        _expect(end <= room, f"holds a tensor that reaches to byte {end} of a storage of {room} bytes")
        # Strides of 0 would make terabytes of a single element.
        size = elements * dtype.itemsize
        _expect(size <= room, f"holds a tensor of {size} bytes over a storage of {room} bytes")
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, _Scalar)


def _is_key(value: Any) -> bool:
    """Whether a value may be a key: others may be nested so deep that their hash ends the process, or never ends."""
    return _is_scalar(value) or (isinstance(value, tuple) and all(map(_is_scalar, value)))


def _pairs(keys: Iterable[Any], values: Iterable[Any]) -> dict[Any, Any]:
    keys = list(keys)
    _expect(all(map(_is_key, keys)), "something other than a text or a number is a key")
    return dict(zip(keys, values, strict=True))


def _elements(items: Iterable[Any]) -> list[Any]:
    items = list(items)
    _expect(all(map(_is_key, items)), "something other than a text or a number is in a set")
    return items


def _dict(*arguments: Any) -> dict[Any, Any]:
    """What `dict` makes of nothing, another dict, or pairs."""
    items = arguments[0] if arguments else ()
    if isinstance(items, dict):
        return dict(items)
    pairs = [tuple(pair) for pair in items if isinstance(pair, tuple | list) and len(pair) == 2]
    _expect(len(pairs) == len(items), "a dict is made of other things than pairs")
    return _pairs([key for key, _ in pairs], [value for _, value in pairs])


def _device(*parts: Any) -> str:
    _expect(all(isinstance(part, str) or type(part) is int for part in parts), "a device has an unknown form")
    text = ":".join(map(str, parts[:2]))
    _expect(len(parts) <= 2 and len(text) <= _LONGEST_NAME, "a device has an unknown form")
    return text


_CALLABLE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "builtins.set": lambda *items: set(_elements(*items)) if items else set(),
    "__builtin__.set": lambda *items: set(_elements(*items)) if items else set(),
    "torch.Size": lambda *sizes: tuple(*sizes),
    "torch.device": _device,
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
    _expect(isinstance(module, str) and isinstance(name, str), "a name is no text")
    full = f"{module[:_LONGEST_NAME]}.{name[:_LONGEST_NAME]}"
    if full not in _ALLOWED:
        raise PickleError(f"asks for {full}, which is neither a tensor nor a plain container")
    return Global(full)


def _persistent(identifier: Any) -> Storage:
    """A storage from ("storage", type, key, device, elements[, (view key, offset, elements) or None])."""
    _expect(isinstance(identifier, tuple) and len(identifier) >= 5, "a storage has an unknown form")
    tag, kind, key, _, size, *view = identifier
    _expect(tag == "storage" and isinstance(kind, Global), "a storage has an unknown form")
    _expect(isinstance(key, str) or type(key) is int, "a storage has no name")
    _expect(type(size) is int and 0 <= size < 2**63, "a storage has no size")
    if kind.name in _UNTYPED:
        dtype = np.dtype(np.uint8)
    else:
        _expect(kind.name in STORAGE_DTYPES, f"a storage has the type {kind.name}")
        dtype = STORAGE_DTYPES[kind.name]
    if view and view[0] is not None:
        _expect(isinstance(view[0], tuple) and len(view[0]) == 3, "a storage's view has an unknown form")
        _, offset, part = view[0]
        _expect(type(offset) is int and type(part) is int and 0 <= offset <= offset + part <= size, "a storage's view")
        return Storage(str(key), dtype, part, offset, block=size)
    return Storage(str(key), dtype, size, block=size)


def load(stream: io.BufferedIOBase | mmap.mmap) -> Any:
    """Read one pickle and leave the stream just behind it.

    Returns:
        dicts, lists, tuples, sets, strings, bytes, numbers, and `Tensor` records in place of tensors.

    Raises:
        PickleError: the pickle is truncated or damaged, or names anything outside the allow-list.
    """
    machine = _Machine()
    start = stream.tell()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools on a damaged text: "invalid escape sequence"
            for opcode, argument, position in pickletools.genops(stream):  # type: ignore[arg-type]
                if opcode.name == "STOP":
                    return machine.pop()
                if (position or 0) - start > _LONGEST_PICKLE:
                    raise PickleError(f"has more than {_LONGEST_PICKLE >> 20} MiB besides its tensors")
                machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RecursionError) as error:
        raise PickleError(f"is damaged or cut short ({str(error)[:_LONGEST_NAME]})") from error
    raise PickleError("is cut short")


class _Machine:
    """The stack, the memo, and the opcodes."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """The stacks below each mark, from which on a tuple, list or dict is collected."""
        self.memo: dict[int, Any] = {}
        self.steps = self.copied = 0

    def pop(self) -> Any:
        _expect(bool(self.stack), "its stack is out of step")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        _expect(bool(self.below), "its stack is out of step")
        values, self.stack = self.stack, self.below.pop()
        return values

    def top(self, kind: type) -> Any:
        _expect(isinstance(self.stack[-1], kind), f"something other than a {kind.__name__} is filled like one")
        return self.stack[-1]

    def call(self, function: Any, arguments: Any) -> Any:
        """Do what stands for a call of the file's."""
        _expect(isinstance(function, Global) and isinstance(arguments, tuple), "a call of no function")
        if function.name not in _CALLABLE:
            raise PickleError(f"asks to call {function.name}")
        # Every copy of a container costs the file a few bytes and us its length.
        self.copied += sum(len(item) for item in arguments if isinstance(item, dict | list | tuple | set | str | bytes))
        _expect(self.copied <= 2 * self.steps + 10_000, "it copies the same things again and again")
        return _CALLABLE[function.name](*arguments)

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode."""
        stack = self.stack
        self.steps += 1
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP":
                if stack:
                    stack.pop()
                else:  # the mark itself
                    self.pop_to_mark()
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
                values = self.pop_to_mark()
                self.stack.append(tuple(values))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                values = self.pop_to_mark()
                self.stack.append(values)
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
                self.top(set).update(_elements(values))
            case "FROZENSET":
                values = self.pop_to_mark()
                self.stack.append(frozenset(_elements(values)))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = self.pop_to_mark()
                self.stack.append(_pairs(values[::2], values[1::2]))
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.top(dict).update(_pairs([key], [value]))
            case "SETITEMS":
                values = self.pop_to_mark()
                self.top(dict).update(_pairs(values[::2], values[1::2]))
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
                stack.append(self.call(function, arguments))
            case "BUILD":
                # Only the attributes of a state dict's OrderedDict (its `_metadata`, module versions): not needed.
                self.pop()
                self.top(dict)
            case "INST":
                _global(*argument.split(" ", 1))
                raise PickleError(f"asks to construct {argument.replace(' ', '.')}")
            case _:
                raise PickleError(f"uses the pickle opcode {opcode}, which torch does not write")
