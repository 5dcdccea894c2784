"""Count the arithmetic of a traced program's matrix products and convolutions, which peak rates are stated of."""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core


def flops(program: core.ClosedJaxpr | core.Jaxpr) -> int:
    """Return twice the multiplications of all products, over all devices.

    A scan's body counts as often as it runs, a while loop's once, of a conditional the branch with least: a platform's
    own way of computing the same may take more. What nothing uses does not count. The zeros that pad a convolution
    count; those between the rows of a strided one's gradient do not.
    """
    jaxpr: Any = program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
    total = 0
    used = {id(variable) for variable in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if not equation.effects and not any(id(variable) in used for variable in equation.outvars):
            continue
        used |= {id(variable) for variable in equation.invars}
        name, parameters = equation.primitive.name, equation.params
        shapes = [_shape(variable) for variable in equation.invars]
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            summed = math.prod(shapes[0][axis] for axis in contracted)
            total += 2 * math.prod(_shape(equation.outvars[0])) * summed
        elif name == "conv_general_dilated":
            kernel = shapes[1]
            summed = math.prod(kernel) // kernel[parameters["dimension_numbers"].rhs_spec[0]]
            outputs = math.prod(_shape(equation.outvars[0])) // math.prod(parameters["lhs_dilation"])
            total += 2 * outputs * summed
        else:
            inner = [flops(part) for value in parameters.values() for part in _programs(value)]
            total += min(inner, default=0) if name == "cond" else sum(inner) * parameters.get("length", 1)
    return total


def _shape(variable: Any) -> tuple[int, ...]:
    return getattr(variable.aval, "shape", ())


def _programs(value: Any) -> Iterator[core.ClosedJaxpr | core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _programs(item)
