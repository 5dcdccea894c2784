"""The factors that a config file marks, and the combinations of them that a design trains.

A config file marks factors by a dict beside `get_config`, name → function that switches the factor on:

    FACTORS = {"bn": with_batch_norm, "dropout": with_dropout, "aug": with_augmentation}
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import ValidationError

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.config.faults import explain
from imgcls_jax.errors import UserError

Factor = Callable[[c.Config], c.Config]
Cell = tuple[str, ...]
"""The factors that are on, in the order of FACTORS; the empty cell is the baseline."""
Design = Literal["factorial", "one_at_a_time"]


def of(spec: str) -> dict[str, Factor]:
    """Load the factors that a config file marks.

    Raises:
      UserError: the file marks none, or not as a dict of functions with plain names.
    """
    name, _ = files.split_spec(spec)
    factors = files.load_factors(spec)
    if not factors:
        raise UserError(
            f'{name} marks no factors: define FACTORS = {{"NAME": FUNCTION, …}} in it, each function taking a Config '
            "and returning it with one thing switched on"
        )
    if not isinstance(factors, Mapping) or not all(callable(factor) for factor in factors.values()):
        raise UserError(f"FACTORS of {name} must be a dict of names and functions, not {factors!r}")
    for factor in factors:
        if not re.fullmatch(r"[\w-]+", str(factor)) or factor == "baseline":
            raise UserError(
                f'{factor!r} in FACTORS of {name} cannot name a folder beside "baseline": use letters, digits, _ and -'
            )
    return dict(factors)


def cells(factors: Mapping[str, Factor], design: Design) -> list[Cell]:
    """List the combinations of a design, the baseline first.

    "factorial": all 2^n. "one_at_a_time": the baseline, each factor alone, and all together.
    """
    names = tuple(factors)
    if design == "factorial":
        return [cell for size in range(len(names) + 1) for cell in itertools.combinations(names, size)]
    return list(dict.fromkeys([(), *((name,) for name in names), names]))


def name(cell: Cell) -> str:
    """Return what tables and folders call a cell: "baseline", "bn", "bn+dropout"."""
    return "+".join(cell) or "baseline"


def apply(config: c.Config, factors: Mapping[str, Factor], cell: Cell) -> c.Config:
    """Make the config of a cell: the baseline with the cell's factors applied one after the other.

    Raises:
      UserError: a factor cannot be applied, does not return a Config, or changes nothing.
    """
    for factor in cell:
        before = config
        try:
            config = factors[factor](config)
        except ValidationError as error:
            raise UserError(f"the factor {factor!r} cannot be applied to {before.name}: {explain(error)}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"the factor {factor!r} cannot be applied to {before.name}: {error}") from error
        if not isinstance(config, c.Config):
            raise UserError(f"the factor {factor!r} must return a Config, not {type(config).__name__}")
        config = dataclasses.replace(config, name=before.name)
        if config == before:
            raise UserError(
                f"the factor {factor!r} changes nothing in {before.name}: it must be off in the baseline and apart "
                "from the other factors"
            )
    return dataclasses.replace(config, name="_".join((config.name, *cell)))
