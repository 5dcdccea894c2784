"""Check annotations at every call; an int passes where a float is asked for, as in PEP 484."""

import dataclasses
import inspect
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_jaxtyped = jaxtyping.jaxtyped


def enforce(package: str) -> None:
    """Check the annotations of a package that is yet to be imported, shapes and dtypes as well.

    jaxtyping's hook decorates every function by `jaxtyping.jaxtyped`, which binds the arguments and keeps a table of
    axes at each call. Only annotations that name axes need that; the others are left to beartype, which is faster.
    """
    jaxtyping.jaxtyped = lambda *, typechecker: lambda decorated: _by_need(decorated, typechecker)
    jaxtyping.install_import_hook(package, "annotations.check")


def _by_need(decorated: Any, typechecker: Any) -> Any:
    if inspect.isclass(decorated):
        if dataclasses.is_dataclass(decorated) and not getattr(decorated, "__no_type_check__", False):
            own = decorated.__dict__.get("__init__")
            if own is not None and not hasattr(own, "__wrapped__"):
                decorated.__init__ = _by_need(own, typechecker)
        return decorated
    if isinstance(decorated, classmethod | staticmethod):
        return type(decorated)(_by_need(decorated.__func__, typechecker))
    if isinstance(decorated, property):
        parts = (decorated.fget, decorated.fset, decorated.fdel)
        return property(*(part and _by_need(part, typechecker) for part in parts), decorated.__doc__)
    if inspect.isfunction(decorated) and not any(map(_names_axes, decorated.__annotations__.values())):
        return check(decorated)
    return _jaxtyped(decorated, typechecker=typechecker)


def _names_axes(annotation: Any) -> bool:
    if isinstance(annotation, str | ForwardRef):
        return True  # it may, and jaxtyping passes over names that only type checkers import
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(_names_axes, get_args(annotation)))
