"""The space of a search: which settings vary, and how, as "optim.schedule.peak=log(1e-4,1e-1)"."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from imgcls_jax import config as c
from imgcls_jax.config import overrides
from imgcls_jax.errors import UserError, did_you_mean, short

if TYPE_CHECKING:
    import optuna

Kind = Literal["uniform", "log", "int", "logint", "choice"]
Value = float | int | str
_FORMS = "uniform(LOW,HIGH), log(LOW,HIGH), int(LOW,HIGH), logint(LOW,HIGH) or choice(A,B,…)"
_FLAG = "--space "
# What may stand between two commas of a choice.
_OPENING, _CLOSING = "([{", ")]}"


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A setting that varies."""

    path: str
    """Of the setting, such as "optim.schedule.peak"."""
    kind: Kind
    """"uniform": real numbers; "log": real numbers, evenly by their logarithm; "int" and "logint": whole numbers;
    "choice": one of some values."""
    limits: tuple[float, float] | None = None
    """The least and the greatest value, both included; None for a choice."""
    choices: tuple[str, ...] = ()
    """The values of a choice, as on a command line."""

    def __str__(self) -> str:
        values = self.choices if self.limits is None else tuple(f"{self.read(limit)!r}" for limit in self.limits)
        return f"{self.path}={self.kind}({','.join(values)})"

    def read(self, value: float) -> float | int:
        """Return a number as the setting takes it."""
        return int(value) if self.kind in ("int", "logint") else float(value)

    @property
    def ends(self) -> list[Value]:
        """The values that are checked before a search: both limits, or all choices."""
        return list(self.choices) if self.limits is None else [self.read(limit) for limit in self.limits]

    def suggest(self, trial: "optuna.Trial") -> Value:
        """Return the trial's value: the one that it has, or a new one of its sampler."""
        if self.limits is None:
            return trial.suggest_categorical(self.path, self.choices)
        low, high = self.limits
        if self.kind in ("int", "logint"):
            return trial.suggest_int(self.path, int(low), int(high), log=self.kind == "logint")
        return trial.suggest_float(self.path, low, high, log=self.kind == "log")


def parse(texts: Iterable[str], config: c.Config) -> list[Dimension]:
    """Read the dimensions of a search over a config.

    Args:
      texts: each "PATH=uniform(LOW,HIGH)", "PATH=log(LOW,HIGH)", "PATH=int(LOW,HIGH)", "PATH=logint(LOW,HIGH)" or
        "PATH=choice(A,B,…)".
      config: whose settings vary; every limit and every choice must be possible in it.

    Raises:
      UserError: a text is none of these, a setting does not exist, or a value is impossible for it.
    """
    space = [_parse(text) for text in texts]
    if not space:
        raise UserError(f"--space is missing: say which setting varies, as PATH={_FORMS}")
    for i, dimension in enumerate(space):
        if dimension.path in [other.path for other in space[:i]]:
            raise UserError(f"{_FLAG}{dimension.path} is given twice")
        for value in dimension.ends:
            put(config, {dimension: value})
    return space


def put(config: c.Config, values: Mapping[Dimension, Value]) -> c.Config:
    """Return `config` with a value for each dimension, put in one after the other.

    Raises:
      UserError: a setting does not exist, or a value is impossible for it.
    """
    for dimension, value in values.items():
        meant = overrides.readings(value) if isinstance(value, str) else [value]
        config = overrides.put(config, dimension.path, meant, flag=_FLAG)
    return config


def _parse(text: str) -> Dimension:
    found = re.fullmatch(r"\s*([^=\s]+?)(?:\.kind)?\s*=\s*(\w+)\s*\((.*)\)\s*", text, re.DOTALL)
    if not found:
        raise UserError(f"{_FLAG}{short(text)} is no dimension: write PATH={_FORMS}")
    path, kind, inside = found.groups()
    if kind not in get_args(Kind):
        raise UserError(
            f"{_FLAG}{path}: there is no {short(kind)}{did_you_mean(kind, get_args(Kind))}: write {path}={_FORMS}"
        )
    parts = _split(inside)
    if kind == "choice":
        if len(parts) < 2 or len(set(parts)) < len(parts) or "" in parts:
            raise UserError(f"{_FLAG}{path}: a choice is of two values or more, all different, not ({short(inside)})")
        return Dimension(path, "choice", choices=tuple(parts))
    return Dimension(path, kind, _limits(path, kind, parts))  # type: ignore[arg-type]


def _limits(path: str, kind: str, parts: list[str]) -> tuple[float, float]:
    whole = kind in ("int", "logint")
    try:
        low, high = (float(int(part)) if whole else float(part) for part in parts)
    except (ValueError, OverflowError):
        numbers = "whole numbers" if whole else "numbers"
        raise UserError(f"{_FLAG}{path}: {kind} takes two {numbers}, not ({', '.join(parts)[:60]})") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{_FLAG}{path}: {kind}({', '.join(parts)}) must go from a finite number to a larger one")
    if max(-low, high) > 2**53 and whole:
        raise UserError(f"{_FLAG}{path}: {kind} goes up to 2^53")
    if kind in ("log", "logint") and low <= 0:
        raise UserError(f"{_FLAG}{path}: {kind} must begin above 0, not at {parts[0]}")
    return low, high


def _split(text: str) -> list[str]:
    """Split at the commas that no bracket and no quote holds."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if character == "," and not depth and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += 0 if quote else (character in _OPENING) - (character in _CLOSING)
        parts[-1] += character
    return [part.strip() for part in parts]
