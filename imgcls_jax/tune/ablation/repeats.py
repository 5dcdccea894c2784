"""Train one config with several seeds: resumable, and a run that fails does not stop the others."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.report import record
from imgcls_jax.training import loop
from imgcls_jax.training.callbacks.console import Console


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    workdir: Path
    result: Mapping[str, Any] | None
    """As `train` returns it; None where it failed."""
    problem: str | None
    """The error's sentence where it failed."""


def seeds(config: c.Config, count: int) -> list[c.Config]:
    """Return the config under `count` consecutive seeds, from its own on.

    The held-out split depends on `data.split_seed` alone, so that runs of one seed in different cells are pairs:
    the same images, the same order, the same draws of the augmentation wherever both draw.
    """
    return [dataclasses.replace(config, seed=config.seed + i) for i in range(count)]


def folder(root: Path, name: str, config: c.Config) -> Path:
    """Return the work directory of a seed's run: ROOT/NAME/seed_SEED."""
    return root / name / f"seed_{config.seed}"


def train(
    config: c.Config,
    workdir: Path,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    command: str | None = None,
) -> Outcome:
    """Train a run, continue it, or, if it is finished, read its result.

    A failed run (its data missing, its loss not finite) is tried again by the next call.
    """
    if is_finished(config, workdir):
        return Outcome(workdir, record.result(workdir), None)
    try:
        result = loop.train(config, workdir, arrays=arrays, console=Console(command=command))
    except UserError as error:
        return Outcome(workdir, None, str(error))
    finally:
        jax.clear_caches()  # the next run shares no compiled function with this one
    return Outcome(workdir, result, None)


def is_finished(config: c.Config, workdir: Path) -> bool:
    """Return whether `workdir` holds a finished run of exactly this config."""
    return record.result(workdir) is not None and files.restore(workdir / "config.json") == config
