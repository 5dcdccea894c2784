"""Train a grid's settings and seeds together, and write what they came to.

grid.json    every member's best epoch, mean and spread of each setting, the throughput
grid.csv     a row per member
"""

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.disk import outputs
from imgcls_jax.display import tables
from imgcls_jax.display.console import size
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import metrics
from imgcls_jax.optim import schedules
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record import strict
from imgcls_jax.record.documents import SCHEMA, EpochRecord
from imgcls_jax.record.json_files import write_json
from imgcls_jax.training import best, memory
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.validate import validate_data
from imgcls_jax.tune.ablation import statistics
from imgcls_jax.tune.grid import cells
from imgcls_jax.tune.grid.cells import Axes, Cell
from imgcls_jax.tune.grid.members import Members

# A table with a column for each seed is no wider than a screen up to this many.
_SEED_COLUMNS = 6


@dataclasses.dataclass
class Member:
    """A network of the grid, and what has become of it."""

    cell: Cell
    config: c.Config
    """The cell's, with the member's seed."""
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    best: int | None = None
    """The best epoch so far, counted from 0, by the rule of a run."""
    ended: str | None = None
    """Why it counts no further epochs: it diverged, or `early_stopping` would have stopped a run."""
    diverged: bool = False

    @property
    def value(self) -> float | None:
        """The metric of the best epoch; None where a run would have failed."""
        if self.diverged or self.best is None:
            return None
        value = best.figure(self.history[self.best], self.config.best.metric)
        return value if math.isfinite(value) else None

    def document(self) -> dict[str, Any]:
        """Return what grid.json says of it."""
        there = self.value is not None
        return {
            "seed": self.config.seed,
            "ended": self.ended,
            "epochs": len(self.history),
            "best_epoch": self.best if there else None,
            "validation": self.history[self.best]["validation"] if there and self.best is not None else None,
        }


def train(
    config: c.Config,
    axes: Axes,
    seeds: Sequence[int],
    folder: Path,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    waiting: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> dict[str, Any]:
    """Train every combination of values with every seed in one program on one device, and write grid.json and grid.csv.

    Each member is trained and evaluated as a run of its own config would be, and its figures are those of its best
    epoch by `config.best`. Nothing of it is saved but these.

    Args:
      config: what all have in common; its seed and mesh do not count.
      axes: the values of each setting that varies, of `cells.axes`.
      seeds: of every combination.
      folder: where the files go.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      tell: what shows a sentence to the user.
      waiting: shows, within it, that something takes its time.

    Returns:
      What is written to grid.json.

    Raises:
      UserError: something in the config or the data is wrong, or cannot be done in one program.
      OutOfMemory: so many networks do not fit into the device's memory.
    """
    if jax.process_count() > 1:
        raise UserError("imgcls tune grid runs in one process, on one device: start it once, without --num-processes")
    config = dataclasses.replace(config, mesh=c.Mesh(devices=1), log_every_steps=None)
    found = cells.cells(config, axes, seeds)
    members = [Member(cell, dataclasses.replace(cell.config, seed=seed)) for cell in found for seed in seeds]
    outputs.make_folder(folder)
    with waiting("reading the data"):
        dataset = data.load(config.data, arrays=arrays)
    validate_data(config, dataset)
    if dataset.validation is None:
        raise UserError("imgcls tune grid compares by validation images: set data.validation_share")
    experiment = Experiment(members[0].config, dataset, meshes.make(config.mesh))
    if not experiment.resident:
        raise UserError(
            f"imgcls tune grid keeps all images on the device, and these {size(sum(s.nbytes for s in dataset.splits))} "
            "are streamed: set data.feed to auto and take smaller canvases, or use `imgcls tune search`"
        )
    for note in experiment.notes:
        tell(f"note: {note}")
    started = time.perf_counter()
    per_second = _train(experiment, members, tell, waiting)
    document = _document(config, found, members, seeds) | {
        "images_per_second": per_second,
        "seconds": time.perf_counter() - started,
        "device": experiment.mesh.devices.flat[0].device_kind,
    }
    write_json(folder / "grid.json", strict.encode(document))
    _write_table(folder / "grid.csv", members, axes, config)
    return document


def _train(
    experiment: Experiment,
    members: list[Member],
    tell: Callable[[str], None],
    waiting: Callable[[str], contextlib.AbstractContextManager[Any]],
) -> float:
    """Train all epochs; return the images of all members together per second of training, compiling left out."""
    config, program = experiment.config, Members(experiment, [member.config for member in members])
    per_epoch = experiment.steps_per_epoch
    limit = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    states, trained, seconds = program.initial_states(), 0, 0.0
    compiled: jax.stages.Compiled | None = None
    for epoch in range(-(-limit // per_epoch)):
        last = min(per_epoch, limit - epoch * per_epoch)
        with memory.explained_by(lambda _: _explanation(len(members))):
            if compiled is None or experiment.phase_changes(epoch):
                with waiting("compiling"):
                    states, compiled = program.enter_phase(states, epoch, previous=max(epoch - 1, 0))
                _check_memory(experiment, compiled, len(members))
            states = states.replace(lr_factor=jnp.asarray([_factor(member) for member in members], jnp.float32))
            begun = time.perf_counter()
            states, finite = program.train(compiled, states, epoch, last)
            seconds += time.perf_counter() - begun
            trained += len(members) * last * config.batch_size
            states = program.end_epoch(states, epoch)
            validation = program.validate(states, epoch)
        _record(members, epoch, epoch * per_epoch + last, _train_figures(states, len(members)), validation, finite)
        states = states.replace(metrics=jax.tree.map(jnp.zeros_like, states.metrics))
        tell(_line(members, epoch, config, trained / seconds))
        if all(member.ended for member in members):
            break
    return trained / seconds


def _train_figures(states: TrainState, members: int) -> list[dict[str, float]]:
    host = jax.device_get(states.metrics)
    return [jax.tree.map(lambda x, i=i: x[i], host).result() for i in range(members)]


def _factor(member: Member) -> float:
    """The factor of an adaptive schedule on the member's next rates, as `AdaptiveRate` gives it to a run."""
    config = member.config
    schedule = schedules.fit(config.optim.schedule, config.epochs)
    directions = metrics.directions(config.metrics)
    return schedule.shape.adapt(member.history, schedule=schedule, higher_is_better=directions)


def _record(
    members: Sequence[Member],
    epoch: int,
    step: int,
    train: Sequence[dict[str, float]],
    validation: Sequence[dict[str, float]],
    finite: np.ndarray,
) -> None:
    """Add an epoch to the history of each member that goes on."""
    for member, trained, figures, is_finite in zip(members, train, validation, finite, strict=True):
        if member.ended:
            continue
        record: Any = {"schema": SCHEMA, "kind": "epoch", "epoch": epoch, "step": step, "train": trained}
        member.history.append(record | {"validation": figures, "evaluators": {}})
        if not is_finite:
            member.diverged, member.ended = True, f"diverged in epoch {epoch + 1}"
            continue
        member.best = best.better(member.history, member.best, member.config)
        if best.out_of_patience(member.history, member.config):
            member.ended = f"early_stopping after epoch {epoch + 1}"


def _explanation(count: int) -> str:
    return (
        f"the device ran out of memory with {count} networks at once: give fewer values or seeds (half as many, "
        "say), or a smaller batch_size"
    )


def _check_memory(experiment: Experiment, compiled: jax.stages.Compiled, count: int) -> None:
    """Refuse more networks than the device's memory holds, by the compiled program, before the first step."""
    need = memory.step_memory(experiment, compiled)
    images = sum(split.nbytes for split in experiment.dataset.splits)
    if need is not None and (reason := _too_many(count, need, memory.memory_limit(experiment.mesh), images)):
        raise memory.OutOfMemory(reason)


def _too_many(count: int, need: int, limit: int, images: int) -> str | None:
    """Say how many networks fit where `count` do not; the images are there once, all else grows with the networks."""
    if need <= limit:
        return None
    fit = max(int((limit - images) / ((need - images) / count)), 0)
    advice = f"about {fit} fit, give fewer values or seeds" if fit else "not one fits, take a smaller batch_size"
    return f"{count} networks at once take {size(need)} of {size(limit)}: {advice}"


# ---- what is shown and written --------------------------------------------------------------------------------------


def _line(members: Sequence[Member], epoch: int, config: c.Config, per_second: float) -> str:
    values = [member.value for member in members if member.value is not None]
    pick = max if _is_maximized(config) else min
    metric = config.best.metric
    reached = f"best {metric} so far {_spread([pick(values)], metric)}" if values else "all have diverged"
    return f"epoch {epoch + 1}/{config.epochs}  {reached}  {per_second:,.0f} images per second"


def _is_maximized(config: c.Config) -> bool:
    return metrics.directions(config.metrics)[config.best.metric]


def _document(
    config: c.Config, found: Sequence[Cell], members: Sequence[Member], seeds: Sequence[int]
) -> dict[str, Any]:
    rows, ranks = [], []
    for cell in found:
        own = [member for member in members if member.cell is cell]
        values = [member.value for member in own if member.value is not None]
        estimate = statistics.estimate(values)
        none = {"mean": None, "std": None, "interval_95": None, "seeds": 0}
        rows.append(
            {"values": cell.values}
            | (estimate.document() if estimate else none)
            | {"members": [member.document() for member in own]}
        )
        if estimate:
            # A setting that diverged under one seed is no good choice, however good it is under the others.
            ranks.append((len(values), estimate.mean if _is_maximized(config) else -estimate.mean, 1 - len(rows)))
    return {
        "schema": SCHEMA,
        "config": config.name,
        "metric": config.best.metric,
        "epochs": config.epochs,
        "seeds": list(seeds),
        "cells": rows,
        "best": -max(ranks)[2] if ranks else None,
    }


def _write_table(path: Path, members: Sequence[Member], axes: Axes, config: c.Config) -> None:
    names = [dimension.path for dimension in axes]
    figures = next((list(record["validation"] or {}) for member in members for record in member.history), [])
    rows = []
    for member in members:
        document = member.document()
        shown = document["validation"] or {}
        rows.append([
            *(member.cell.values[name] for name in names),
            member.config.seed,
            member.ended or "finished",
            "" if document["best_epoch"] is None else document["best_epoch"],
            *(shown.get(name, "") for name in figures),
        ])  # fmt: skip
    outputs.write_csv(path, [*names, "seed", "state", "best_epoch", *figures], rows)


def table(document: Mapping[str, Any], config: c.Config) -> str:
    """Return grid.json as an aligned table: a row per setting, its metric by seed, mean and spread, the best one
    marked."""
    metric, found = document["metric"], document["cells"]
    paths = list(found[0]["values"])
    seeds = document["seeds"] if len(document["seeds"]) <= _SEED_COLUMNS else []
    also = "top1" if metric != "top1" and config.loss.task == "classes" else None
    header = [*paths, *(f"seed {seed}" for seed in seeds), f"mean {metric}", *([f"mean {also}"] if also else []), ""]
    rows = []
    for i, cell in enumerate(found):
        by_seed = {member["seed"]: member["validation"] for member in cell["members"]}
        sets = [(metric, [by_seed[seed]]) for seed in seeds]
        sets += [(name, list(by_seed.values())) for name in (metric, also) if name]
        parts = [_spread([figures[name] for figures in some if figures], name) for name, some in sets]
        rows.append([*map(str, cell["values"].values()), *parts, "best" * (i == document["best"])])
    return tables.plain(header, rows, right=range(len(paths), len(header) - 1))


def _spread(values: Sequence[float], metric: str) -> str:
    """Write the mean of a metric, of several values with their standard deviation."""
    estimate = statistics.estimate(values)
    if estimate is None:
        return "diverged"
    scale, unit, digits = (100, " %", 2) if re.fullmatch(r"top\d+", metric) else (1, "", 4)
    spread = "" if estimate.std is None else f" ± {scale * estimate.std:.{digits}f}"
    return f"{scale * estimate.mean:.{digits}f}{spread}{unit}"
