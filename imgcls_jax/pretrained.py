"""Initial values from elsewhere: a torch or safetensors file, a published checkpoint, or an earlier run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.checkpoint import Checkpoints
from imgcls_jax.config import files
from imgcls_jax.errors import UserError
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
        loaded, saved = of_run(Path(source))
        return fit.fit(loaded, shapes, replace), departures(_seen(config.data), _seen(saved.data))
    file, entry = weights.resolve(source)
    loaded = weights.from_torch(weights.read(file), config.model, params, stats, replace)
    if entry is None:
        return loaded, []
    return loaded, departures(_seen(config.data), _published(entry.preprocessing))


def of_run(workdir: Path) -> tuple[dict[str, Any], c.Config]:
    """{path: array} of the best checkpoint of a run, averaged parameters where it kept them, and the run's config."""
    config = files.restore(workdir / "config.json")
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    latest = checkpoints.latest()
    if latest is None:
        raise UserError(f"{workdir} has no checkpoint yet: train it first")
    best = checkpoints.run(latest)["best"]
    state = checkpoints.arrays(latest if best is None else best)
    checkpoints.close()
    average = state.get("average") or {}
    trees = [state["frozen"], average.get("params") or state["params"], average.get("stats") or state["stats"]]
    return {path: array for tree in trees for path, array in paths.flatten(tree or {}).items()}, config


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
        "image_size": data.image_size,
        "mean": data.mean,
        "std": data.std,
    }


def _published(made_for: weights.Preprocessing) -> dict[str, Any]:
    """The same of a published checkpoint, in the terms of a config; a resize needs naming only where there is one."""
    seen = {"image_size": (made_for.crop, made_for.crop), "mean": made_for.mean, "std": made_for.std}
    if made_for.resize is None:
        return seen
    resize = {"canvas": (made_for.resize, made_for.resize), "fit": "crop", "interpolation": made_for.interpolation}
    return resize | seen
