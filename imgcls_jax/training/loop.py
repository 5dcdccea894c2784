"""The training loop, from a config to a work directory; the only one, to be read from top to bottom."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import processes
from imgcls_jax.record import strict
from imgcls_jax.record.documents import SCHEMA, Result
from imgcls_jax.record.json_files import write_json
from imgcls_jax.record.workdir import claimed, record_environment
from imgcls_jax.report import curves
from imgcls_jax.training import checkup, closing, evaluators, head_only, interruption, memory, sound
from imgcls_jax.training.callbacks import standard
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.finite import check_result
from imgcls_jax.training.run import Rewind, Run
from imgcls_jax.training.validate import validate, validate_data


def train(
    config: c.Config,
    workdir: str | Path | None = None,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    callbacks: Sequence[Callback] = (),
    overwrite: bool = False,
    console: Console | None = None,
) -> Result:
    """Train the classifier that a config describes, record it in a work directory, and test the best checkpoint.

    A work directory that holds an unfinished run of the same config is continued exactly: parameters and history end
    bit-identical to those of a run that was never interrupted.

        >>> import imgcls_jax as ic
        >>> config = ic.load_config("configs/digits_cnn.py", epochs=1, **{"optim.schedule.warmup_epochs": 0})
        >>> result = ic.train(config, "runs/digits")
        >>> result["test"]["top1"] > 0.5
        True

    Args:
      config: the experiment.
      workdir: the folder of the run, made if it does not exist; None: runs/NAME of the config.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      callbacks: what watches the run, or stops it, besides `config.callbacks`.
      overwrite: start afresh in a used work directory, after moving the old one aside.
      console: what shows the run; None: the terminal. `Console(silent=True)` shows nothing.

    Returns:
      What is written to result.json. Accuracies are in [0, 1].

    Raises:
      UserError: something in the config, the data or the work directory is wrong.
      NotFinite: loss or parameters are NaN or infinite; the checkpoints before that are kept.
      Interrupted: a signal came, such as Ctrl-C, or a callback called `run.interrupt`; the run is saved.
    """
    workdir = Path("runs") / config.name if workdir is None else Path(workdir)
    console = console or Console()
    with interruption.handled() as signals, contextlib.ExitStack() as held:
        signals.importing = False
        mesh = meshes.make(config.mesh)
        validate(config, mesh.size)
        notes: list[str] = []
        processes.first(lambda: notes.extend(held.enter_context(claimed(workdir, config, overwrite=overwrite))))

        with console.display.wait("reading the data") as wait:
            record = workdir if jax.process_index() == 0 else None
            dataset = data.load(config.data, record, arrays=arrays, on_progress=wait.on_progress)
        processes.check_same("data", dataset.split_hash)
        validate_data(config, dataset)
        experiment = Experiment(config, dataset, mesh, evaluated=evaluators.load_splits(config, dataset, arrays=arrays))
        with console.display.wait("preparing the network") as wait:
            head_only.prepare(experiment, wait.on_progress)
        if jax.process_index() == 0:
            experiment.notes += notes + record_environment(workdir, mesh, dataset.split_hash, console.command)
        checkup.before_training(experiment, workdir)
        own = [*(settings.build() for settings in config.callbacks), *callbacks]

        watching = standard.around(own, experiment, console)
        running = Run(experiment, workdir, watching, command=console.command, waiting=console.display.wait)
        with memory.explained(experiment), running as run:
            head_only.check(experiment, run.state)
            with signals.interrupting(run):
                while not run.is_finished:
                    try:
                        run.enter_epoch()
                        train_epoch(run)
                        if run.is_ending:
                            run.end_epoch()
                    except Rewind as problem:
                        run.rewind(str(problem))
                    if run.interrupted:
                        run.save_and_stop()
            if run.progress.stopped:
                run.tell(run.progress.stopped)
            with run.waiting("testing the best epoch"):
                run.result = result = _test(run)
            if jax.process_index() == 0:
                write_json(workdir / "result.json", strict.encode(result))
                best = result["best_epoch"] if result["validation"] else None
                curves.plot(result["history"], workdir / "curves.png", title=config.name, best=best)
                with run.waiting("drawing the mistakes"):
                    closing.write(run)
        check_result(result)
    return result


def train_epoch(run: Run) -> None:
    """Train until the epoch under way ends, or the run is stopped or interrupted."""
    if run.progress.step_in_epoch < run.last_step_in_epoch:  # else only its evaluation was given up
        for state, metrics, done in run.dispatches():
            run.state, run.progress.step_in_epoch = state, done
            run.dispatched(metrics)
            if run.is_ending or run.interrupted:
                break
    run.drain()


def _test(run: Run) -> Result:
    """Evaluate the best checkpoint, once."""
    run.checkpoints.wait()
    history, experiment = run.progress.history, run.experiment
    tested, others = None, {}
    state, best = sound.best_state(experiment, run.checkpoints, run.progress, run.tell)
    if experiment.test or experiment.evaluators or run.config.logging.predictions:
        variables = experiment.evaluation_variables(state, best)
        tested = closing.test(run, variables)
        others = {name: evaluate(variables) for name, evaluate in experiment.evaluators.items()}
    return {
        "schema": SCHEMA,
        "workdir": str(run.workdir),
        "validation": history[best]["validation"],
        "test": tested,
        "evaluators": others,
        "epochs": len(history),
        "best_epoch": best,
        "seconds": history[-1]["seconds"],
        "stopped": run.progress.stopped,
        "history": history,
    }
