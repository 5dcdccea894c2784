"""Trained models from the files of weights that `imgcls export` wrote, which say for which network they are."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from imgcls_jax import weights
from imgcls_jax.config import io
from imgcls_jax.errors import UserError
from imgcls_jax.export import batches, standalone
from imgcls_jax.export.hub import folder
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.models import network
from imgcls_jax.weights import fit, paths


def is_exported(path: str | Path) -> bool:
    """Tell whether a file of weights is one of ours, by its checksum's mark."""
    path = Path(path)
    if path.suffix == ".pth":
        return standalone.beside(path).is_file()
    if path.suffix != ".safetensors":
        return False
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return length < 2**27 and standalone.MARK in file.read(length)


def is_program(path: str | Path) -> bool:
    """Tell whether a file's name is one of an exported program, which holds no weights by name."""
    return Path(path).suffix in batches.SUFFIXES and not Path(path).is_dir()


def read(path: str | Path, *, foreign: bool = False) -> TrainedModel:
    """Read a trained model from an exported .safetensors or .pth file.

    Args:
      path: the file.
      foreign: it comes from somebody else, and must not say which files of this machine are executed: components of
        one's own are found where Python finds modules, and not where they were.

    Raises:
      UserError: the file is not ours, has changed, or does not fit this version.
    """
    try:
        about = standalone.document(path)
    except standalone.Unusable as error:
        raise UserError(str(error)) from None
    card = about["model_card"]
    config = io.from_document(folder.without_modules(card["config"]) if foreign else card["config"], str(path))
    names = tuple(card["class_names"])
    abstract = jax.eval_shape(network.of_config(config, max(len(names), 1)).create, jax.random.key(0))
    state = weights.read(Path(path))
    if about["imgcls_jax"]["names"] == "torch":
        loaded = weights.from_torch(state, config.model, *abstract)
    else:
        loaded = fit.fit(
            dict(state), {path: tuple(x.shape) for tree in abstract for path, x in paths.flatten(tree).items()}, ()
        )
    params, stats = (
        {path: np.asarray(loaded[path], leaf.dtype) for path, leaf in paths.flatten(tree).items()} for tree in abstract
    )
    return TrainedModel(config, names, params, stats, card)


def function_of(path: str | Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return the function from images to (probabilities, logits) of an exported file of weights."""
    views = standalone.document(path)["preprocessing"]["views"]
    function = jax.jit(read(path).program(None if views == "center" else views).function)
    return lambda images: [np.asarray(output) for output in function(images)]
