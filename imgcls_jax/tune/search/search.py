"""Work at a search: train trial after trial until all are finished, beside as many other workers as there are."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import metrics
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record.documents import EpochRecord, Result
from imgcls_jax.training import best, loop
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.finite import NotFinite
from imgcls_jax.training.interruption import Interrupted
from imgcls_jax.training.run import Run
from imgcls_jax.training.validate import validate
from imgcls_jax.tune.search import results, spaces
from imgcls_jax.tune.search.spaces import Dimension
from imgcls_jax.tune.search.study import Claim, Pruner, Sampler, SharedStudy, TrialState, open_study

_PRUNED = "pruned by the search"
# Seconds between two looks whether a trial of another worker has lost its process.
_POLL = 2.0
# Where so many trials have failed and none has not, the fault is not in the values.
_HOPELESS = 3


class Pruning(Callback):
    """Reports the metric of every epoch to the study, and stops the run where the pruner says so."""

    def __init__(self, claim: Claim, metric: str):
        self._trial, self._metric = claim.trial, metric

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        value, epoch = best.figure(record, self._metric), record["epoch"]
        if not math.isfinite(value):
            return  # the run ends by itself
        self._trial.report(value, epoch + 1)  # known already where the run was killed after this and goes on
        if epoch + 1 < run.config.epochs and self._trial.should_prune():
            run.stop(f"{_PRUNED}: {self._metric} {value:.4g} after {epoch + 1} epoch{'s' * (epoch > 0)}")


def search(
    config: c.Config,
    space: Sequence[Dimension],
    workdir: Path,
    *,
    trials: int,
    metric: str | None = None,
    storage: str | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    seed: int | None = None,
    here: int | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> results.Outcome:
    """Train trials until there are `trials` finished ones, or `here` in this process; write what was found.

    Called by several processes at once, on the same folder, they share the trials. Called again, it goes on where it
    stopped; a larger `trials` adds to what is there. The metric of a trial is that of its best epoch on the validation
    images.

    Args:
      config: what every trial begins with.
      space: what varies.
      workdir: the folder of the search, which all workers share; a trial's run is in WORKDIR/trial-NNN.
      trials: the number of trials, those of other workers included.
      metric: what is optimized, as in `Best.metric`, which it replaces; None: that one.
      storage, sampler, pruner: see `study.open_study`.
      seed: of the sampler; None: that of the config.
      here: the number of trials that this process finishes at most; None: no limit, and it waits for those of others.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      tell: what shows a sentence to the user.

    Raises:
      UserError: the config is impossible, the folder holds another search, or the first trials all failed.
      Interrupted: a signal came; the trial is saved, and the next worker goes on with it.
    """
    if metric is not None:
        config = dataclasses.replace(config, best=c.Best(metric))
    _check(config, space)
    shared = open_study(
        workdir,
        config,
        space,
        maximize=_is_maximized(config),
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        seed=config.seed if seed is None else seed,
    )
    finished, waits = 0, False
    while here is None or finished < here:
        claim = shared.claim(trials)
        if claim is not None:
            with claim:
                finished += _train(claim, config, arrays=arrays, tell=tell)
            _refuse_hopeless(shared)
            waits = False
            continue
        if here is not None or all(trial.state.is_finished() for trial in shared.trials()):
            break
        if not waits:
            tell("waiting for the trials of other workers")
        waits = True
        time.sleep(_POLL)
    with shared.alone():
        return results.write(shared, config)


def _check(config: c.Config, space: Sequence[Dimension]) -> None:
    """Refuse an impossible config, and limits and choices that are impossible in it, before anything is trained."""
    devices = meshes.make(config.mesh).size
    validate(config, devices)
    for dimension in space:
        for value in dimension.ends:
            try:
                validate(spaces.put(config, {dimension: value}), devices)
            except UserError as error:
                raise UserError(f"--space {dimension.path}: with {value} {error}") from error


def _is_maximized(config: c.Config) -> bool:
    return metrics.directions(config.metrics)[config.best.metric.rpartition("/")[2]]


def _train(
    claim: Claim, base: c.Config, *, arrays: Mapping[str, np.ndarray] | None, tell: Callable[[str], None]
) -> bool:
    """Train a trial; return whether it is finished, and not to be tried again."""
    metric, name = base.best.metric, claim.folder.name
    begun = time.monotonic()
    try:
        config = spaces.put(base, claim.values)
        tell(f"{name} begins: {', '.join(f'{d.path}={results.shown(value)}' for d, value in claim.values.items())}")
        result = loop.train(
            config,
            claim.folder,
            arrays=arrays,
            callbacks=[Pruning(claim, metric)],
            console=Console(silent=True),
        )
    except NotFinite as error:  # what the sampler is to learn from; a second time it would end alike
        claim.prune(str(error))
        tell(f"{name} diverged: {error}")
    except UserError as error:
        is_last = claim.fail(str(error))
        tell(f"{name} failed{'' if is_last else ', and is tried once more'}: {error}")
        return is_last
    except Interrupted:
        claim.interrupt()
        raise
    else:
        _record(claim, result, metric, tell, time.monotonic() - begun)
    finally:
        jax.clear_caches()  # the next trial shares no compiled function with this one
    return True


def _record(claim: Claim, result: Result, metric: str, tell: Callable[[str], None], seconds: float) -> None:
    name, stopped = claim.folder.name, result["stopped"] or ""
    if stopped.startswith(_PRUNED):
        claim.prune()
        tell(f"{name} {stopped}, {seconds:.0f} s")
        return
    value = best.figure(result["history"][result["best_epoch"]], metric)
    claim.complete(value)
    tell(f"{name} ends: {metric} {value:.4f}, {seconds:.0f} s")


def _refuse_hopeless(shared: SharedStudy) -> None:
    ended = [trial for trial in shared.trials() if trial.state.is_finished()]
    failed = [trial for trial in ended if trial.state == TrialState.FAIL]
    if len(failed) == len(ended) >= _HOPELESS:
        raise UserError(f"the first {len(failed)} trials failed, and none did not: {results.problem(failed[-1])}")
