"""What callbacks keep in a checkpoint."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax.errors import UserError
from imgcls_jax.training.callbacks.base import Callback


def states(callbacks: Sequence[Callback]) -> dict[str, dict[str, Any]]:
    """Return the states of the callbacks that have one, as they come back from a checkpoint.

    Raises:
      UserError: one is not JSON.
    """
    found = {}
    for name, callback in _named(callbacks).items():
        if type(callback).state_dict is not Callback.state_dict:
            try:
                found[name] = json.loads(json.dumps(callback.state_dict()))
            except (TypeError, ValueError) as error:
                raise UserError(f"the state_dict of the callback {name} is not JSON: {error}") from None
    return found


def load(callbacks: Sequence[Callback], saved: dict[str, dict[str, Any]]) -> None:
    """Give the callbacks the states that `states` returned."""
    for name, callback in _named(callbacks).items():
        if name in saved:
            callback.load_state_dict(saved[name])


def check(saved: Mapping[str, Any], given: Mapping[str, Any], workdir: Path) -> None:
    """Raise UserError where a checkpoint has the state of a callback that was not given."""
    if lost := sorted(saved.keys() - given.keys()):
        raise UserError(
            f"{workdir} was trained with the callback {lost[0]}, whose state is part of the run: "
            f"give it to `train` again"
        )


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by the name of their class, with a number where there are several of one class."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        name, number = type(callback).__qualname__, 1
        while (key := name if number == 1 else f"{name} {number}") in named:
            number += 1
        named[key] = callback
    return named
