"""How settings are declared, and how a class of settings becomes a part that configs can name.

`settings` makes a plain group of settings. A `Component` is a group of settings that builds a part of a run: a model,
an augmentation, a data source, an optimizer, … Each kind of part has one root class, and every subclass of the root is
registered by being defined, whether it is ours or a user's:

    class MyNet(c.Model):
        width: int = 64
        \"""Channels of the first layer.\"""

        def build(self, *, num_classes, channels, image_size, dtype, rngs): ...

In a saved config a component is a JSON object of its settings and its "kind": the class's name for the classes of this
package, "module:Class" for others.
"""

import dataclasses
import functools
import importlib
import importlib.util
import json
import pkgutil
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError, core_schema

from imgcls_jax.errors import did_you_mean, short

T = TypeVar("T")
C = TypeVar("C", bound="Component")

SETTINGS: dict[str, type] = {}
"""Every plain group of settings by its class's name."""

ROOTS: list[type["Component"]] = []
"""The kinds of parts that a config names and that users may define themselves."""

# Where this package's own components are defined: every module of these folders is imported before names are looked up.
_HOMES = ("models", "augment", "optim", "data.sources", "evaluation")

_dataclass = functools.partial(
    dataclass,
    frozen=True,
    config=ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False),
)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that rejects unknown fields and wrong types; the docstrings of its fields are its help.

    Strict: "3" is not 3 and 3.5 is not an int; an int is accepted where a float is asked for.
    """
    made: type[T] = _dataclass(cls)  # type: ignore[assignment]
    known = SETTINGS.get(cls.__name__)
    if known is None or is_own(cls) or not is_own(known):  # a user's class does not displace ours of the same name
        SETTINGS[cls.__name__] = made
    return made


def is_own(cls: type) -> bool:
    """Whether a class is of this package, not of a user's."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Component:
    """A class of settings that builds a part of a run. Subclass one of its roots: c.Model, c.Augmentation, …

    A subclass is a frozen dataclass as `settings` makes it, without a decorator.
    """

    root: ClassVar[type["Component"]]
    """The root that this class belongs to."""
    registered: ClassVar[dict[str, type["Component"]]]
    """Of the root: every class by its kind."""

    def __init_subclass__(cls, *, root: bool = False, abstract: bool = False) -> None:
        """
        Args:
          root: the class is a new kind of part.
          abstract: the class is a base of others and cannot be named in a config.
        """
        super().__init_subclass__()
        if root:
            cls.root, cls.registered = cls, {}
            ROOTS.append(cls)
        elif not abstract:
            cls.registered[cls.kind()] = cls
        _dataclass(cls)

    @classmethod
    def kind(cls) -> str:
        """The name under which a saved config refers to the class."""
        return cls.__name__ if is_own(cls) else f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def kinds(cls: type[C]) -> dict[str, type[C]]:
        """Every registered class below this one by its kind, this package's own first."""
        import_own()
        found = {kind: known for kind, known in cls.root.registered.items() if issubclass(known, cls)}
        return dict(sorted(found.items(), key=lambda item: ":" in item[0]))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        if cls.root is not cls:
            return handler(source)
        return core_schema.with_info_plain_validator_function(
            lambda value, info: cls._validate(value, json=info.mode == "json"),
            serialization=core_schema.plain_serializer_function_ser_schema(_serialize),
        )

    @classmethod
    def _validate(cls, value: Any, *, json: bool) -> "Component":
        """A component as it is; in JSON also an object with a "kind", or a kind alone for one with all defaults."""
        if isinstance(value, cls):
            return value
        if json and isinstance(value, str):
            return _from_json(cls.find(value), {})
        if json and isinstance(value, dict) and isinstance(value.get("kind"), str):
            return _from_json(cls.find(value["kind"]), {key: item for key, item in value.items() if key != "kind"})
        raise _unknown(cls, value)

    @classmethod
    def find(cls, name: str) -> type["Component"]:
        """The registered class of a kind; a class of one's own also by its name alone."""
        if name not in cls.root.registered:
            import_own()
        if found := cls.root.registered.get(name):
            return found
        module, _, qualified = name.rpartition(":")
        if module:
            import_module(module, name)
        if found := cls.root.registered.get(name):
            return found
        same = [known for known in cls.root.registered.values() if known.__name__ == name]
        if len(same) == 1:
            return same[0]
        if module:
            raise _error(
                "needs {name}, which is not in the module {module}{where}",
                name=qualified,
                module=module,
                where=f" ({sys.modules[module].__file__})" if module in sys.modules else "",
            )
        raise _unknown(cls, name)


@functools.cache
def import_own() -> None:
    """Import every module in which this package defines components."""
    package = __name__.partition(".")[0]
    for home in _HOMES:
        folder = importlib.import_module(f"{package}.{home}")
        for module in pkgutil.iter_modules(folder.__path__):
            if not module.ispkg:
                importlib.import_module(f"{folder.__name__}.{module.name}")


# ---- modules of a user's own ----------------------------------------------------------------------------------------

# Where the modules that saved configs name lay when they were saved, by their names.
_FILES: dict[str, str] = {}


def foreign_modules(config: Any) -> dict[str, str]:
    """The file of every module outside this package that a config's components are defined in, by the module's name."""
    names = sorted({type(part).__module__ for part in components(config) if ":" in type(part).kind()})
    files = {name: getattr(sys.modules.get(name), "__file__", None) or _FILES.get(name, "") for name in names}
    return {name: str(Path(file).absolute()) if file else "" for name, file in files.items()}


def remember_modules(files: Mapping[str, str]) -> None:
    """Note where the modules of a saved config lay, for `import_module`."""
    _FILES.update(files)


def import_module(module: str, kind: str) -> None:
    """Import a module of a user's own by its name, or else from the file in which it was when the config was saved.

    Raises:
      PydanticCustomError: it is neither importable nor where it was, or fails.
    """
    file = _FILES.get(module, "")
    name = kind.rpartition(":")[2]
    try:
        if module not in sys.modules:
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)
            elif Path(file).is_file():
                execute(module, Path(file))
            else:
                raise _error(
                    "needs {name} of the module {module}, which cannot be imported{was}: put the folder that holds it "
                    "on PYTHONPATH",
                    name=name,
                    module=module,
                    was=f" and is not at {file}, where it was" if file else "",
                )
    except PydanticCustomError:
        raise
    except (Exception, SystemExit) as error:  # the module is a user's own: anything may go wrong in it
        sys.modules.pop(module, None)
        raise _error(
            "needs {name} of the module {module}, whose import fails: {reason}",
            name=name,
            module=module,
            reason=f"{type(error).__name__}: {error}",
        ) from error


def execute(name: str, file: Path) -> Any:
    """Execute a Python file as the module `name`, with its own folder first on the path for what it imports."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Registered so that dataclasses defined in the file can resolve their own annotations.
    sys.modules[name] = module
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def components(node: Any) -> Iterator[Component]:
    """Every component of a config, the outer ones first."""
    if isinstance(node, Component):
        yield node
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        for field in dataclasses.fields(node):
            yield from components(getattr(node, field.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from components(item)


# ---- JSON -----------------------------------------------------------------------------------------------------------


@functools.cache
def _adapter(cls: Any) -> TypeAdapter:
    return TypeAdapter(cls)


def _from_json(cls: type[Component], settings: dict[str, Any]) -> Component:
    return _adapter(cls).validate_json(json.dumps(settings))  # type: ignore[arg-type]


def _serialize(value: Component) -> dict[str, Any]:
    return {"kind": type(value).kind()} | _adapter(type(value)).dump_python(value, mode="json")  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    """Return a setting's value as `json` reads it: components and groups of settings as objects, tuples as lists."""
    if isinstance(value, Component):
        return _serialize(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _error(template: str, **context: str) -> PydanticCustomError:
    return PydanticCustomError("component", template, context)  # type: ignore[arg-type]


def _unknown(cls: type[Component], value: Any) -> PydanticCustomError:
    kinds = [known.__name__ for known in cls.kinds().values()]
    return _error(
        "must be one of {kinds}, not {value}{meant}",
        kinds=", ".join(kinds),
        value=short(value),
        meant=did_you_mean(value, kinds) if isinstance(value, str) else "",
    )


# ---- types of settings ----------------------------------------------------------------------------------------------


def classes(hint: Any) -> list[type]:
    """Return the classes of settings that a type allows; of a root, all that are registered below it."""
    if isinstance(hint, type) and not typing.get_args(hint):
        if issubclass(hint, Component):
            return list(hint.kinds().values())
        return [hint] if dataclasses.is_dataclass(hint) else []
    return [cls for arg in typing.get_args(hint) for cls in classes(arg)]


def type_name(hint: Any) -> str:
    """Return a type as a user writes it, with its limits: "0 < int", "'fp32' | 'bf16'", "Clip | None"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = [limit for item in hint.__metadata__ for limit in getattr(item, "metadata", ())]
        least = [f"{limit.gt:g} <" for limit in limits if hasattr(limit, "gt")]
        least += [f"{limit.ge:g} ≤" for limit in limits if hasattr(limit, "ge")]
        most = [f"< {limit.lt:g}" for limit in limits if hasattr(limit, "lt")]
        most += [f"≤ {limit.le:,}" for limit in limits if hasattr(limit, "le")]
        return " ".join([*least, type_name(args[0]), *most])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, args))
    if origin is Literal:
        return " | ".join(map(repr, args))
    if origin is tuple:
        return f"tuple[{', '.join('…' if arg is Ellipsis else type_name(arg) for arg in args)}]"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", str(hint))
