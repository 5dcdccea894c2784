"""One config trained with several seeds: resumable, and a run that fails is recorded so that the others go on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.config import files
from imgcls_jax.errors import UserError
from imgcls_jax.report import record
from imgcls_jax.runtime import Runtime
from imgcls_jax.train import train_and_evaluate


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    workdir: Path
    result: dict[str, Any] | None
    """As `train_and_evaluate` returns it; None where it failed."""
    problem: str | None
    """The error's sentence where it failed."""


def seeds(config: c.Config, count: int) -> list[c.Config]:
    """The config under `count` seeds in a row, from its own on.

    The held-out split depends on `data.split_seed` alone, so that runs of one seed in different cells are pairs:
    the same images, the same order, the same draws of the augmentation wherever both draw.
    """
    return [dataclasses.replace(config, seed=config.seed + i) for i in range(count)]


def folder(root: Path, name: str, config: c.Config) -> Path:
    """Work directory of a seed's run: ROOT/NAME/seed_SEED."""
    return root / name / f"seed_{config.seed}"


def train(
    config: c.Config,
    workdir: Path,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    runtime: Runtime | None = None,
    command: str | None = None,
) -> Outcome:
    """Train, or continue what an earlier call began, or only read the result of what it finished.

    A failed run (its data missing, its loss not finite) is tried again by the next call.
    """
    if is_finished(config, workdir):
        return Outcome(workdir, record.result(workdir), None)
    try:
        result = train_and_evaluate(config, workdir, arrays=arrays, runtime=runtime, command=command)
    except UserError as error:
        return Outcome(workdir, None, str(error))
    finally:
        jax.clear_caches()  # the next run shares no compiled function with this one
    return Outcome(workdir, result, None)


def is_finished(config: c.Config, workdir: Path) -> bool:
    """Whether `workdir` holds a finished run of exactly this config."""
    return record.result(workdir) is not None and files.restore(workdir / "config.json") == config
