"""Make the networks of the literature by name, with published weights."""

import dataclasses
import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from imgcls_jax.config import BatchNormMode
from imgcls_jax.config.model import Model
from imgcls_jax.errors import UserError, did_you_mean
from imgcls_jax.models import network
from imgcls_jax.weights import Entry, Preprocessing, from_torch, paths, published, read, resolve


def architectures() -> dict[str, Model]:
    """Collect the settings of the networks of the literature, with a plain linear head, by name."""
    return {name: config for model in Model.kinds().values() for name, config in model.architectures().items()}


def list_models(filter: str = "*", *, weights: bool = False) -> list[str]:
    """List the names that `create_model` takes, sorted.

    Args:
      filter: shell wildcards that the whole name must match.
      weights: list the names of published weights instead of those of architectures.

    Example:
      >>> from imgcls_jax import models
      >>> models.list_models("resnet1*")
      ['resnet101', 'resnet152', 'resnet18']
      >>> models.list_models("*/resnet50.*", weights=True)
      ['torchvision/resnet50.IMAGENET1K_V1', 'torchvision/resnet50.IMAGENET1K_V2']
    """
    return sorted(name for name in (published() if weights else architectures()) if fnmatch.fnmatchcase(name, filter))


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    channels: int = 3,
    image_size: int | None = None,
    dtype: DTypeLike = "float32",
    seed: int = 0,
) -> tuple[nnx.Module, Preprocessing]:
    """Make a network in evaluation mode, and tell what its images must go through.

    `model(images)` maps normalized float images [b, h, w, channels] to float32 logits [b, num_classes]. To train it,
    `nnx.view(model, deterministic=False, use_running_average=False, update_running=True)` and give `model(images,
    rngs=nnx.Rngs(…))`.

    Args:
      name: an architecture, as `list_models()` lists them.
      num_classes: number of classes; None: those of the weights' output layer, or without weights those that the
        architecture is published for. Where the weights have another number, the head starts at random.
      weights: a name of published weights, as `list_models(weights=True)` lists them, which are downloaded once; or a
        torch, safetensors or npz file under the names of the original; None: everything is random.
      channels: channels of the images.
      image_size: side of the images, pixels; None: that of the published weights.
      dtype: dtype of the activations ("float32", "bfloat16", "float16"); parameters and logits are float32.
      seed: seed of what starts at random.

    Returns:
      The network, and the preprocessing of the published weights: of the last ones that are published for the
      architecture, where `weights` is a file or None.

    Raises:
      UserError: there is no such architecture, weights or dtype; the weights are not the network's; or the network
        cannot take such images.

    Example:
      >>> import jax.numpy as jnp
      >>> from imgcls_jax import models
      >>> model, preprocessing = models.create_model("cifar_resnet20", num_classes=10)
      >>> model(jnp.zeros((1, 32, 32, 3))).shape
      (1, 10)
      >>> preprocessing.crop, preprocessing.mean
      (32, (0.485, 0.456, 0.406))
    """
    known = architectures()
    if name not in known:
        raise UserError(f"there is no architecture {name!r}{did_you_mean(name, known)}: see imgcls_jax.list_models()")
    config = known[name]
    state, entry = ({}, None) if weights is None else _read(name, weights)
    in_file = _classes_of(state, config)
    if num_classes is None:
        if state and in_file is None:
            raise UserError(f"{weights} has no output layer: give the number of classes, num_classes")
        num_classes = in_file or config.usual_classes
    preprocessing = _preprocessing(name, entry, channels, image_size)

    made = network.split(
        functools.partial(
            config.build,
            num_classes=num_classes,
            channels=channels,
            image_size=(preprocessing.crop, preprocessing.crop),
            dtype=_dtype(dtype),
        ),
        BatchNormMode(),
    )
    key = jax.random.key(seed)
    params, stats = shapes = jax.eval_shape(made.create, key)
    replace = () if num_classes == in_file else (f"{config.head_prefix}*",)
    loaded = from_torch(state, config, params, stats, replace) if state else {}
    complete = all(path in loaded for tree in shapes for path in paths.flatten(tree))

    def value(path: str, leaf: Any) -> jax.Array:
        return jnp.asarray(loaded.get(path, leaf), leaf.dtype)

    # Where a file gives everything, nothing random is computed.
    trees = (paths.map_tree(value, tree) for tree in (shapes if complete else made.create(key)))
    return nnx.merge(made.evaluate, *trees), preprocessing


def _read(name: str, weights: str | Path) -> tuple[Mapping[str, np.ndarray], Entry | None]:
    entry = published().get(str(weights))
    if entry and entry.model != name:
        raise UserError(
            f"{weights} are weights of {entry.model}, not of {name}: see imgcls_jax.list_models(weights=True)"
        )
    return read(resolve(str(weights))[0]), entry


def _classes_of(state: Mapping[str, np.ndarray], config: Model) -> int | None:
    """The number of outputs of a torch file's output layer; None without one."""
    kernel = f"{config.head_prefix}out.kernel"
    for rule in config.torch_rules():
        array = state.get(rule.name_of(kernel) or "")
        if array is not None and array.ndim == rule.layout.rank:
            return rule.layout.to_ours(array).shape[-1]
    return None


def _preprocessing(name: str, entry: Entry | None, channels: int, side: int | None) -> Preprocessing:
    """Of an entry, or else of the architecture, for images of that many channels and that side."""
    if entry is None:
        entry = next((other for other in reversed(published().values()) if other.model == name), None)
    usual = architectures()[name].usual_size
    made = entry.preprocessing if entry else Preprocessing(None, usual, "none")
    if channels != len(made.mean):
        made = dataclasses.replace(made, mean=(0.5,) * channels, std=(0.5,) * channels)
    if side is None or side == made.crop:
        return made
    resize = None if made.resize is None else round(made.resize * side / made.crop)
    return dataclasses.replace(made, crop=side, resize=resize)


def _dtype(name: DTypeLike) -> jnp.dtype:
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(f"dtype is {name!r}, but activations are float32, bfloat16 or float16")
    return dtype
