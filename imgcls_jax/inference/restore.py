"""Read a trained model from the work directory of its run: the one way in which a run's parameters leave it."""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt64

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.config.experiment import Views
from imgcls_jax.data.split import trained_on
from imgcls_jax.evaluation import calibration, thresholds
from imgcls_jax.export.program import Program
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import averaging, optimizers
from imgcls_jax.record import checkpoint, documents
from imgcls_jax.record.checkpoint import DamagedCheckpoint
from imgcls_jax.record.documents import ModelCard
from imgcls_jax.weights import paths


@dataclass(frozen=True)
class TrainedModel:
    """A trained model as numbers: what is needed to use it, without a device."""

    config: c.Config
    """The experiment that the model belongs to."""
    class_names: tuple[str, ...]
    """Name of each class, by label; empty where there is no output layer."""
    params: dict[str, np.ndarray]
    """All parameters by path ("layer1.0.conv1.kernel"); averages where the run keeps averages."""
    stats: dict[str, np.ndarray]
    """BatchNorm's running means and variances, by path."""
    card: ModelCard
    """What is needed to use the model: config, class names, preprocessing."""
    frozen: frozenset[str] = frozenset()
    """Paths of the parameters that did not train in the run's best epoch."""
    trained_on: UInt64[np.ndarray, " k"] | None = None
    """Hash of the content of each image that it was trained on; None where that is not known."""
    notes: tuple[str, ...] = ()
    """Sentences on where the config departs from how the weights were trained."""

    def program(self, views: Views | None, temperature: float = 1.0) -> Program:
        """Return the model as one function, to be exported.

        Args:
          views: test-time views; None: the center of each image alone.
          temperature: what logits are divided by for the probabilities.
        """
        return Program.of(self.config, self.class_names, self.params, self.stats, self.card, views, temperature)

    @property
    def num_trained(self) -> int:
        """Number of elements of the parameters that trained in the best epoch."""
        return sum(array.size for path, array in self.params.items() if path not in self.frozen)

    @property
    def num_params(self) -> int:
        """Number of elements of all parameters."""
        return sum(array.size for array in self.params.values())


def of_run(workdir: str | Path) -> TrainedModel:
    """Read the best checkpoint of a run, or the newest one while there is no best one.

    The arrays are numpy's: neither the data set nor the devices of the run are needed. The run may still be going on;
    nothing of it is changed.

    Raises:
      UserError: `workdir` is not the work directory of a run, has no checkpoint yet, or is damaged.
    """
    workdir = Path(workdir)
    config = files.restore(workdir / "config.json")
    document, saved, notes = _best(workdir)
    trained, frozen, stats = (saved.get(name) or {} for name in ("params", "frozen", "stats"))
    optimizer = optimizers.build(config.optim, trained)

    def initial(params: Tree, stats: Tree) -> dict[str, Any]:
        average = averaging.init(params, stats) if averaging.wanted(config.optim) else None
        return {"opt_state": optimizer.init(params), "average": average}

    # A checkpoint stores the nodes of the optimizer's state as dicts; give them their types back.
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    leaves = {name(path): leaf for path, leaf in jax.tree.leaves_with_path(saved)}
    state = jax.tree.map_with_path(lambda path, _: leaves[name(path)], jax.eval_shape(initial, trained, stats))
    evaluated = optimizer.evaluation_params(trained, state["opt_state"])
    if state["average"] is not None:
        evaluated, stats = averaging.read(state["average"], evaluated, stats)

    def as_numpy(tree: Tree) -> dict[str, np.ndarray]:
        return {path: np.asarray(array) for path, array in paths.flatten(tree).items()}

    frozen_params = as_numpy(frozen)
    card: ModelCard = document["card"]
    if (tuned := thresholds.load(workdir, card["class_names"])) is not None:
        card["thresholds"] = tuned
    if (fitted := calibration.load(workdir)) is not None:
        card["calibration"] = asdict(fitted)
    return TrainedModel(
        config,
        tuple(card["class_names"]),
        as_numpy(evaluated) | frozen_params,
        as_numpy(stats),
        card,
        frozenset(frozen_params),
        trained_on(workdir),
        tuple(notes),
    )


def _best(workdir: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The newest sound document of a run, the arrays of the best checkpoint, and sentences on what is damaged."""
    notes: list[str] = []

    def read(step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        document = checkpoints.run(step)
        documents.check(document, f"the checkpoint of step {step} of {workdir}")
        best = document["best"]
        if best is not None and best != step:
            try:
                return document, checkpoints.arrays(best)
            except DamagedCheckpoint:
                arrays = checkpoints.arrays(step)
                notes.append(
                    f"the best checkpoint of {workdir}, of step {best}, is damaged or gone: these are the parameters "
                    f"of step {step}"
                )
                return document, arrays
        return document, checkpoints.arrays(step)

    with checkpoint.of_run(workdir) as checkpoints:
        found = checkpoints.newest_sound(read, notes.append)
    assert found is not None, "there is a checkpoint"
    return *found, notes
