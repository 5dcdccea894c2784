"""Initial values from elsewhere: a torch or safetensors file, a published checkpoint, or an earlier run."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imgcls_jax import checkpoint, state, steps, weights
from imgcls_jax import config as c
from imgcls_jax.config import files
from imgcls_jax.optim import optimizers
from imgcls_jax.weights import fit, paths


def load(
    config: c.Config, params: Mapping[str, Any], stats: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The arrays of `config.transfer.init_from` by parameter path, and notes for the user.

    Args:
      config: the experiment.
      params, stats: the model's parameters and BatchNorm statistics, or only their shapes.

    Returns:
      {path: array} of all parameters and statistics but the replaced ones, None where everything is random; and
      sentences on where this run departs from how the weights were trained.

    Raises:
      UserError: there is no such file, name or run, or it does not fit the model.
    """
    source = config.transfer.init_from
    if source is None:
        return None, []
    replace = config.transfer.replace
    if Path(source).is_dir():
        shapes = {path: tuple(leaf.shape) for tree in (params, stats) for path, leaf in paths.flatten(tree).items()}
        run = of_run(Path(source))
        return fit.fit(run.params | run.stats, shapes, replace), departures(_seen(config.data), _seen(run.config.data))
    file, entry = weights.resolve(source)
    loaded = weights.from_torch(weights.read(file), config.model, params, stats, replace)
    if entry is None:
        return loaded, []
    return loaded, departures(_seen(config.data), _published(entry.preprocessing))


@dataclass(frozen=True)
class OfRun:
    """The best checkpoint of a run as its evaluation took it: averaged parameters where the run keeps averages."""

    config: c.Config
    params: dict[str, np.ndarray]
    """All parameters, by path."""
    stats: dict[str, np.ndarray]
    """BatchNorm's running means and variances, by path."""
    frozen: frozenset[str]
    """Paths of the parameters that did not train in its epoch."""

    @property
    def counts(self) -> tuple[int, int]:
        """Elements of the parameters that trained, and of all."""
        sizes = {path: array.size for path, array in self.params.items()}
        return sum(size for path, size in sizes.items() if path not in self.frozen), sum(sizes.values())


def of_run(workdir: Path) -> OfRun:
    """Read it; the run's data set need not be at hand.

    Raises:
      UserError: `workdir` is no run's, or it has no checkpoint yet.
    """
    config = files.restore(workdir / "config.json")
    with checkpoint.of_run(workdir) as (checkpoints, newest):
        best = checkpoints.run(newest)["best"]
        saved = checkpoints.arrays(newest if best is None else best)
    trained, frozen, stats = (saved.get(name) or {} for name in ("params", "frozen", "stats"))
    trainable = dict.fromkeys(paths.flatten(trained), True) | dict.fromkeys(paths.flatten(frozen), False)
    optimizer = optimizers.build(config.optim, trained)
    create = functools.partial(state.create, trainable=trainable, optimizer=optimizer, config=config)
    abstract = jax.eval_shape(create, state.join(trained, frozen), stats)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    leaves = {name(path): leaf for path, leaf in jax.tree.leaves_with_path(saved)}
    train_state = jax.tree.map_with_path(lambda path, _: leaves[name(path)], abstract)
    variables = steps.build_evaluation_variables(optimizer)(train_state)
    params, stats = ({path: np.asarray(x) for path, x in paths.flatten(tree).items()} for tree in variables)
    return OfRun(config, params, stats, frozenset(paths.flatten(frozen)))


def departures(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """A sentence on what images go through here and did not where the weights come from; none if all is the same."""
    differ = [f"{name} {ours[name]} (theirs {value})" for name, value in theirs.items() if value != ours[name]]
    return [f"evaluation images are not those that the loaded weights were made for: {', '.join(differ)}"] * bool(
        differ
    )


def _seen(data: c.Data) -> dict[str, Any]:
    """What evaluation images go through."""
    canvas = data.eval_canvas or data.canvas
    return {
        "canvas": (canvas.height, canvas.width),
        "fit": canvas.fit,
        "interpolation": canvas.interpolation,
        "jpeg_decoding": canvas.jpeg_decoding,
        "image_size": data.image_size,
        "mean": data.mean,
        "std": data.std,
    }


def _published(made_for: weights.Preprocessing) -> dict[str, Any]:
    """The same of a published checkpoint, in the terms of a config; a resize needs naming only where there is one."""
    seen = {"image_size": (made_for.crop, made_for.crop), "mean": made_for.mean, "std": made_for.std}
    if made_for.resize is None:
        return seen
    resize = {
        "canvas": (made_for.resize, made_for.resize),
        "fit": "crop",
        "interpolation": made_for.interpolation,
        "jpeg_decoding": "full",
    }
    return resize | seen
