"""How every settings class of the tree is declared."""

import dataclasses
import functools
from typing import TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")

CLASSES: dict[str, type] = {}
"""Every settings class by name."""

_dataclass = functools.partial(
    dataclass,
    frozen=True,
    config=ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False),
)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass that rejects unknown fields and wrong types, and whose field docstrings are its help.

    Strict: "3" is not 3 and 3.5 is not an int; an int is accepted where a float is asked for.
    """
    made: type[T] = _dataclass(cls)  # type: ignore[assignment]
    CLASSES[cls.__name__] = made
    return made
