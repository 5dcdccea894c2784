"""Sharpness-aware minimization (Foret et al. 2021): the gradient of the worst point near the parameters.

The step computes gradients at the parameters, moves up them by `perturb`, computes gradients of the same batch there,
and hands those to the optimizer at the *unperturbed* parameters.
"""

import jax
import optax
from jaxtyping import Array, Float, PyTree


def perturb(
    params: PyTree[Float[Array, "..."]], grads: PyTree[Float[Array, "..."]], radius: float
) -> PyTree[Float[Array, "..."]]:
    """Move the parameters by `radius` (in the L2 norm over all parameters) along the gradient.

    The norm's 1e-12 is the reference implementation's; a zero gradient moves nothing. Gradients must be unscaled.
    """
    factor = radius / (optax.tree.norm(grads) + 1e-12)
    return jax.tree.map(lambda p, g: (p + factor * g).astype(p.dtype), params, grads)
