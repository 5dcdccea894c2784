"""Whether a checkpoint's arrays are those of the model."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from imgcls_jax.errors import UserError
from imgcls_jax.weights import first_convolution, paths

# Lines of one error.
_SHOWN = 400


def fit(
    loaded: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    replace: Iterable[str] = (),
    problems: Iterable[str] = (),
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """The checkpoint's arrays that the model keeps: all but the replaced, if every other one has its place.

    Args:
      loaded: path → array of the checkpoint.
      shapes: path → shape of every parameter and statistic of the model.
      replace: wildcards of what the checkpoint need not have, or may have in another shape.
      problems: what else is wrong with the checkpoint, for the same error.
      notes: gets a sentence where a first convolution for RGB is adapted to the channels of the model's images.

    Raises:
      UserError: names every array that is missing, has another shape, or has no place in the model.
    """
    replace = tuple(replace)
    problems = list(problems)
    kept = {}
    for path, shape in shapes.items():
        if paths.matches(path, replace):
            continue
        if path not in loaded:
            problems.append(f"{path} {shape} is not in the checkpoint")
        elif first_convolution.fits(tuple(loaded[path].shape), shape):
            kept[path] = first_convolution.adapted(np.asarray(loaded[path]), shape[2])
            if notes is not None:
                notes.append(first_convolution.note(path, shape[2]))
        elif tuple(loaded[path].shape) != shape:
            problems.append(f"{path} is {shape} here and {tuple(loaded[path].shape)} in the checkpoint")
        else:
            kept[path] = loaded[path]
    for path in loaded:
        if path not in shapes and not paths.matches(path, replace):
            problems.append(f"{path} {tuple(loaded[path].shape)} of the checkpoint has no place in the model")
    if problems:
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        problems = [problem[:300] for problem in problems[:_SHOWN]] + more
        raise UserError(
            "the checkpoint does not fit the model; add what shall start at random to transfer.replace, or choose the "
            "model it was made for:\n  " + "\n  ".join(problems)
        )
    return kept
