"""Muon."""

import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree
from pydantic import Field

from imgcls_jax.config.optim import Fraction, NonNegative, Optim, Optimizer, Part, Positive
from imgcls_jax.errors import UserError
from imgcls_jax.optim.adam import AdamW
from imgcls_jax.optim.links import Scalar, add_decay, descend


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) with Nesterov momentum for kernels, another optimizer for the rest."""

    momentum: Fraction = 0.95
    """Decay of the gradient's average."""
    newton_schulz_steps: Annotated[int, Field(gt=0)] = 5
    """Iterations that orthogonalize a step."""
    weight_decay: NonNegative = 0.0
    """Of its kernels; `rest` has its own."""
    kernels: Literal["all", "convolutions"] = "all"
    """Which kernels it takes. "convolutions" leaves dense layers to `rest`: to orthogonalize a wide one costs as much
    as a small network's step."""
    normalize: bool = False
    """Before each step, scale each of its kernels to the norm √(output channels), as airbench does. A kernel before a
    BatchNorm then has a learning rate that does not fall as the kernel grows."""
    rest: Optimizer = dataclasses.field(default_factory=lambda: AdamW(weight_decay=0.0))
    """Optimizer of all other parameters."""
    rest_learning_rate_scale: Positive = 0.1
    """Learning rate of `rest`, relative to the schedule's."""

    def split(self, params: Any) -> tuple[dict[str, Part], Any]:
        parts = {"main": Part(self), "rest": Part(self.rest, self.rest_learning_rate_scale)}
        return parts, jax.tree.map_with_path(lambda path, p: "main" if self._takes(path, p) else "rest", params)

    def chain(self, learning_rate: Scalar, *, rates: Any, decay: Any) -> optax.GradientTransformation:
        normalize = [_from_the_sphere()] if self.normalize else []
        return optax.chain(self._orthogonalize(), add_decay(decay), descend(learning_rate, rates), *normalize)

    def check(self, optim: Optim, where: str) -> None:
        rest = type(self.rest)
        if rest.split is not Optimizer.split or rest.evaluation_params is not Optimizer.evaluation_params:
            raise UserError(
                f"{where}.rest cannot be {rest.__name__}, which must have all parameters to itself: take another one"
            )
        self.rest.check(optim, f"{where}.rest")

    def _takes(self, path: tuple[Any, ...], p: Any) -> bool:
        """Whether a parameter is orthogonalized: a matrix or convolution, not ViT's tokens or position embeddings."""
        return bool(path[-1].key == "kernel" and p.ndim > (2 if self.kernels == "convolutions" else 1))

    def _orthogonalize(self) -> optax.GradientTransformation:
        """Orthogonalized momentum of kernels, before weight decay and learning rate.

        A kernel ([in, out], or HWIO) is the matrix [every axis but the last, last], as in Jordan's reference
        implementation, where it is torch's `weight.view(len(weight), -1)`; steps are scaled by √max(1, out / in) as
        there.
        """

        def dimensions(tree: PyTree) -> PyTree:
            return jax.tree.map(
                lambda p: optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), (p.ndim - 1,)), tree
            )

        def scale_by_shape(u: Float[Array, "..."]) -> Float[Array, "..."]:
            return u * max(1.0, u.shape[-1] / (u.size / u.shape[-1])) ** 0.5

        return optax.chain(
            optax.contrib.scale_by_muon(
                ns_steps=self.newton_schulz_steps, beta=self.momentum, weight_dimension_numbers=dimensions
            ),
            optax.stateless(lambda updates, _: jax.tree.map(scale_by_shape, updates)),
        )


def _from_the_sphere() -> optax.GradientTransformation:
    """Let steps start from the kernel scaled to the norm √outputs, in place of the kernel itself."""

    def moved(update: Float[Array, "*kernel"], p: Float[Array, "*kernel"]) -> Float[Array, "*kernel"]:
        norm = jnp.maximum(jnp.linalg.norm(p), 1e-12)  # a kernel of zeros remains where it is
        return update + (p.shape[-1] ** 0.5 / norm - 1) * p

    return optax.stateless(lambda updates, params: jax.tree.map(moved, updates, params))
