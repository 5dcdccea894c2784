"""Find settings before a run, by trying out training's own steps.

  imgcls tune lr …       the learning rate, by a range test on a copy of the state
  imgcls tune batch …    the largest batch that fits into memory, and the fastest
  imgcls tune search …   any settings of a config, by many short trainings, of one process or of many
  imgcls tune grid …     learning rates and weight decays by seeds: many small networks in one program
  imgcls tune cv …       nothing, but the accuracy of all folds of a cross-validation, to choose by

Each has its own --help. docs/tuning.md says how to read what they print.

Examples:
  imgcls tune lr --config configs/digits_cnn.py
  imgcls tune batch --config configs/digits_cnn.py --largest 1024
"""

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import completion, flags
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError, did_you_mean, short

if TYPE_CHECKING:
    from imgcls_jax.tune.batch import Trial
    from imgcls_jax.tune.lr import Suggestion, Trace

_LR = """Find the learning rate: train at a rate that rises from step to step, until the loss diverges.

Starts at the initial state of a config, or at the latest checkpoint of the run in --workdir; either is copied, and the
run stays as it is. Prints a suggestion for `optim.schedule.peak` and writes OUT/lr.json, the trace, and OUT/lr.png.

Examples:
  imgcls tune lr --config configs/digits_cnn.py
  imgcls tune lr --workdir runs/digits_cnn --steps 100
"""
_BATCH = """Find the largest batch that fits into the memory of a device, and the fastest one.

Doubles the batch from 32 on, up to --largest and the size of the training set, and runs and times real training steps.
Where the batch of the config does not fit, suggests an `optim.accumulate` that keeps it. Writes OUT/batch.json.

Example:
  imgcls tune batch --config configs/digits_cnn.py --largest 1024
"""
_CV = """Cross-validate: train a config once for each fold of its training images, and report the mean accuracy.

Each fold is held out once for validation, in place of data.validation_share; groups (data.group_pattern, Table.group)
are never divided. The accuracy of a fold is that of its last epoch. The same command goes on where it stopped.

Example:
  imgcls tune cv --config configs/digits_cnn.py --folds 5
"""
_SEARCH = """Search for the best settings of a config: train trials, each in DIR/trial-NNN, and learn from those before.

Each --space says how a setting varies: uniform(LOW,HIGH), log(LOW,HIGH) for what is compared by factors, int(LOW,HIGH),
logint(LOW,HIGH), or choice(A,B,…). Any number of the same command, on any machines that share DIR, work together; each
goes on where a killed one left off, and started again it goes on itself. Writes DIR/search.md, trials.csv, search.png
and best.py, the config of the best trial.

Example:
  imgcls tune search --config configs/digits_cnn.py --epochs 5 --trials 20 --workdir runs/search \\
    --space 'optim.schedule.peak=log(1e-4,1e-1)' --space 'batch_size=choice(32,64)'
"""
_GRID = """Train a small network at several learning rates and with several seeds, all of them in one program.

Each --space names a setting and its values: PATH=A,B,…, or a range, log(LOW,HIGH) or uniform(LOW,HIGH), of --points
values. Settings of optim.schedule and weight_decay of the optimizer can vary; others are for `imgcls tune search`.
Every network ends as a run of its own would, up to rounding. Writes DIR/grid.json and grid.csv; keeps no parameters.

Example:
  imgcls tune grid --config configs/digits_cnn.py --seeds 2 --space 'optim.schedule.peak=1e-3,3e-3,1e-2'
"""
# Settings that the state of a run depends on, so that they stay as they are when it is continued.
_OF_THE_STATE = ("model.", "optim.", "transfer.", "precision", "seed")


def main(arguments: Sequence[str] | None = None) -> None:
    commands = {"lr": learning_rate, "batch": batch, "search": search, "grid": grid, "cv": cross_validate}
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if "_ARGCOMPLETE" in os.environ:
        name = completion.complete_command(commands)
    if name in ("-h", "--help"):
        flags.parser(__doc__, config=False).print_help()
    elif name in commands:
        with flags.called(f"{flags.program()} {name}"):
            commands[name](rest)
    else:
        found = f"not {short(name)}{did_you_mean(name, commands)}" if name else "and nothing was given"
        raise UserError(
            f"say first what to tune, lr, batch, search, grid or cv, {found} (see {flags.program()} --help)"
        )


def learning_rate(arguments: Sequence[str] | None = None) -> None:
    """Run `imgcls tune lr`."""
    parser = flags.parser(_LR)
    parser.add_argument("--workdir", type=Path, help="start from the latest checkpoint of this run, with its config")
    parser.add_argument("--out", type=Path, default=Path("tune"), help="folder of lr.json and lr.png (default: tune)")
    positive = flags.number(0, exclusive=True)
    parser.add_argument("--lowest", type=positive, default=1e-6, help="rate of the first step (default: 1e-6)")
    parser.add_argument("--highest", type=positive, default=10.0, help="rate of the last step (default: 10)")
    parser.add_argument("--steps", type=flags.whole(1, 1_000_000), default=200, help="number of steps (default: 200)")
    options = parser.parse_args(arguments)
    subject = flags.subject_of(options, needs_weights=False)
    changed = [item for item in options.overrides if item.startswith(_OF_THE_STATE)] if subject.run else []
    if changed:
        raise UserError(
            f"--config.{changed[0]} cannot change what the checkpoint in {subject.run} was made with: leave it out, or "
            "give --config FILE.py in place of --workdir"
        )

    from imgcls_jax.display.console import Console
    from imgcls_jax.record.json_files import write_json
    from imgcls_jax.tune import lr
    from imgcls_jax.xla import runtime

    runtime.setup()
    outputs.make_folder(options.out)
    console, config = Console(), subject.config
    with console.wait("learning-rate range test") as wait:
        trace = lr.find(
            config,
            workdir=subject.run,
            lowest=options.lowest,
            highest=options.highest,
            steps=options.steps,
            on_progress=wait.on_progress,
            tell=lambda note: console.line(f"note: {note}"),
        )
    if not trace.rate:
        raise UserError(f"the very first loss, at the rate {options.lowest:g}, is not finite: lower --lowest")
    suggestion, peak = lr.suggest(trace), config.optim.schedule.peak
    document = dataclasses.asdict(trace) | {"suggestion": suggestion and dataclasses.asdict(suggestion), "peak": peak}
    write_json(options.out / "lr.json", document)
    lr.plot(trace, suggestion, peak, options.out / "lr.png", title=f"{config.name}: learning-rate range test")
    console.table("learning-rate range test", _lr_rows(trace, suggestion, peak, options.out))
    if subject.run and (subject.run / "result.json").exists():
        console.line(
            f"note: the run in {subject.run} is finished: the rate is one to train on from its last state with, as by "
            f"transfer.init_from; for a new run, give --config FILE.py in place of --workdir"
        )
    if suggestion:
        console.command("to use it", f"--config.optim.schedule.peak={suggestion.recommended:.1e}")


def _lr_rows(trace: "Trace", suggestion: "Suggestion | None", peak: float, out: Path) -> dict[str, str]:
    rows = {
        "steps": f"{len(trace.rate)}, learning rates {trace.rate[0]:.1e} to {trace.rate[-1]:.1e}",
        "ended": "the loss diverged" if trace.diverged else "at the highest rate, without divergence",
    }
    if suggestion:
        rows |= {
            "steepest descent": f"{suggestion.steepest:.2e}",
            "tenth of the minimum": f"{suggestion.tenth_of_minimum:.2e} (minimum at {suggestion.minimum:.2e})",
            "recommended": f"{suggestion.recommended:.1e}: {suggestion.reason}",
        }
    else:
        rows["recommended"] = "nothing: the loss never fell below its start; lower --lowest, or look at the plot"
    return rows | {"peak in the config": f"{peak:.2e}", "files": f"{out}/: lr.json, lr.png"}


def batch(arguments: Sequence[str] | None = None) -> None:
    """Run `imgcls tune batch`."""
    parser = flags.parser(_BATCH)
    parser.add_argument("--largest", type=flags.whole(1), help="largest batch to try (default: the training set)")
    parser.add_argument(
        "--seconds", type=flags.number(0), default=300.0, help="begin no larger batch after this (default: 300)"
    )
    parser.add_argument("--out", type=Path, default=Path("tune"), help="folder of batch.json (default: tune)")
    options = parser.parse_args(arguments)
    config = flags.config_of(options)

    from imgcls_jax.display.console import Console, size
    from imgcls_jax.record.json_files import write_json
    from imgcls_jax.tune import batch as sizes
    from imgcls_jax.xla import runtime

    runtime.setup()
    outputs.make_folder(options.out)
    console = Console()
    with console.wait("trying batch sizes") as wait:
        tried: list[Trial] = []

        def report(trial: "Trial") -> None:
            tried.append(trial)
            wait.on_progress(f"batch size {_batch_name(trial)}: {trial.verdict}", len(tried), None)

        found = sizes.find(config, largest=options.largest, seconds=options.seconds, report=report)
    write_json(options.out / "batch.json", dataclasses.asdict(found))
    rows = {_batch_name(trial): _batch_row(trial) for trial in found.trials}
    rows["memory of a device"] = size(found.limit)
    if found.largest and found.fastest:
        rows["largest that fits"] = f"{found.largest.batch_size} (no larger one was tried: {found.stopped})"
        rows["fastest"] = f"{found.fastest.batch_size}: {found.fastest.images_per_second:,.0f} images per second"
    console.table("batch size", rows | {"advice": "; ".join(found.advice), "file": f"{options.out}/batch.json"})


def cross_validate(arguments: Sequence[str] | None = None) -> None:
    """Run `imgcls tune cv`."""
    parser = flags.parser(_CV)
    parser.add_argument("--folds", type=flags.whole(2, 1000), default=5, help="number of folds (default: 5)")
    parser.add_argument("--workdir", type=Path, help="folder of all runs (default: runs/cv_NAME of the config)")
    options = parser.parse_args(arguments)
    config = flags.config_of(options)

    from imgcls_jax.display.console import Console
    from imgcls_jax.tune import cv
    from imgcls_jax.xla import runtime

    runtime.setup()
    workdir = options.workdir or Path("runs") / f"cv_{config.name}"
    cv.cross_validate(config, workdir, folds=options.folds, command=flags.typed(arguments))
    console = Console()
    console.line("")
    console.line((workdir / "cv.md").read_text(encoding="utf-8"))


def search(arguments: Sequence[str] | None = None) -> None:
    """Run `imgcls tune search`."""
    parser = flags.parser(_SEARCH)
    parser.add_argument("--space", action="append", default=[], metavar="KEY=KIND(…)", help="a setting that varies")
    parser.add_argument("--trials", type=flags.whole(1, 1_000_000), default=20, help="trials in all (default: 20)")
    parser.add_argument("--epochs", type=flags.whole(1, 1_000_000), help="of a trial (default: as the config says)")
    parser.add_argument("--metric", help='"top1", "loss" or another one of the config (default: its best.metric)')
    parser.add_argument("--storage", help="a file, or postgresql://USER@HOST/DATABASE (default: DIR/study.journal)")
    parser.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="how values are drawn (default: tpe)"
    )
    parser.add_argument(
        "--pruner",
        choices=("median", "hyperband", "none"),
        default="median",
        help="which trials end early: those below the median, by Hyperband, or none (default: median)",
    )
    parser.add_argument("--seed", type=flags.whole(0, 2**32 - 1), help="of the sampler (default: the config's)")
    parser.add_argument(
        "--here", type=flags.whole(1), help="trials of this process, which then waits for no other (default: no limit)"
    )
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="folder of the search (default: runs/search_NAME)")
    options = parser.parse_args(arguments)
    if options.epochs is not None:
        options.overrides.append(f"epochs={options.epochs}")
    config = flags.config_of(options)

    from imgcls_jax.tune.search import spaces

    space = spaces.parse(options.space, config)

    from imgcls_jax.display.console import Console
    from imgcls_jax.tune.search.search import search as work
    from imgcls_jax.xla import runtime

    runtime.setup()
    console, workdir = Console(), options.workdir or Path("runs") / f"search_{config.name}"
    outcome = work(
        config,
        space,
        workdir,
        trials=options.trials,
        metric=options.metric,
        storage=options.storage,
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        here=options.here,
        tell=console.line,
    )
    console.line("")
    console.line(outcome.text)
    if (workdir / "best.py").exists():
        console.command("to use the best settings", f"imgcls train --config {workdir / 'best.py'}")
    elif outcome.settings:
        changed = " ".join(shlex.quote(f"--config.{path}={value}") for path, value in outcome.settings.items())
        console.command("to use the best settings", f"imgcls train --config {options.config} {changed}")


def grid(arguments: Sequence[str] | None = None) -> None:
    """Run `imgcls tune grid`."""
    parser = flags.parser(_GRID)
    parser.add_argument("--space", action="append", default=[], metavar="PATH=A,B,…", help="a setting that varies")
    parser.add_argument("--points", type=flags.whole(2, 1000), help="values of a range, ends included (default: 5)")
    parser.add_argument(
        "--seeds", default="1", help="their number, from the config's seed on, or a list, as in 0,1,5 (default: 1)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the files (default: runs/grid_NAME)")
    options = parser.parse_args(arguments)
    config = flags.config_of(options)

    from imgcls_jax.tune.grid import cells

    axes, seeds = cells.axes(options.space, config, options.points), cells.seeds(options.seeds, config.seed)
    if not axes and len(seeds) == 1:
        raise UserError("nothing varies: give --space 'optim.schedule.peak=1e-3,1e-2', say, or --seeds 4")

    from imgcls_jax.display.console import Console
    from imgcls_jax.tune.grid import grid as together
    from imgcls_jax.xla import runtime

    runtime.setup()
    console, folder = Console(), options.out or Path("runs") / f"grid_{config.name}"
    document = together.train(config, axes, seeds, folder, tell=console.line, waiting=console.wait)
    networks = len(document["cells"]) * len(seeds)
    title = f"{networks} networks in one program, {document['images_per_second']:,.0f} images per second in all"
    console.section(title, together.table(document, config))
    console.line(f"files: {folder}/: grid.json, grid.csv")
    if document["best"] is not None:
        values = document["cells"][document["best"]]["values"]
        changed = [*options.overrides, *(f"{path}={value}" for path, value in values.items())]
        settings = " ".join(shlex.quote(f"--config.{item}") for item in changed)
        console.command("to train the best setting", f"imgcls train --config {options.config} {settings}".strip())


def _batch_name(trial: "Trial") -> str:
    return f"{trial.batch_size}" if trial.accumulate == 1 else f"{trial.batch_size} in {trial.accumulate} parts"


def _batch_row(trial: "Trial") -> str:
    from imgcls_jax.display.console import size

    memory = "" if trial.memory is None else f"{size(trial.memory)}, "
    return f"{memory}{trial.images_per_second:,.0f} images per second" if trial.fits else f"{memory}{trial.verdict}"
