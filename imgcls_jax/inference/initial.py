"""Initial values from elsewhere: a torch or safetensors file, published weights, a repository, or a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.export.hub import folder, remote
from imgcls_jax.inference import exported, heads, repository, restore
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.record import documents
from imgcls_jax.weights import fit, paths


def load(
    config: c.Config, params: Mapping[str, Any], stats: Mapping[str, Any], class_names: Sequence[str] = ()
) -> tuple[dict[str, Any] | None, list[str]]:
    """The arrays of `config.transfer.init_from` by parameter path, and notes for the user.

    Args:
      config: the experiment.
      params, stats: the model's parameters and BatchNorm statistics, or only their shapes.
      class_names: by label; a run's outputs are put into their order by name.

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
    origin = opened(source)
    if isinstance(origin, TrainedModel):
        shapes = {path: tuple(leaf.shape) for tree in (params, stats) for path, leaf in paths.flatten(tree).items()}
        arrays, notes = heads.in_order_of(origin, config, class_names, shapes)
        notes = [*origin.notes, *notes]
        notes += departures(documents.preprocessing(config.data), documents.preprocessing(origin.config.data))
        return fit.fit(arrays, shapes, replace, notes=notes), notes
    if origin is not None:
        seen = origin.card.closest(config.data.image_size)
        notes = [origin.description(seen)]
        loaded = weights.from_torch(origin.state(config.model), config.model, params, stats, replace, notes)
        theirs = _published(seen) | {"fit": origin.card.fit}
        return loaded, notes + departures(documents.preprocessing(config.data), theirs)
    file, entry = weights.resolve(source)
    notes = []
    loaded = weights.from_torch(weights.read(file), config.model, params, stats, replace, notes)
    if entry is not None:
        notes += departures(documents.preprocessing(config.data), _published(entry.preprocessing))
    return loaded, notes


def opened(source: str | Path) -> TrainedModel | repository.TimmWeights | None:
    """Read a run, also a published one, or a repository's weights; None: it is a published name, or a file.

    Raises:
      UserError: it cannot be read.
    """
    if remote_one := remote.repository_of(source):
        return repository.opened(remote_one)
    if folder.is_published(source):
        return exported.read(Path(source) / folder.WEIGHTS, foreign=True)
    return restore.of_run(source) if Path(source).is_dir() else None


def departures(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """A sentence on what images go through here and did not where the weights come from; none if all is the same."""
    differ = [f"{name} {ours[name]} (theirs {value})" for name, value in theirs.items() if value != ours[name]]
    return [f"evaluation images are not those that the loaded weights were made for: {', '.join(differ)}"] * bool(
        differ
    )


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
