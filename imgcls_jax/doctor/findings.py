"""What a check of the doctor is: a small function that looks at a subject and yields findings; and the list of them.

A check registers itself:

    @check(needs=("dataset",), quick=True)
    def unreadable(subject):
        if subject.dataset.bad:
            yield warning("…", evidence="…", fix="…")

Its module must be imported by `examination`. A check is made where the subject has all that it needs.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, no_type_check

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data import pixels
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.weights.plan import Plan

if TYPE_CHECKING:
    import jax

_LISTED = 3  # names that a sentence gives


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or looks wrong."""

    level: Literal["error", "warning"]
    """An error stops training; a warning does not."""
    what: str
    """What is wrong."""
    evidence: str
    """By what it was seen: figures, files."""
    fix: str
    """What to do: a command or a setting."""
    items: tuple[str, ...] = ()
    """All files or classes that are concerned; the evidence names only some."""
    check: str = ""
    """Name of the check."""


@no_type_check  # what is None is read by no check: its `needs` say so
@dataclass(frozen=True)
class Subject:
    """What is examined. What is None is not known; a check that names it in its `needs` is then left out."""

    settings: c.Data
    """The data's settings."""
    config: c.Config = None  # type: ignore[assignment]
    """The experiment; None where only data are examined."""
    dataset: data.Dataset = None  # type: ignore[assignment]
    mesh: "jax.sharding.Mesh" = None  # type: ignore[assignment]
    plan: Plan = None  # type: ignore[assignment]
    """What is decided for each parameter."""
    workdir: Path = None  # type: ignore[assignment]
    """Where checkpoints will be written; it need not exist."""
    state_bytes: int = None  # type: ignore[assignment]
    """Bytes of the training state, and so of a checkpoint."""
    step_bytes: int = None  # type: ignore[assignment]
    """Bytes that the compiled step takes on one device, by its memory analysis."""
    memory_limit: int = None  # type: ignore[assignment]
    """Bytes that training may take on one device."""
    step_rate: float = None  # type: ignore[assignment]
    """Images per second that the device trains on where it never waits; known only where images are streamed to it."""
    recommended_rate: float = None  # type: ignore[assignment]
    """Learning rate that a range test recommends."""
    predictions: tuple[Predictions, ...] = None  # type: ignore[assignment]
    """What a run predicted of images that it was not trained on; known only where wrong labels are looked for."""
    images_to_cache: int = None  # type: ignore[assignment]
    """Images whose canvases are to be made; known only before that."""
    quick: bool = False
    """Whether to make the quick checks alone, and to look at a sample of the images at most."""
    on_progress: data.Progress = data.no_progress

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, where config and data are known."""
        return len(self.dataset.train) // self.config.batch_size

    @functools.cached_property
    def scans(self) -> list[pixels.Scan]:
        """What is seen of the canvases of each split; reads all of them."""
        return [pixels.scan(split, self.on_progress) for split in self.dataset.splits]

    @functools.cached_property
    def same_content(self) -> list[list[pixels.Place]]:
        """The images with the same content; reads all of them."""
        return pixels.same_content(self.dataset.splits, self.on_progress)


Run = Callable[[Any], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """A registered check."""

    name: str
    run: Run
    needs: tuple[str, ...]
    """Attributes of the subject that must not be None."""
    quick: bool
    """Whether it is made before each training."""
    of_classes: bool = False
    """Whether it is for data of one class per image alone."""


CHECKS: list[Check] = []
"""All checks, in the order in which they are made."""


def check(*, needs: Sequence[str] = (), quick: bool = False, of_classes: bool = False) -> Callable[[Run], Run]:
    """Register a function as a check.

    Args:
      needs: attributes of the subject without which it cannot be made.
      quick: make it before each training too: it takes milliseconds, or heeds `Subject.quick`.
      of_classes: make it for data of one class per image alone.
    """

    def register(function: Run) -> Run:
        CHECKS.append(Check(function.__name__, function, tuple(needs), quick, of_classes))  # type: ignore[attr-defined]
        return function

    return register


def error(what: str, *, evidence: str, fix: str, items: Sequence[str] = ()) -> Finding:
    """Make a finding that stops training."""
    return Finding("error", what, evidence, fix, tuple(items))


def warning(what: str, *, evidence: str, fix: str, items: Sequence[str] = ()) -> Finding:
    """Make a finding that does not stop training."""
    return Finding("warning", what, evidence, fix, tuple(items))


def examine(subject: Subject, checks: Sequence[Check]) -> tuple[list[Finding], list[str]]:
    """Make all checks that can be made.

    Args:
      subject: what is known; where it is `quick`, only quick checks are made.
      checks: those to choose from.

    Returns:
      The findings, errors first; and the names of the checks that were made.
    """
    made, findings = [], []
    for one in checks:
        if (subject.quick and not one.quick) or any(getattr(subject, name) is None for name in one.needs):
            continue
        if one.of_classes and subject.dataset.train.labels.ndim == 2:
            continue
        made.append(one.name)
        findings += [dataclasses.replace(finding, check=one.name) for finding in one.run(subject)]
    return sorted(findings, key=lambda finding: finding.level != "error"), made


def some(names: Sequence[str]) -> str:
    """Name the first few of many things."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
