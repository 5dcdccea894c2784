"""Compute the features of a split once, and keep them in the cache for every run on the same images and weights."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from imgcls_jax import config as c
from imgcls_jax.data import Split
from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.errors import UserError
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.models.network import Tree
from imgcls_jax.record import documents
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.weights import paths

VERSION = 1
"""Raise it with every change of the package that changes features, so that older entries are not used."""
Progress = Callable[[str, int, int | None], None]
_IMAGES = 512


def of_split(
    classifier: Classifier, split: Split, *, weights: str, on_progress: Progress
) -> Float32[np.ndarray, "n features"]:
    """Return the features of every image of a split, in its order: from the cache, or computed and kept there.

    An entry belongs to the pixels of the canvases, the network, its weights and the preprocessing; not to a path, a
    name or a date.

    Args:
      classifier: the network.
      split: the images, on canvases of the classifier's size.
      weights: `digest_below_head` of its weights.
      on_progress: called as on_progress(label, done, total).

    Raises:
      UserError: the cache cannot be written.
    """
    folder = cache_dir() / "features"
    file = folder / f"{_key(classifier.config, split, weights)}.npy"
    if (known := _read(file, len(split))) is not None:
        return known
    parts = []
    for start in range(0, len(split), _IMAGES):
        on_progress(f"features of the {split.name} images", start, len(split))
        rows = np.arange(start, min(start + _IMAGES, len(split)))
        parts.append(classifier.features(split.read(rows)))
    found = np.concatenate(parts)
    partial = file.with_name(f"{file.stem}.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as stream:
            np.save(stream, found)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"the cache of features {folder} cannot be written ({error.strerror or error}): set IMGCLS_CACHE to "
            "another folder"
        ) from None
    return found


def of_experiment(
    experiment: Experiment,
    variables: tuple[Tree, Tree],
    splits: Iterable[Split],
    weights: str,
    on_progress: Progress,
) -> dict[str, Float32[np.ndarray, "n features"]]:
    """Return the features of splits by their names; see `of_split`.

    Args:
      experiment: the network and its preprocessing.
      variables: (all parameters, statistics).
      splits: of the experiment's data, on canvases as evaluation sees them.
      weights: `digest_below_head` of the variables.
      on_progress: called as on_progress(label, done, total).
    """
    config, names = experiment.config, experiment.dataset.class_names
    params, stats = (_flat(tree) for tree in variables)
    classifier = Classifier(TrainedModel(config, names, params, stats, experiment.card()))
    return {split.name: of_split(classifier, split, weights=weights, on_progress=on_progress) for split in splits}


def digest_below_head(model: c.Model, variables: tuple[Tree, Tree]) -> str:
    """Return the hash of all parameters and statistics on which features depend."""
    params, stats = (_flat(tree) for tree in variables)
    return digest({path: array for path, array in (params | stats).items() if not path.startswith(model.head_prefix)})


def _flat(tree: Tree) -> dict[str, np.ndarray]:
    return {path: np.asarray(array) for path, array in paths.flatten(tree).items()}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the hash of named arrays: 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def _key(config: c.Config, split: Split, weights: str) -> str:
    seen = documents.preprocessing(config.data)
    settings = [VERSION, repr(config.model), config.precision, seen["image_size"], seen["mean"], seen["std"], weights]
    found = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for start in range(0, len(split), _IMAGES):
        canvases = split.read(np.arange(start, min(start + _IMAGES, len(split))))
        found.update(str(canvases.shape).encode())
        found.update(canvases.data)
    return found.hexdigest()


def _read(file: Path, rows: int) -> np.ndarray | None:
    """Return a sound entry of this many rows; None where there is none, so that it is made again."""
    try:
        found = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == rows else None
