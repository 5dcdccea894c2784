"""Learning-rate range test (Smith 2015, "Cyclical learning rates for training neural networks"; fastai's lr_find).

    python -m imgcls_jax.tune lr --config FILE.py[:VARIANT] [--out DIR] [--lowest R] [--highest R] [--steps N]
    python -m imgcls_jax.tune lr --workdir DIR …

Takes training's own steps (augmentation, loss, optimiser, the learning rates of groups) at a rate that rises
exponentially from step to step, until the loss diverges. It starts at the config's initial state, or at the latest
checkpoint of the run in --workdir; either is copied, and nothing of the run is written to. Prints a suggestion for
`optim.schedule.peak` and writes OUT/lr.json, the trace, and OUT/lr.png.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import checkpoint, data, flags, runtime
from imgcls_jax import config as c
from imgcls_jax import mesh as meshes
from imgcls_jax.config import files
from imgcls_jax.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.metrics import Metrics
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.run import Run
from imgcls_jax.state import TrainState
from imgcls_jax.train import restore, resume_point
from imgcls_jax.validate import validate, validate_data
from imgcls_jax.workdir import write_json

# Share of the old smoothed loss that stays at a step. It lags about 1 / (1 − 0.9) steps behind.
_SMOOTHING = 0.9
# The smoothed loss has diverged where it exceeds its minimum this many times; fastai's number.
_DIVERGENCE = 4.0
# The first steps' smoothed loss is the mean of so few batches that its minimum would be chance.
_SETTLING = 10
_FEWEST_STEPS = 3 * _SETTLING


@dataclass(frozen=True)
class Trace:
    """The steps of a range test until the loss diverged; four lists of one length, but for the last field."""

    rate: list[float]
    """Learning rate of each step, before the factors of parameter groups."""
    loss: list[float]
    """Mean training loss of each step's batch, before the step's update."""
    smoothed: list[float]
    """Its exponential moving average, corrected for the bias of its start at zero."""
    diverged: bool
    """Whether the test ended by divergence, rather than at the highest rate."""


@dataclass(frozen=True)
class Suggestion:
    """Learning rates read off a trace."""

    minimum: float
    """Rate at which the smoothed loss was least."""
    tenth_of_minimum: float
    steepest: float
    """Rate below `minimum` at which the smoothed loss fell fastest per factor of the rate."""
    recommended: float
    """One of the two before."""
    reason: str
    """Why that one."""


def find(
    config: c.Config,
    *,
    workdir: Path | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
) -> Trace:
    """Run the test from the initial state of `config`, or from the latest checkpoint of its run in `workdir`.

    Args:
      config: the experiment; its schedule does not matter here.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      lowest, highest: rates of the first and of the last step.
      steps: their number; the data are gone through as often as needed.

    Raises:
      UserError: something in the config, the data, the range or the work directory is wrong.
    """
    if not 0 < lowest < highest:
        raise UserError(f"the range test needs 0 < --lowest < --highest, not {lowest:g} and {highest:g}")
    if steps < _FEWEST_STEPS:
        raise UserError(f"--steps {steps} are too few to tell a trend from chance: take at least {_FEWEST_STEPS}")
    # Streaming dispatches one step at a time, so that each step's loss is seen; its batches are the same.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, feed="streamed"))
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    dataset = data.load(config.data, arrays=arrays)
    validate_data(config, dataset)
    run = Run(config, dataset, mesh, schedule=rising(lowest, highest, steps))
    if workdir is None:
        return range_test(run, run.initial_state())
    return range_test(run, *_latest(run, workdir))


def rising(lowest: float, highest: float, steps: int) -> LearningRate:
    """Rates that grow by the same factor at each step."""
    return LearningRate(np.geomspace(lowest, highest, steps).astype(np.float32), steps_per_entry=1)


def range_test(run: Run, train_state: TrainState, epoch: int = 0, previous: int = 0) -> Trace:
    """Train a copy of `train_state` at the rates of `run.schedule`, one step each, until the loss diverges.

    Args:
      run: fed one step a dispatch, with a `rising` schedule.
      train_state: a state of the epoch `previous`; it stays as it is.
      epoch: the epoch whose augmentation and trained parameters are tested.
    """
    train_state, _ = run.enter_phase(train_state, epoch, previous=previous)
    rates = [float(rate) for rate in run.schedule.table]
    trace = Trace([], [], [], diverged=False)
    total, count, average = 0.0, 0, 0.0
    for rate, metrics in zip(rates, _steps(run, _copy(train_state), epoch), strict=False):
        images = int(metrics.loss.count) - count  # metrics are sums since the start
        if not images:
            continue  # fp16 gradients overflowed: the step was skipped, and the loss scale lowered
        loss = (float(metrics.loss.total) - total) / images
        if not math.isfinite(loss):
            return dataclasses.replace(trace, diverged=True)
        total, count = float(metrics.loss.total), int(metrics.loss.count)
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        trace.rate.append(rate)
        trace.loss.append(loss)
        trace.smoothed.append(average / (1 - _SMOOTHING ** len(trace.loss)))
        if trace.smoothed[-1] > _DIVERGENCE * min(trace.smoothed[_SETTLING:], default=math.inf):
            return dataclasses.replace(trace, diverged=True)
    return trace


def _latest(run: Run, workdir: Path) -> tuple[TrainState, int, int]:
    """The state of the latest checkpoint, the epoch in which its training goes on, and the epoch of its layout."""
    with checkpoint.of_run(workdir) as (checkpoints, _):
        saved = resume_point(checkpoints)
        train_state, previous = restore(run, checkpoints, saved)
    return train_state, min(saved["epoch"], run.config.epochs - 1), previous


def _copy(train_state: TrainState) -> TrainState:
    """A copy in buffers of its own (a step donates its state), with the schedule and the metrics at their start."""

    def copy(train_state: TrainState) -> TrainState:
        return jax.tree.map(jnp.copy, train_state).replace(
            step=jnp.zeros((), jnp.int32), lr_factor=jnp.ones((), jnp.float32), metrics=Metrics.empty()
        )

    return jax.jit(copy, out_shardings=jax.tree.map(lambda x: x.sharding, train_state))(train_state)


def _steps(run: Run, train_state: TrainState, epoch: int) -> Iterator[Metrics]:
    """The metrics so far after each step, without end."""
    for number in itertools.count(epoch):
        for train_state, metrics, _ in run.training.epoch(train_state, number, 0):
            yield metrics


def suggest(trace: Trace) -> Suggestion | None:
    """What the trace says about the highest learning rate of a schedule; None where the loss never fell."""
    smoothed, rate = np.array(trace.smoothed), np.array(trace.rate)
    if len(rate) < _SETTLING + 2:
        return None
    lowest = _SETTLING + int(np.argmin(smoothed[_SETTLING:]))
    if lowest == _SETTLING:
        return None
    slope = np.gradient(smoothed, np.log(rate))
    steepest = float(rate[_SETTLING + int(np.argmin(slope[_SETTLING : lowest + 1]))])
    minimum = float(rate[lowest])
    if lowest == len(rate) - 1:
        recommended, reason = (
            steepest,
            "the steepest descent, for now: the loss still fell at the highest rate, so that its minimum is not known; "
            "raise --highest",
        )
    else:
        recommended, reason = (
            minimum / 10,
            "a tenth of the minimum: at the minimum itself training is about to diverge, and the steepest descent "
            "depends more on the chance of single batches",
        )
    return Suggestion(minimum, minimum / 10, steepest, recommended, reason)


def plot(trace: Trace, suggestion: Suggestion | None, peak: float, path: Path, *, title: str) -> None:
    """Write a PNG of the losses over the rate; `peak` is the config's own."""
    import matplotlib  # imported late: it takes half a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(trace.rate, trace.loss, ".", alpha=0.3, color="tab:blue", label="loss of a batch")
    axes.plot(trace.rate, trace.smoothed, color="tab:blue", label="smoothed")
    lines = {f"config's peak {peak:.2g}": (peak, "tab:grey", ":")}
    if suggestion:
        lines[f"steepest descent {suggestion.steepest:.2g}"] = (suggestion.steepest, "tab:orange", "--")
        tenth = suggestion.tenth_of_minimum
        lines[f"tenth of the minimum {tenth:.2g}"] = (tenth, "tab:green", "--")
    for label, (rate, color, style) in lines.items():
        axes.axvline(rate, color=color, linestyle=style, label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    # The end of a divergence would squeeze the part that matters.
    low, high = min(trace.smoothed), min(max(trace.smoothed), 1.5 * max(trace.smoothed[:_SETTLING]))
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="start from this run's latest checkpoint; brings its own config")
    parser.add_argument("--out", type=Path, default=Path("tune"), help="folder of lr.json and lr.png (default: tune)")
    parser.add_argument("--lowest", type=float, default=1e-6, help="rate of the first step (default: 1e-6)")
    parser.add_argument("--highest", type=float, default=10.0, help="rate of the last step (default: 10)")
    parser.add_argument("--steps", type=int, default=200, help="number of steps (default: 200)")
    options, config = flags.parse(parser, arguments, config_required=False)
    runtime.setup()
    config = _config(config, options.workdir)
    trace = find(config, workdir=options.workdir, lowest=options.lowest, highest=options.highest, steps=options.steps)
    if not trace.rate:
        raise UserError(f"the very first loss, at the rate {options.lowest:g}, is not finite: nothing can be suggested")
    suggestion = suggest(trace)
    options.out.mkdir(parents=True, exist_ok=True)
    peak = config.optim.schedule.peak
    document = dataclasses.asdict(trace) | {"suggestion": suggestion and dataclasses.asdict(suggestion), "peak": peak}
    write_json(options.out / "lr.json", document)
    plot(trace, suggestion, peak, options.out / "lr.png", title=f"{config.name}: learning-rate range test")
    _show(Console(), trace, suggestion, peak, options.out)


def _config(config: c.Config | None, workdir: Path | None) -> c.Config:
    """The config that was given, or the one of the run; both only if they agree."""
    if workdir is None:
        if config is None:
            raise UserError("give --config FILE.py, or --workdir DIR of a run")
        return config
    saved = files.restore(workdir / "config.json")
    differences = files.difference(saved, config) if config else []
    if differences:
        raise UserError(
            f"{workdir} holds a run of another config ({'; '.join(differences[:3])}{'; …' * (len(differences) > 3)}): "
            f"leave --config out, or --workdir"
        )
    return saved


def _show(console: Console, trace: Trace, suggestion: Suggestion | None, peak: float, out: Path) -> None:
    rows = {
        "steps": f"{len(trace.rate)}, learning rates {trace.rate[0]:.1e} to {trace.rate[-1]:.1e}",
        "ended": "the loss diverged" if trace.diverged else "at the highest rate, without divergence",
    }
    if suggestion:
        rows |= {
            "steepest descent": f"{suggestion.steepest:.2e}",
            "tenth of the minimum": f"{suggestion.tenth_of_minimum:.2e} (minimum at {suggestion.minimum:.2e})",
            "recommended": f"--config.optim.schedule.peak={suggestion.recommended:.1e}",
            "because": suggestion.reason,
        }
    else:
        rows["recommended"] = "nothing: the loss never fell below its start; lower --lowest, or look at the plot"
    rows["config's peak"] = f"{peak:.2e}"
    rows["files"] = f"{out}/: lr.json, lr.png"
    console.table("learning-rate range test", rows)
