"""From a torch state dict to our parameters and statistics, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from imgcls_jax.config.model import Model
from imgcls_jax.weights import paths
from imgcls_jax.weights.fit import fit
from imgcls_jax.weights.torch_names import TRACKED


def from_torch(
    state: Mapping[str, np.ndarray],
    model: Model,
    params: Mapping,
    stats: Mapping,
    replace: Iterable[str] = (),
    notes: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """The state dict's arrays under our paths, in our layout and their own dtypes, without those to be replaced.

    Args:
      state: torch name → array, as `read` returns it.
      model: the architecture.
      params, stats: nested dicts of the model's parameters and BatchNorm statistics, or only of their shapes.
      replace: wildcards over our paths.
      notes: gets a sentence where a first convolution is adapted to other channels than three.

    Raises:
      UserError: names every key that has no counterpart, every array of another shape, and everything missing.
    """
    rules = model.torch_rules()
    loaded: dict[str, np.ndarray] = {}
    problems = []
    for name, array in state.items():
        if name.endswith(f".{TRACKED}") or model.torch_ignores(name):
            continue
        found = next(((path, rule) for rule in rules if (path := rule.path_of(name))), None)
        if found is None:
            problems.append(f"{name} {array.shape} of the checkpoint has no counterpart in a {type(model).__name__}")
            continue
        path, rule = found
        if path in loaded:
            problems.append(f"{name} {array.shape} of the checkpoint is {path}, which it has under another name too")
        elif rule.layout.rank not in (None, array.ndim):
            if not paths.matches(path, replace):
                problems.append(f"{name} {array.shape} of the checkpoint has not the {rule.layout.rank} axes of {path}")
            # Stands in for the array, so that it does not count as missing as well.
            loaded[path] = array
        else:
            loaded[path] = rule.layout.to_ours(array)
    shapes = {path: tuple(leaf.shape) for tree in (params, stats) for path, leaf in paths.flatten(tree).items()}
    return fit(loaded, shapes, replace, problems, notes)


def to_params(state: Mapping[str, np.ndarray], model: Model, params: Mapping, stats: Mapping) -> tuple[dict, dict]:
    """All parameters and statistics from a state dict, as nested dicts like `params` and `stats`, in their dtypes.

    Raises:
      UserError: as `from_torch`.
    """
    loaded = from_torch(state, model, params, stats)

    def value(path: str, leaf: Any) -> Any:
        return jnp.asarray(loaded[path], leaf.dtype)

    return paths.map_tree(value, params), paths.map_tree(value, stats)


def to_state_dict(params: Mapping, stats: Mapping, model: Model, batches_tracked: int = 0) -> dict[str, np.ndarray]:
    """The torch model's `state_dict()`: its names, order and layout, contiguous, in the dtypes given.

    Args:
      params, stats: nested dicts of all parameters and statistics.
      model: the architecture.
      batches_tracked: value for BatchNorm's `num_batches_tracked`, which torch needs only without a momentum.
    """
    rules = model.torch_rules()
    arrays = paths.flatten(params) | paths.flatten(stats)
    state = {}
    for path in model.torch_order(arrays):
        name, rule = next((name, rule) for rule in rules if (name := rule.name_of(path)))
        array = np.asarray(arrays[path])
        state[name] = np.ascontiguousarray(rule.layout.to_torch(array))
        layer, _, leaf = name.rpartition(".")
        if leaf == "running_var":
            state[f"{layer}.{TRACKED}"] = np.array(batches_tracked, np.int64)
    return state
