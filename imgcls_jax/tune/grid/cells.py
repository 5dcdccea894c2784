"""The cells of a grid: settings by seeds, and which settings may differ between networks of one program."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.training.validate import validate
from imgcls_jax.tune.search import spaces
from imgcls_jax.tune.search.spaces import Dimension, Value

Axes = Mapping[Dimension, Sequence[Value]]
"""The values of each setting that varies."""

# What reaches a step as numbers alone: a table of learning rates, and the weight decay of each parameter.
_NUMBERS = re.compile(r"optim\.schedule\..+|optim\.optimizer(\.\w+)*\.weight_decay")
_ALLOWED = "optim.schedule.… and weight_decay of the optimizer"
_MOST_MEMBERS = 10_000


@dataclasses.dataclass(frozen=True)
class Cell:
    """A setting of each axis, with all seeds."""

    values: dict[str, Value]
    """By path."""
    config: c.Config
    """With the values; the seed is that of the base."""


def axes(texts: Sequence[str], config: c.Config, points: int | None = None) -> dict[Dimension, list[Value]]:
    """Read what varies, and how.

    Args:
      texts: each "PATH=A,B,…", or a range as `spaces.parse` reads it.
      config: whose settings vary; every value must be possible in it.
      points: the number of values of a range, its ends included; None: 5.

    Raises:
      UserError: a text is none of these, a setting does not exist, it cannot vary in one program, or a value is
        impossible.
    """
    if not texts:
        return {}
    space = spaces.parse([re.sub(r"^\s*([^=\s]+)\s*=([^()]+)$", r"\1=choice(\2)", text) for text in texts], config)
    for dimension in space:
        if not _NUMBERS.fullmatch(dimension.path):
            instead = "give --seeds" if dimension.path == "seed" else "search it with `imgcls tune search`"
            raise UserError(
                f"--space {dimension.path} cannot vary between networks of one program, where {_ALLOWED} can: {instead}"
            )
    if points is not None and all(dimension.limits is None for dimension in space):
        raise UserError("--points counts the values of a range, as of PATH=log(LOW,HIGH), and no --space is one")
    return {dimension: _values(dimension, points or 5) for dimension in space}


def _values(dimension: Dimension, points: int) -> list[Value]:
    """The values of a list, or some of a range, between its ends of three digits, so that they can be typed."""
    if dimension.limits is None:
        return list(dimension.choices)
    low, high = dimension.limits
    spread = np.geomspace if dimension.kind in ("log", "logint") else np.linspace
    inner = [float(f"{value:.3g}") for value in spread(low, high, points)[1:-1]]
    if dimension.kind in ("int", "logint"):
        inner = [round(value) for value in inner]
    return list(dict.fromkeys(dimension.read(value) for value in (low, *inner, high)))


def seeds(text: str, first: int) -> list[int]:
    """Read "3", so many seeds from `first` on, or "0,1,5", which ones.

    Raises:
      UserError: it is neither.
    """
    numbers = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,10}", number) for number in numbers):
        raise UserError(f'--seeds must be their number, as in "3", or a list, as in "0,1,5", not {text[:40]!r}')
    found = [int(number) for number in numbers]
    if len(found) == 1:
        found = list(range(first, first + min(found[0], _MOST_MEMBERS + 1)))
    if not found or len(set(found)) < len(found) or max(found) > 2**32 - 1:
        raise UserError(f"--seeds {text[:40]}: seeds are one or more different whole numbers below 2^32")
    return found


def cells(config: c.Config, axes: Axes, seeds: Sequence[int]) -> list[Cell]:
    """Combine the values of all axes, in their order, and check each combination.

    Raises:
      UserError: there are too many, a combination is impossible, or the config has something that one program of many
        networks cannot do.
    """
    _refuse(config)
    combinations = list(itertools.islice(itertools.product(*axes.values()), _MOST_MEMBERS + 1))
    if len(combinations) * len(seeds) > _MOST_MEMBERS:
        raise UserError(f"these are more than {_MOST_MEMBERS:,} networks: give fewer values or seeds")
    found = []
    for combination in combinations:
        values = {dimension.path: value for dimension, value in zip(axes, combination, strict=True)}
        one = spaces.put(config, dict(zip(axes, combination, strict=True)))
        try:
            validate(one, devices=1)
        except UserError as error:
            where = ", ".join(f"--space {path}={value}" for path, value in values.items())
            raise UserError(f"{where}: {error}" if where else str(error)) from None
        found.append(Cell(values, one))
    return found


def _refuse(config: c.Config) -> None:
    """Refuse what a run does by itself in the midst of training, which networks of one program cannot do each alone."""
    reasons = {
        "recover": (config.recover is not None, "goes back to a checkpoint of one run"),
        "callbacks": (bool(config.callbacks), "watch one run"),
        "best.metric": ("/" in config.best.metric, "names an evaluator, and only validation images are evaluated"),
    }
    for name, (there, reason) in reasons.items():
        if there:
            remedy = {"callbacks": "()", "best.metric": "top1"}.get(name, "None")
            raise UserError(
                f"{name} {reason}, and a grid trains many networks in one program: give --config.{name}={remedy}, or "
                "use `imgcls tune search`"
            )
