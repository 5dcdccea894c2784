"""Probe a pretrained network: fit heads to its frozen features, and record the linear one as a run."""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions, tasks
from imgcls_jax.models import network
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.record.documents import SCHEMA, CheckpointDocument, EpochRecord, Figures, Result
from imgcls_jax.record.json_files import write_json
from imgcls_jax.record.workdir import claimed, record_environment
from imgcls_jax.training import features
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import TrainState, join
from imgcls_jax.training.validate import validate, validate_data
from imgcls_jax.tune.probe import heads
from imgcls_jax.tune.probe.heads import Choice
from imgcls_jax.weights import paths


@dataclasses.dataclass(frozen=True)
class Probe:
    """What the features are worth."""

    strengths: list[Choice]
    """The path of the linear head."""
    strength: float
    """The one that was taken."""
    converged: bool
    """Whether the final fit reached its minimum."""
    neighbors: list[Choice]
    """The votes of nearest neighbors that were tried."""
    nearest: dict[str, float]
    """Accuracy of the best vote on "validation" and "test", where there are such images."""
    folds: int
    num_features: int
    seconds: dict[str, float]
    """Time that "features" took, from the cache or not, and "heads"."""
    result: Result
    """Of the linear head: what a run's result.json holds."""

    @property
    def document(self) -> dict[str, Any]:
        """The result with all that was tried, for result.json."""
        mine = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "result"}
        mine |= {name: [dataclasses.asdict(choice) for choice in mine[name]] for name in ("strengths", "neighbors")}
        return dict(self.result) | {"probe": mine}


def settings(config: c.Config) -> c.Config:
    """Return the config of the run that a probe leaves: the network and data of `config`, all frozen but the head.

    Raises:
      UserError: there are no weights to start from.
    """
    start = config.transfer.init_from
    if start is None:
        raise UserError(
            "a probe measures pretrained features, and this config starts at random: set transfer.init_from, or give "
            "--weights"
        )
    canvas = config.data.eval_canvas or config.data.canvas
    params, _ = jax.eval_shape(network.of_config(config, 2).create, jax.random.key(0))
    backbone = [path for path in paths.flatten(params) if not path.startswith(config.model.head_prefix)]
    frozen = dict.fromkeys(f"{path.partition('.')[0]}.*" if "." in path else path for path in backbone)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, canvas=canvas, eval_canvas=None),
        augment=(),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=1.0, shape=c.Constant())),
        transfer=c.Transfer(
            init_from=start,
            replace=(f"{config.model.head_prefix}*",),
            freeze=tuple(frozen),
            batch_norm=c.BatchNormMode(train_affine=False, normalize_by="running", update_running=False),
        ),
        epochs=1,
        max_steps=None,
        evaluate_every_steps=None,
        test_views=None,
        metrics=(),
        evaluators=(),
        callbacks=(),
        early_stopping=None,
        best=c.Best(),
    )


def probe(
    config: c.Config,
    workdir: Path,
    *,
    strengths: Sequence[float] = heads.STRENGTHS,
    neighbors: Sequence[int] = heads.NEIGHBORS,
    folds: int = 5,
    arrays: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = False,
    on_progress: features.Progress = lambda label, done, total: None,
    command: str | None = None,
) -> Probe:
    """Fit a linear head and nearest neighbors to the features of a frozen network, and record the head as a run.

    The strength of the linear head's regularization and the number of neighbors are chosen by cross-validation on the
    training images alone. The work directory is a finished run's: `Classifier.load`, `imgcls evaluate` and `imgcls
    predict` take it. Predictions of all its images are kept, of the training images by heads of the other folds.

    Args:
      config: network, weights (`transfer.init_from`), data and seed; its training settings do not count.
      workdir: the folder of the run.
      strengths: to be tried, see `heads.linear`.
      neighbors: numbers to be tried.
      folds: of the cross-validation.
      arrays: the images, where the source is `Arrays()` without a path.
      overwrite: move a used work directory aside.
      on_progress: called as on_progress(label, done, total).
      command: how the user called it.

    Raises:
      UserError: something in the config, the data or the work directory is wrong, or the head is not a linear layer.
    """
    started = time.perf_counter()
    tasks.need_classes(config.loss.task, "imgcls probe")
    config, mesh = settings(config), meshes.make(config.mesh)
    validate(config, mesh.size)
    with claimed(workdir, config, overwrite=overwrite):
        dataset = data.load(config.data, workdir, arrays=arrays, on_progress=on_progress)
        validate_data(config, dataset)
        if len(dataset.train) < 2 * folds:
            raise UserError(
                f"{folds} folds need {2 * folds} training images or more, and there are {len(dataset.train)}"
            )
        record_environment(workdir, mesh, dataset.split_hash, command)
        experiment = Experiment(config, dataset, mesh)
        state = experiment.initial_state()
        head = _linear_head(config, state)

        found = _features(experiment, state, head, on_progress)
        fitted_from = time.perf_counter()
        train, labels = found["train"], dataset.train.labels
        parts = heads.folds(labels, folds, config.seed)
        path = heads.path(train, labels, strengths, parts, on_progress)
        strength, num_classes = heads.best(path).value, head["kernel"].shape[1]
        linear = heads.linear(train, labels, strength, num_classes)
        votes = heads.nearest(train, labels, neighbors, parts)
        voting = heads.neighbors(train, labels, int(heads.best(votes).value))
        rest = {split.name: split for split in dataset.splits[1:]}
        logits = {split.name: linear.logits(found[split.name]) for split in dataset.splits}
        figures = {split.name: _figures(logits[split.name], split.labels) for split in dataset.splits}
        nearest = {name: float((voting.predict(found[name]) == split.labels).mean()) for name, split in rest.items()}
        result = _record(
            experiment, _with_head(experiment, state, head, linear), workdir, figures, time.perf_counter() - started
        )
        probed = Probe(
            strengths=path,
            strength=strength,
            converged=linear.converged,
            neighbors=votes,
            nearest=nearest,
            folds=folds,
            num_features=train.shape[1],
            seconds={"features": fitted_from - started, "heads": time.perf_counter() - fitted_from},
            result=result,
        )
        write_json(workdir / "result.json", probed.document)
        # The head has seen the labels of the training images; those of the other folds have not.
        logits["train"] = heads.held_out(train, labels, strength, num_classes, parts)
        for split in dataset.splits:
            names = predictions.named(tuple(dataset.class_names), num_classes)
            made = predictions.Predictions(
                logits[split.name].astype(np.float32), split.labels, tuple(split.ids), names, split.name
            )
            predictions.save(made, predictions.path_of(workdir, split.name))
        return probed


def _linear_head(config: c.Config, state: TrainState) -> dict[str, Any]:
    """Return the arrays of the head, which must be one linear layer."""
    prefix = f"{config.model.head_prefix}out."
    flat = paths.flatten(join(state.params, state.frozen))
    head = {path: array for path, array in flat.items() if path.startswith(config.model.head_prefix)}
    if head.keys() != {f"{prefix}kernel", f"{prefix}bias"} or head[f"{prefix}kernel"].ndim != 2:
        raise UserError(
            f"a probe fits one linear layer, and the head of this {type(config.model).__name__} has "
            f"{', '.join(head)}: take a network with a plain head (model.head = Head())"
        )
    return {path.removeprefix(prefix): array for path, array in head.items()}


def _features(
    experiment: Experiment, state: TrainState, head: Mapping[str, Any], on_progress: features.Progress
) -> dict[str, np.ndarray]:
    """Compute the features of every split."""
    variables = join(state.params, state.frozen), state.stats
    weights = features.digest_below_head(experiment.config.model, variables)
    found = features.of_experiment(experiment, variables, experiment.dataset.splits, weights, on_progress)
    width, takes = found["train"].shape[1], head["kernel"].shape[0]
    if width != takes:
        raise UserError(f"the network has {width} features, but its head takes {takes} inputs: it cannot be probed")
    return found


def _figures(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """Compute what an evaluation measures."""
    rows = np.arange(len(labels))
    highest = logits.max(-1)
    losses = highest + np.log(np.exp(logits - highest[:, None]).sum(-1)) - logits[rows, labels]
    rank = (logits > logits[rows, labels][:, None]).sum(-1)
    return {
        "loss": float(losses.mean()),
        "top1": float((logits.argmax(-1) == labels).mean()),
        "top5": float((rank < 5).mean()),
        "count": len(labels),
    }


def _with_head(experiment: Experiment, state: TrainState, head: Mapping[str, Any], linear: heads.Linear) -> TrainState:
    """Put the fitted head, the only part that trains, into the state, as after one epoch."""

    def placed(name: str, value: np.ndarray) -> jax.Array:
        return jax.device_put(jnp.asarray(value, head[name].dtype), head[name].sharding)

    params = {name: placed(name, getattr(linear, name)) for name in head}
    return state.replace(
        step=state.step + experiment.steps_per_epoch,
        params=paths.map_tree(lambda path, _: params[path.rpartition(".")[2]], state.params),
    )


def _record(
    experiment: Experiment, state: TrainState, workdir: Path, figures: Mapping[str, Figures], seconds: float
) -> Result:
    """Write the checkpoint and the history of a finished run of one epoch."""
    step = experiment.steps_per_epoch
    epoch: EpochRecord = {
        "schema": SCHEMA,
        "kind": "epoch",
        "epoch": 0,
        "step": step,
        "learning_rate": 0.0,
        "train": figures["train"],
        "validation": figures.get("validation"),
        "evaluators": {},
        "images_per_second": len(experiment.dataset.train) / seconds,
        "waited_for_data": 0.0,
        "seconds": seconds,
    }
    document: CheckpointDocument = {
        "schema": SCHEMA,
        "epoch": 1,
        "step": 0,
        "history": [epoch],
        "recoveries": 0,
        "learning_rate_factor": 1.0,
        "figures": {},
        "best": step,
        "seconds": seconds,
        "stopped": None,
        "callbacks": {},
        "card": experiment.card(),
    }
    # The same probe again, perhaps with other strengths, takes the place of the one before.
    shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        checkpoints.save(step, state, document)
        checkpoints.wait()
    finally:
        checkpoints.close()
    outputs.write_text(workdir / "metrics.jsonl", json.dumps(epoch) + "\n")
    outputs.write_text(workdir / "parameters.txt", experiment.plan.table() + "\n")
    return {
        "schema": SCHEMA,
        "workdir": str(workdir),
        "validation": figures.get("validation"),
        "test": figures.get("test"),
        "evaluators": {},
        "epochs": 1,
        "best_epoch": 0,
        "seconds": seconds,
        "stopped": None,
        "history": [epoch],
    }
