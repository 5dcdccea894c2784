"""The training loop, from a config to a work directory; the only one, to be read from top to bottom."""

import collections
import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax import mesh as meshes
from imgcls_jax.checkpoint import Checkpoints
from imgcls_jax.config import files
from imgcls_jax.console import Console, Speed
from imgcls_jax.errors import UserError
from imgcls_jax.metrics import Metrics
from imgcls_jax.report import curves, summary
from imgcls_jax.run import Run
from imgcls_jax.runtime import Runtime
from imgcls_jax.state import TrainState
from imgcls_jax.validate import validate, validate_data
from imgcls_jax.workdir import claim, record_environment, write_json
from imgcls_jax.writers import Record, Writers

# Dispatches that a GPU or TPU may have under way before the host waits for the oldest; bounds the memory of streamed
# batches.
_IN_FLIGHT = 2


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C after saving; the same call continues it."""


def train_and_evaluate(
    config: c.Config,
    workdir: str | Path,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = False,
    command: str | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Train the classifier that `config` describes, keep the record in `workdir`, and test the best checkpoint.

    A work directory that holds an unfinished run of the same config is continued exactly: parameters and history end
    bit-identical to those of a run that was never interrupted.

    Args:
      config: the experiment.
      workdir: folder of the run; made if it does not exist.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      overwrite: start afresh in a used work directory, after moving the old one aside.
      command: how the user continues the run, to be printed.
      runtime: what `runtime.setup` decided, to be printed.

    Returns:
      What is written to result.json: {"validation": {…} or None, "test": {"top1", "top5", "loss", "count"} or None,
      "epochs": epochs trained, "best_epoch": counted from 0, "seconds": time spent training}. Accuracies are in [0, 1].

    Raises:
      UserError: something in the config, the data or the work directory is wrong.
      Interrupted: Ctrl-C was pressed once.
    """
    workdir = Path(workdir)
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    console = Console(silent=jax.process_index() > 0)
    if jax.process_index() == 0:
        claim(workdir, config, overwrite=overwrite)
        record_environment(workdir, list(mesh.devices.flat), command)

    console.line("reading the data …")
    dataset = data.load(config.data, workdir, arrays=arrays)
    validate_data(config, dataset)

    run = Run(config, dataset, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints")
    resumed = checkpoints.latest() is not None
    saved = resume_point(checkpoints)
    epoch, first_step, recoveries = saved["epoch"], saved["step"], saved["recoveries"]
    if epoch < config.epochs:
        run.compile_ahead(epoch)
    train_state, state_epoch = restore(run, checkpoints, saved)
    history: list[Record] = saved["history"]

    step = None
    if epoch < config.epochs:
        train_state, step = run.enter_phase(train_state, epoch, previous=state_epoch)
        state_epoch = epoch
    summary.start(console, run, train_state, step, workdir, runtime)
    if resumed:
        console.line(f"continuing at epoch {epoch + 1}, step {first_step + 1}")
    writers = Writers(workdir, config, files.to_tree(config), history) if jax.process_index() == 0 else None
    started = time.perf_counter() - saved["seconds"]

    def save(epoch: int, step_in_epoch: int) -> None:
        best = best_epoch(history, config.best.metric)
        document = {
            "epoch": epoch,
            "step": step_in_epoch,
            "history": history,
            "recoveries": recoveries,
            "best": None if best is None else (best + 1) * run.steps_per_epoch,
            "seconds": time.perf_counter() - started,
            "card": run.card(),
        }
        checkpoints.save(epoch * run.steps_per_epoch + step_in_epoch, train_state, document)

    def stop() -> NoReturn:
        checkpoints.wait()
        console.line(f"stopped and saved; continue with: {command or 'the same call'}")
        raise Interrupted

    with interruption(console) as interrupted:
        while epoch < config.epochs:
            if out_of_patience(history, config):
                console.line("the validation metric has not improved for long enough: stopping early")
                break
            if epoch > state_epoch and run.phase_changes(epoch):
                train_state, _ = run.enter_phase(train_state, epoch, previous=state_epoch)
            state_epoch = epoch

            # -- train
            rates = run.learning_rates(epoch, history, recoveries)
            speed = Speed(config.batch_size, first_step)
            saved_at = first_step
            try:
                for train_state, metrics, done in train_epoch(
                    run, train_state, epoch, first_step, rates, console, speed
                ):
                    due = config.save_every_steps is not None and done - saved_at >= config.save_every_steps
                    if done < run.steps_per_epoch and (due or interrupted()):
                        stop_if_not_finite(metrics, epoch, done, rates)
                        save(epoch, done)
                        saved_at = done
                        if interrupted():
                            stop()
            except NotFinite as error:
                if config.recover is None or recoveries == config.recover.times:
                    raise
                recoveries += 1
                checkpoints.wait()
                saved = resume_point(checkpoints)
                train_state, state_epoch = restore(run, checkpoints, saved)
                epoch, first_step, history = saved["epoch"], saved["step"], saved["history"]
                train_state = run.scale_rate(train_state, history, recoveries)
                console.line(
                    f"{error.fact}; going back to epoch {epoch + 1}, step {first_step + 1} with the learning rate "
                    f"times {config.recover.factor:g} (time {recoveries} of {config.recover.times})"
                )
                continue
            record: Record = {
                "epoch": epoch,
                "step": (epoch + 1) * run.steps_per_epoch,
                "learning_rate": rates[-1],
                "train": metrics.result(),
                "images_per_second": speed.images_per_second(run.steps_per_epoch),
                "waited_for_data": speed.share(run.training.waited),
            }

            # -- evaluate
            train_state = run.end_epoch(train_state, epoch)
            variables = run.evaluation_variables(train_state, epoch)
            record["validation"] = run.validate(variables) if run.validate else None
            record["seconds"] = time.perf_counter() - started
            if train_state.loss_scale is not None:
                record["loss_scale"] = float(train_state.loss_scale.scale)
                record["skipped_steps"] = int(train_state.loss_scale.skipped)
            history.append(record)
            train_state = run.next_epoch(train_state, history, recoveries)
            epoch, first_step = epoch + 1, 0

            # -- save, then tell
            save(epoch, 0)
            if writers:
                writers.write(record)
            console.line(summary.epoch(record, config.epochs))
            if interrupted():
                stop()

    # -- test the best checkpoint, once -----------------------------------------------------------------------------
    checkpoints.wait()
    best = best_epoch(history, config.best.metric)
    assert best is not None, "a config has at least one epoch"
    tested = None
    if run.test:
        best_state = checkpoints.state((best + 1) * run.steps_per_epoch, run.abstract_state(best))
        tested = run.test(run.evaluation_variables(best_state, best))
    result = {
        "validation": history[best]["validation"],
        "test": tested,
        "epochs": len(history),
        "best_epoch": best,
        "seconds": history[-1]["seconds"],
    }
    if jax.process_index() == 0:
        write_json(workdir / "result.json", result)
        curves.plot(history, workdir / "curves.png", title=config.name)
    if writers:
        writers.close()
    checkpoints.close()
    summary.finish(console, result, workdir, command)
    return result


def resume_point(checkpoints: Checkpoints) -> dict[str, Any]:
    """How far the run is: the newest checkpoint's document, or what it would be before the first step."""
    newest = checkpoints.latest()
    if newest is None:
        return {"epoch": 0, "step": 0, "history": [], "recoveries": 0, "seconds": 0.0}
    return checkpoints.run(newest)


def restore(run: Run, checkpoints: Checkpoints, saved: dict[str, Any]) -> tuple[TrainState, int]:
    """The state at the `resume_point` of a run, and the epoch that it belongs to."""
    newest = checkpoints.latest()
    if newest is None:
        return run.initial_state(), 0
    # At an epoch's end the state is still that epoch's; the next one may train other parameters.
    state_epoch = saved["epoch"] if saved["step"] else max(saved["epoch"] - 1, 0)
    return checkpoints.state(newest, run.abstract_state(state_epoch)), state_epoch


def train_epoch(
    run: Run,
    train_state: TrainState,
    epoch: int,
    first_step: int,
    rates: np.ndarray,
    console: Console,
    speed: Speed,
) -> Iterator[tuple[TrainState, Metrics, int]]:
    """Run an epoch from `first_step` on; after each dispatch yield the state, the metrics so far and the steps done.

    The host stays `_IN_FLIGHT` dispatches behind the device and looks at those older metrics only, so that the device
    never waits for it. A CPU it waits for at once: each step under way would have temporary memory of its own, and
    the host's part of a step is too small for a difference to be measured.
    """
    behind = 0 if jax.default_backend() == "cpu" else _IN_FLIGHT
    in_flight: collections.deque[tuple[int, Metrics]] = collections.deque()
    with console.progress(epoch, run.config.epochs, first_step, run.steps_per_epoch) as progress:
        for train_state, metrics, done in run.training.epoch(train_state, epoch, first_step):
            in_flight.append((done, metrics))
            while len(in_flight) > (behind if done < run.steps_per_epoch else 0):
                step, late = in_flight.popleft()
                stop_if_not_finite(late, epoch, step, rates)
                progress(step, functools.partial(summary.progress, run, late, epoch, step, rates, speed))
            yield train_state, metrics, done


def best_epoch(history: list[Record], metric: str) -> int | None:
    """The epoch (counted from 0) with the best validation metric, the first of equals; without validation, the last."""
    if not history:
        return None
    if history[-1]["validation"] is None:
        return len(history) - 1
    values = [_score(record, metric) for record in history]
    return values.index(max(values))


def out_of_patience(history: list[Record], config: c.Config) -> bool:
    """Whether the metric has not improved by more than `min_delta` for `patience` epochs."""
    stopping = config.early_stopping
    if stopping is None:
        return False
    reference, waited = -math.inf, 0
    for record in history:  # replayed from the record, so that it needs no state of its own
        score = _score(record, config.best.metric)
        reference, waited = (score, 0) if score > reference + stopping.min_delta else (reference, waited + 1)
    return waited >= stopping.patience


def _score(record: Record, metric: str) -> float:
    """The validation metric, turned so that higher is better."""
    value = record["validation"][metric]
    return -value if metric == "loss" else value


class NotFinite(UserError):
    """The loss is not a finite number."""

    def __init__(self, fact: str):
        self.fact = fact
        super().__init__(
            f"{fact}: lower optim.schedule.peak, lengthen its warm-up or set optim.clip; or set recover, which goes "
            f"back and on at a lower rate; the checkpoint of the last good epoch is kept"
        )


def stop_if_not_finite(metrics: Metrics, epoch: int, step: int, rates: np.ndarray) -> None:
    """Raise NotFinite where the epoch's loss is not a finite number; whatever comes after would be noise.

    Under fp16 an overflow only skips its step; there, an epoch without a single good step is the error.
    """
    total, count = float(metrics.loss.total), int(metrics.loss.count)
    if math.isfinite(total) and (count > 0 or step < len(rates)):
        return
    raise NotFinite(
        f"the loss is {'NaN or infinite' if count else 'infinite in every step'} in epoch {epoch + 1} by step {step}, "
        f"at learning rate {rates[step - 1]:.3g}"
    )


@contextlib.contextmanager
def interruption(console: Console) -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only sets what the given function returns; the second one stops at once."""
    pressed = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may handle signals
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        console.line("stopping after this step, and saving; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
