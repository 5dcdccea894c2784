"""The table of docs/models.md: `python -m benchmarks.models [NAME…]`, a line for each architecture.

Parameters and multiply-adds are counted in the model itself with a plain head for 1,000 classes (10 on small
images), at the image size of its published accuracy. The error is
that of the logits of random weights in float32 against torchvision in float64, beside torchvision's own in float32
(`imgcls_jax.doctor.parity`, two images of 64×64 pixels); it needs torch and torchvision.
"""

import functools
import math
import sys
from collections.abc import Sequence

import jax
import jax.extend.core
import jax.numpy as jnp
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax import models, weights
from imgcls_jax.doctor import parity
from imgcls_jax.errors import UserError
from imgcls_jax.models import network


def multiply_adds(config: c.Model, side: int, classes: int) -> int:
    """Of the convolutions and matrix products of one image's forward pass, as torchvision counts a model's "FLOPS"."""
    model, variables = _abstract(config, side, classes)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return _count(jax.make_jaxpr(lambda variables, x: nnx.merge(model.evaluate, *variables)(x))(variables, image).jaxpr)


def _abstract(config: c.Model, side: int, classes: int) -> tuple[network.Network, tuple[network.Tree, network.Tree]]:
    """The model, and the shapes of its parameters and statistics."""
    build = functools.partial(config.build, num_classes=classes, channels=3, image_size=(side, side), dtype=jnp.float32)
    model = network.split(build, c.BatchNormMode())
    return model, jax.eval_shape(model.create, jax.random.key(0))


def _count(jaxpr: jax.extend.core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        output = equation.outvars[0].aval.shape if equation.outvars else ()
        match equation.primitive.name:
            case "conv_general_dilated":
                kernel = equation.invars[1].aval.shape
                features = equation.params["dimension_numbers"].rhs_spec[0]
                total += math.prod(output) * math.prod(kernel) // kernel[features]
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                total += math.prod(output) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            case _:
                total += sum(map(_count, jax.extend.core.jaxprs_in_params(equation.params)))
    return total


def num_params(config: c.Model, side: int, classes: int) -> int:
    """Elements of all parameters."""
    _, (params, _) = _abstract(config, side, classes)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def logits_error(name: str) -> tuple[float, float] | None:
    """Relative error of our logits and of torch's in float32; None where torchvision has no such model."""
    try:
        row = parity.compare(*parity.load(name, None, 64), 64)[-1]
    except UserError:
        return None
    return row.error, row.torch_error


def main(names: Sequence[str]) -> None:
    print("| model | image | parameters | multiply-adds | error of logits (torch's own) | weights |")
    print("|---|---|---|---|---|---|")
    architectures = models.architectures()
    for name in names or architectures:
        config = architectures[name]
        entries = [entry for entry in weights.published().values() if entry.model == name]
        side, classes = config.usual_size, config.usual_classes
        error = logits_error(name)
        cells = (
            name,
            f"{side}×{side}",
            f"{num_params(config, side, classes):,}",
            f"{multiply_adds(config, side, classes) / 1e9:.3f} G",
            f"{error[0]:.1e} ({error[1]:.1e})" if error else "–",
            ", ".join(f"`{entry.name}` {entry.top1:g} %" for entry in entries) or "–",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
