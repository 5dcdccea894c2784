"""Random numbers: each image draws from its own key, so that its parameters do not depend on its batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from imgcls_jax.xla.fence import materialize


def each(function: Callable[..., Any], keys: Key[Array, "b"], *args: Any, **kwargs: Any) -> Any:
    """Draw parameters for every image: `function(key, …)` for each key, stacked."""
    return materialize(jax.vmap(lambda key: function(key, *args, **kwargs))(keys))


def coins(keys: Key[Array, "b"], p: float) -> Bool[Array, "b"]:
    """Draw True with probability `p` for every image."""
    return materialize(jax.vmap(jax.random.uniform)(keys)) < p


def fold_in(keys: Key[Array, "b"], number: int) -> Key[Array, "b"]:
    """Fold `number` into every key."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def between(unit: Float[Array, "*b"], low: float | Float[Array, "*#b"], high: float | Float[Array, "*#b"]) -> Array:
    """Map [0, 1) to [low, high), and to exactly `low` where both are equal."""
    return low + unit * (high - low)


def below(unit: Float[Array, "*b"], count: int | Int[Array, "*#b"]) -> Int[Array, "*b"]:
    """Map [0, 1) to 0 … count − 1, each equally likely (to 2⁻²³)."""
    return jnp.minimum(jnp.floor(unit * count).astype(jnp.int32), count - 1)
