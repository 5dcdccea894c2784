"""The output layer of a trained run, for another run that starts from it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.models import network
from imgcls_jax.weights import paths


def in_order_of(
    run: TrainedModel, config: c.Config, class_names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], list[str]]:
    """Return a run's arrays with the outputs in the order of these classes, and notes for the user.

    Args:
      run: the trained model.
      config: the experiment that starts from it.
      class_names: the experiment's classes, by label; without any, nothing is compared.
      shapes: of the experiment's parameters and statistics, by path.

    Raises:
      UserError: the outputs would be kept although they are those of other classes.
    """
    arrays: dict[str, Any] = run.params | run.stats
    replace = config.transfer.replace
    ours, theirs = tuple(class_names), run.class_names
    if not ours or not theirs or len(ours) != len(theirs):
        return arrays, []  # another number of outputs: their shapes say it
    axes = _class_axes(config, len(ours), shapes)
    outputs = [path for path in axes if path in arrays]
    kept = [path for path in outputs if not paths.matches(path, replace)]
    if set(ours) == set(theirs) and outputs and not kept:
        return arrays, [
            f"the run has the same classes, but its output layer is not taken over: transfer.replace = {list(replace)} "
            "lets it start at random; --config.transfer.replace=[] keeps it"
        ]
    if ours == theirs or not kept or _are_numbers(ours) or _are_numbers(theirs):
        return arrays, []
    if set(ours) != set(theirs) or len(kept) < len(outputs):
        strange = next((name for name in ours if name not in theirs), ours[0])
        raise UserError(
            f'transfer.init_from is a run with the classes {_some(theirs)}, and this one has "{strange}" among its '
            f"{len(ours)} classes: start the output layer at random, --config.transfer.replace="
            f"'[\"{config.model.head_prefix}*\"]'"
        )
    order = [theirs.index(name) for name in ours]
    for path in kept:
        arrays[path] = np.take(arrays[path], order, axes[path])
    return arrays, ["the outputs of the run are put into the order of this run's classes, by name"]


def _class_axes(config: c.Config, count: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The axis of the classes in every array that has one: the one that is longer in a network for one class more."""
    more = jax.eval_shape(network.of_config(config, count + 1).create, jax.random.key(0))
    found = {}
    for tree in more:
        for path, leaf in paths.flatten(tree).items():
            longer = [axis for axis, size in enumerate(leaf.shape) if size != shapes[path][axis]]
            if longer:
                found[path] = longer[0]
    return found


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name == str(number) for number, name in enumerate(names))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
