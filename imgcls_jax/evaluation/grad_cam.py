"""Grad-CAM (Selvaraju et al., 2017): where in an image a network finds its evidence for a class.

The last feature map that still has a place for what it sees is averaged over its channels, each weighted by the mean
gradient of the class's logit by that channel; what is negative speaks against the class and is left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun
from jaxtyping import Array, Bool, Float, Float32, Int, UInt

from imgcls_jax.errors import UserError
from imgcls_jax.models.network import Tree

BLANKED = 0.2
"""Share of an image that is blanked to test its map."""

# A map of fewer places per side says little of where; small images shrink to one in the last stages.
_LEAST_SIDE = 3
# Where a class token decides, the patches of the last block and of the norm behind it have no influence.
_MOST_TOKEN_STAGES = 3


class Explained(NamedTuple):
    """What is computed for a batch of images."""

    logits: Float32[Array, "b outputs"]
    maps: Float32[Array, "stages b h w"]
    """Of the size of the images the network sees, ≥ 0; of each stage that may tell, the last one first."""
    tells: Bool[Array, " stages"]
    """Whether any logit depends on the stage's map at any place."""


Explain = Callable[[tuple[Tree, Tree], UInt[Array, "b H W c"], Int[Array, " b"]], Explained]
"""(variables, canvases, labels); a label of −1 stands for the class that is predicted."""


def build(graph: nnx.GraphDef, *, prepare: Callable[[Array], Array], stage: str | None = None) -> Explain:
    """Build the function that explains a batch of canvases.

    Args:
      graph: the network in evaluation mode; it has a method `stages`, and `token_grid` where stages are tokens.
      prepare: crops and normalizes canvases to float [b, h, w, c].
      stage: name of the stage whose map is taken; None: the last one with at least 3×3 places.

    Raises:
      UserError: when the function is traced, if there is no such stage, or none is a map.
    """

    def explain(variables: tuple[Tree, Tree], canvases: UInt[Array, "b H W c"], labels: Int[Array, " b"]) -> Explained:
        images = prepare(canvases)
        network = nnx.merge(graph, *variables)
        names: list[str] = []

        def outputs(images: Array) -> tuple[Array, ...]:
            stages = _stages(nnx.merge(graph, *variables), images)
            names[:] = stages
            return tuple(stages.values())

        traced = jax.make_jaxpr(outputs)(images)
        shapes = {name: out.shape for name, out in zip(names, traced.out_avals, strict=True)}
        grid_of = getattr(network, "token_grid", None)
        grid = grid_of(*images.shape[1:3]) if grid_of else None
        chosen = _choose(shapes, grid, stage)
        places = [names.index(name) for name in chosen]

        values = jaxpr_as_fun(traced)(images)
        logits = _one_per_class(values[-1])
        chosen_labels = jnp.where(labels < 0, logits.argmax(-1), labels)

        def gradient(place: int) -> Array:
            rest = _from(traced, place)

            def logit(values: Array) -> Array:
                return jnp.take_along_axis(_one_per_class(rest(images, values)), chosen_labels[:, None], 1).sum()

            return jax.grad(logit)(values[place])

        maps = [_map(values[place], grid) for place in places]
        gradients = [_map(gradient(place), grid) for place in places]
        found = [_cam(*pair) for pair in zip(maps, gradients, strict=True)]
        size = images.shape[1:3]
        return Explained(
            values[-1].astype(jnp.float32),
            jnp.stack([jax.image.resize(cam, (len(images), *size), "bilinear") for cam in found]),
            jnp.stack([(each != 0).any() for each in gradients]),
        )

    return explain


def _stages(network: Any, images: Array) -> dict[str, Array]:
    stages = network.stages(images) if hasattr(network, "stages") else {}
    if not stages:
        raise UserError(
            f"an explanation needs the method stages(x) of {type(network).__name__}, which gives the output of every "
            "stage by name, the logits last"
        )
    return stages


def _choose(shapes: dict[str, tuple[int, ...]], grid: tuple[int, int] | None, stage: str | None) -> list[str]:
    """Name the stages whose maps may tell, the last one first."""
    maps = {name: shape[1:3] for name, shape in shapes.items() if len(shape) == 4}
    tokens = [
        name for name, shape in shapes.items() if len(shape) == 3 and grid is not None and shape[1] >= grid[0] * grid[1]
    ]
    there = [name for name in shapes if name in maps or name in tokens]
    if not there:
        raise UserError(
            "no stage of this network is a feature map: stages(x) gives none of four dimensions, nor tokens with a "
            "method token_grid(height, width)"
        )
    if stage is not None:
        if stage not in there:
            raise UserError(f"there is no feature map {stage!r}: this network has {', '.join(there)}")
        return [stage]
    if tokens:
        return tokens[::-1][:_MOST_TOKEN_STAGES]
    fine = [name for name, size in maps.items() if min(size) >= _LEAST_SIDE]
    return [(fine or list(maps))[-1]]


def _from(traced: Any, place: int) -> Callable[[Array, Array], Array]:
    """Return the last output of a traced function as a function of its input and of its output at this place."""
    target = traced.jaxpr.outvars[place]
    equations = [
        equation.replace(outvars=[Var(out.aval) if out is target else out for out in equation.outvars])
        for equation in traced.jaxpr.eqns
    ]
    jaxpr = traced.jaxpr.replace(
        eqns=equations, invars=[*traced.jaxpr.invars, target], outvars=[traced.jaxpr.outvars[-1]]
    )
    function = jaxpr_as_fun(ClosedJaxpr(jaxpr, traced.consts))
    return lambda images, values: function(images, values)[0]


def _one_per_class(logits: Float[Array, "b outputs"]) -> Float32[Array, "b classes"]:
    """One logit per class; a sigmoid output z speaks for class 1, and −z for class 0."""
    logits = logits.astype(jnp.float32)
    return jnp.concatenate([-logits, logits], -1) if logits.shape[-1] == 1 else logits


def _map(values: Array, grid: tuple[int, int] | None) -> Float[Array, "b h w c"]:
    """Give a stage's output as a map: the patches are the last of its tokens."""
    if values.ndim == 4 or grid is None:
        return values
    patches = values[:, values.shape[1] - grid[0] * grid[1] :]
    return patches.reshape(len(values), *grid, values.shape[-1])


def _cam(values: Float[Array, "b h w c"], gradient: Float[Array, "b h w c"]) -> Float32[Array, "b h w"]:
    weights = gradient.astype(jnp.float32).mean((1, 2), keepdims=True)
    return jax.nn.relu((values.astype(jnp.float32) * weights).sum(-1))


def build_blanked(
    graph: nnx.GraphDef, *, prepare: Callable[[Array], Array]
) -> Callable[[tuple[Tree, Tree], UInt[Array, "b H W c"], Float[Array, "b h w"]], Float32[Array, "2 b outputs"]]:
    """Build the function (variables, canvases, maps) → logits where the hottest fifth of each image, and then the
    coldest, is blanked: set to the mean color."""

    def blanked(
        variables: tuple[Tree, Tree], canvases: UInt[Array, "b H W c"], maps: Float[Array, "b h w"]
    ) -> Float32[Array, "2 b outputs"]:
        images = prepare(canvases)
        network = nnx.merge(graph, *variables)
        flat = maps.reshape(len(maps), -1)
        rank = flat.argsort(-1).argsort(-1)
        count = round(BLANKED * flat.shape[1])

        def logits(hidden: Bool[Array, "b places"]) -> Float32[Array, "b outputs"]:
            seen = jnp.where(hidden.reshape(maps.shape)[..., None], 0, images)
            return network(seen).astype(jnp.float32)

        return jnp.stack([logits(rank >= flat.shape[1] - count), logits(rank < count)])

    return blanked
