"""Explain a loss that is not finite: take the steps since the last checkpoint again, and look into the guilty one.

The replay is exact, because a step depends on nothing but the state, the seed and the images. In the guilty step every
layer's output is looked at, then the loss, the gradients, the update, until the first number that is not finite is
found. WORKDIR/flight_record/step_N.json says where it is, from what input it came, and which images the batch held.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from imgcls_jax import data
from imgcls_jax.models.network import Tree
from imgcls_jax.models.watching import watching
from imgcls_jax.record.json_files import write_json
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.resume import restore, resume_point
from imgcls_jax.training.state import TrainState, join
from imgcls_jax.weights import paths

if TYPE_CHECKING:
    from imgcls_jax.training.run import Run


class Span(NamedTuple):
    """The values of an array."""

    least: float
    greatest: float
    """Least and greatest of the finite values; NaN where there are none."""
    finite: float
    """Share of the values that are finite."""


class Layer(NamedTuple):
    """A layer of the network during the guilty step, in the order in which layers finish."""

    path: str
    kind: str
    input: Span | None
    output: Span


class Cause(NamedTuple):
    """The first thing in a step that is not finite."""

    sentence: str
    layer: str | None
    layers: list[Layer]
    losses: list[float]
    """Loss of each image of the batch; empty where a layer is the cause."""


def explain(run: "Run") -> str:
    """Replay the steps from the newest checkpoint to the step that the run has reached, and write down where they stop
    being finite.

    Returns:
      The rest of a sentence that begins with what is not finite; empty with several processes, each of which would
      have to do the same.
    """
    if jax.process_count() > 1:
        return ""
    try:
        with run.waiting("taking the last steps again, to find the cause"):
            return _explain(run)
    except Exception as error:  # the user is to hear of the loss, whatever happens to its explanation
        return f"; the step could not be taken again ({type(error).__name__}: {error})"


def _explain(run: "Run") -> str:
    run.checkpoints.wait()
    guilty, largest = _guilty(run)
    if guilty is None:
        return "; taken again from the last checkpoint, every step was finite"
    epoch, step = guilty
    state = next(state for state, *place in _replay(run) if tuple(place) == guilty)
    experiment = run.experiment
    rows = _rows(experiment, epoch, step)
    cause = _cause(experiment, state, epoch, rows)
    path = run.workdir / "flight_record" / f"step_{_step(run, guilty) + 1}.json"
    _write(path, run, guilty, rows, cause, largest)
    return f"; taken again, step {step + 1} of epoch {epoch + 1} is the one: {cause.sentence} (see {path})"


# ---- the replay -----------------------------------------------------------------------------------------------------


def _replay(run: "Run") -> Iterator[tuple[TrainState, int, int]]:
    """Take the steps since the newest checkpoint again, one at a time, to where the run is.

    Yields:
      The state at the beginning of each epoch and after each step, the epoch, and the number of its steps done.
    """
    experiment, reached = run.experiment, run.progress
    newest = run.checkpoints.latest()
    saved = resume_point(run.checkpoints, newest)
    state, previous = restore(experiment, run.checkpoints, newest, saved)
    first = saved["step"]
    for epoch in range(saved["epoch"], reached.epoch + 1):
        if previous != epoch and experiment.phase_changes(epoch):
            state, _ = experiment.enter_phase(state, epoch, previous=previous)
        last = reached.step_in_epoch if epoch == reached.epoch else experiment.steps_per_epoch
        yield state, epoch, first
        for state, _, done in experiment.training.epoch(state, epoch, first, last=last, every=[1]):
            yield state, epoch, done
        if epoch < reached.epoch:
            state = experiment.empty_metrics(experiment.end_epoch(state, epoch))
        previous, first = epoch, 0


def _guilty(run: "Run") -> tuple[tuple[int, int] | None, list[float]]:
    """The epoch and the step after which something is first not finite, both counted from 0, None if all is; and the
    largest absolute value of all parameters before each step."""
    look = jax.jit(_look)
    largest: list[float] = []
    for state, epoch, done in _replay(run):
        finite, value = jax.device_get(look(state))
        if not finite:
            return (epoch, done - 1), largest
        largest.append(float(value))
    return None, largest


def _look(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """Whether a state is finite, and the largest absolute value of its parameters."""
    leaves = jax.tree.leaves((state.params, state.stats, state.metrics.loss.total))
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
    return finite, jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(state.params)]))


def _rows(experiment: Experiment, epoch: int, step: int) -> np.ndarray:
    """The rows of the training split in a step's batch."""
    config, train = experiment.config, experiment.dataset.train
    order = data.train_order(train.labels, config.data.sampling, config.seed, epoch)
    return order[step * config.batch_size : (step + 1) * config.batch_size]


# ---- the look into a step -------------------------------------------------------------------------------------------


def _cause(experiment: Experiment, state: TrainState, epoch: int, rows: np.ndarray) -> Cause:
    """Find the first number in a step that is not finite; the state before it is."""
    train, parts = experiment.dataset.train, experiment.config.optim.accumulate
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(experiment.step_key, state.step))
    images, labels = jax.jit(experiment.augmentation(epoch))(
        augment_key,
        jnp.asarray(train.read(rows)),
        jnp.asarray(train.labels[rows]),
        jnp.asarray(train.aspect[rows]),
        state.step // experiment.steps_per_epoch,
        jnp.asarray(rows, jnp.int32),
    )
    whole = join(state.params, state.frozen)
    gradients, all_losses = [], np.zeros(len(rows))
    # The parts of a step that accumulates: each takes every `parts`-th image.
    for number, key in enumerate(jax.random.split(dropout_key, parts)):
        chosen, targets = images[number::parts], labels[number::parts]

        def losses_of(params: Tree, images=chosen, targets=targets, key=key) -> jax.Array:
            model = nnx.merge(experiment.model.train, params, state.stats)
            logits = model(images, rngs=nnx.Rngs(key)).astype(jnp.float32)
            return experiment.loss(logits, targets)

        model = nnx.merge(experiment.model.train, whole, state.stats)
        layers: list[Layer] = []
        with watching(model, functools.partial(_record, layers)):
            model(chosen, rngs=nnx.Rngs(key))
        first = next((layer for layer in layers if layer.output.finite < 1), None)
        if first is not None:
            return Cause(_in_layer(first, whole), first.path, layers, [])
        losses = np.asarray(losses_of(whole))
        all_losses[number::parts] = losses
        if not np.isfinite(losses).all():
            sentence = f"the loss of {np.sum(~np.isfinite(losses))} images is the first number that is not finite"
            return Cause(sentence, None, layers, all_losses.tolist())
        gradients.append(jax.jit(jax.grad(lambda params, of=losses_of: of(params).mean()))(whole))
    wrong = [
        path
        for tree in gradients
        for path, gradient in paths.flatten(tree).items()
        if not np.isfinite(np.asarray(gradient)).all()
    ]
    # Of all gradients the last layer's is computed first.
    ordered = [path for path in reversed(experiment.config.model.torch_order(dict.fromkeys(wrong)))]
    if ordered:
        sentence = f"all layers and the loss are finite, but the gradient of {ordered[0]} is the first that is not"
        return Cause(sentence, ordered[0], layers, all_losses.tolist())
    sentence = "layers, loss and gradients are finite, but the update by the optimizer or the statistics are not"
    return Cause(sentence, None, layers, all_losses.tolist())


def _in_layer(layer: Layer, params: Tree) -> str:
    own = [np.asarray(value) for path, value in paths.flatten(params).items() if path.startswith(f"{layer.path}.")]
    largest = f", its parameters up to {max(float(np.abs(value).max()) for value in own):.3g}" if own else ""
    came = f"; its input goes from {layer.input.least:.3g} to {layer.input.greatest:.3g}" if layer.input else ""
    return f"the output of {layer.path or 'the network'} ({layer.kind}) is the first not to be finite{came}{largest}"


def _record(layers: list[Layer], path: str, layer: nnx.Module, given: tuple[Any, ...], output: Any) -> None:
    """Append a layer that finished, outside `jit` alone."""
    if _is_array(output):
        inputs = _span(given[0]) if given and _is_array(given[0]) else None
        layers.append(Layer(path, type(layer).__name__, inputs, _span(output)))


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)


def _span(values: jax.Array) -> Span:
    array = np.asarray(values, np.float32)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Span(math.nan, math.nan, 0.0)
    return Span(float(finite.min()), float(finite.max()), finite.size / array.size)


# ---- the record -----------------------------------------------------------------------------------------------------


def _write(
    path: Path, run: "Run", place: tuple[int, int], rows: np.ndarray, cause: Cause, largest: list[float]
) -> None:
    dataset = run.experiment.dataset
    losses: Sequence[float | None] = cause.losses or [None] * len(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "epoch": place[0],
        "step_in_epoch": place[1],
        "learning_rate": run.progress.learning_rate_factor * run.experiment.schedule.at(_step(run, place)),
        "largest_parameter_before_each_step": largest,  # since the last checkpoint
        "cause": cause.sentence,
        "layer": cause.layer,
        "layers": [
            {
                "path": layer.path,
                "kind": layer.kind,
                "input": layer.input and layer.input._asdict(),
                "output": layer.output._asdict(),
            }
            for layer in cause.layers
        ],
        "images": [
            {
                "id": dataset.train.ids[row],
                "class": dataset.class_names[label] if isinstance(label, int) else label,
                "loss": None if loss is None else float(loss),
            }
            for row, label, loss in zip(rows.tolist(), dataset.train.labels[rows].tolist(), losses, strict=True)
        ],
    }
    write_json(path, _strict(document))


def _step(run: "Run", place: tuple[int, int]) -> int:
    return place[0] * run.experiment.steps_per_epoch + place[1]


def _strict(value: Any) -> Any:
    """The same with numbers that JSON does not have as text."""
    if isinstance(value, dict):
        return {key: _strict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_strict(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
