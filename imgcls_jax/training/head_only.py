"""Train a head on features that are computed once, where nothing below the head changes while a run goes on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int64, Shaped

from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.models import network
from imgcls_jax.models.network import Tree
from imgcls_jax.training import features
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import TrainState, join


class FeatureSplit(data.Split):
    """A split that reads the features of its examples in place of their canvases."""

    def __init__(self, split: data.Split, features: Shaped[np.ndarray, "n features"]):
        vars(self).update(vars(split))
        self._features = features

    @property
    def nbytes(self) -> int:
        """Bytes of all features together."""
        return self._features.nbytes

    def read(self, indices: Int64[np.ndarray, " b"]) -> Shaped[np.ndarray, "b features"]:
        """Return the features of these examples."""
        return self._features[indices]

    def read_all(self) -> Shaped[np.ndarray, "n features"]:
        """Return the features of all examples."""
        return self._features


def prepare(experiment: Experiment, on_progress: features.Progress) -> None:
    """Let training and validation begin at the head, on features that are computed now, if that changes nothing else.

    It changes nothing where only the head trains, and the step computes of an image what evaluation computes up to the
    head: no augmentation, another canvas, dropout or batch statistics below it. Features are kept in the cache
    (`features.of_split`), if they fit into `Data.cache_gib`. Figures then differ by rounding alone from those of a run
    whose `Data.cache_gib` is 0, which computes none. Nor do several processes, or a run of one epoch.
    """
    config, dataset = experiment.config, experiment.dataset
    splits = [split for split in (dataset.train, dataset.validation) if split is not None]
    same_canvas = config.data.eval_canvas in (None, config.data.canvas)
    if config.augment or not same_canvas or config.epochs == 1 or jax.process_count() > 1:
        return
    if not _head_alone_trains(experiment):
        return
    variables = experiment.initial_variables()
    kind = _features_of_the_step(experiment, variables)
    images = sum(map(len, splits))
    if kind is None or images * kind.shape[1] * 4 > config.data.cache_gib * 2**30:
        return
    weights = features.digest_below_head(config.model, variables)
    found = features.of_experiment(experiment, variables, splits, weights, on_progress)
    experiment.start_at_the_head(
        {split.name: FeatureSplit(split, found[split.name].astype(kind.dtype)) for split in splits}, weights
    )
    experiment.notes.append(
        f"only the head trains: the {kind.shape[1]:,} features of the {images:,} training and validation images are "
        "computed once, and kept in the cache"
    )


def check(experiment: Experiment, state: TrainState) -> None:
    """Raise UserError if a checkpoint that a run goes on from has other weights below the head than the features."""
    if experiment.features_of is None:
        return
    variables = join(state.params, state.frozen), state.stats
    if features.digest_below_head(experiment.config.model, variables) != experiment.features_of:
        raise UserError(
            f"{experiment.config.transfer.init_from or 'the initial values'} gave other weights when this run began: "
            "put back what transfer.init_from named then, or choose another --workdir"
        )


def _head_alone_trains(experiment: Experiment) -> bool:
    prefix, epochs = experiment.config.model.head_prefix, (0, *experiment.plan.changes)
    trained = [row.path for row in experiment.plan.rows if any(map(row.trains, epochs))]
    return bool(trained) and all(path.startswith(prefix) for path in trained)


def _features_of_the_step(experiment: Experiment, variables: tuple[Tree, Tree]) -> jax.ShapeDtypeStruct | None:
    """Return shape and type of the features of one batch; None where the step does not begin by computing them.

    Whether it does is seen from both programs, which are the same then, operation for operation: what keeps a network
    of some family from it need not be known here.
    """
    data, networks = experiment.config.data, experiment.model
    images = jax.ShapeDtypeStruct((experiment.config.batch_size, *data.image_size, data.canvas.channels), jnp.float32)
    seen: list[jax.ShapeDtypeStruct] = []

    def whole(model: nnx.Module, _: Any, images: Array, rngs: nnx.Rngs) -> Array:
        return network.whole(model, images, rngs)

    def in_parts(model: nnx.Module, evaluated: Any, images: Array, rngs: nnx.Rngs) -> Array:
        stages = evaluated.stages(images)
        x = stages[list(stages)[list(stages).index("head") - 1]]
        seen.append(jax.ShapeDtypeStruct(x.shape, x.dtype))
        return network.head(model, x, rngs)

    def program(forward: Callable[..., Array]) -> str:
        """What XLA is given to compute logits and statistics, without what they do not depend on."""

        def step(variables: tuple[Tree, Tree], images: Array, key: Array) -> tuple[Array, Tree]:
            model = nnx.merge(networks.train, *variables)
            logits = forward(model, nnx.merge(networks.evaluate, *variables), images, nnx.Rngs(key))
            return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        return jax.jit(step).lower(variables, images, jax.random.key(0)).as_text()

    try:
        same = program(whole) == program(in_parts)
    except (AttributeError, TypeError, ValueError):  # of a model of another form
        return None
    return seen[0] if same and len(seen[0].shape) == 2 else None
