"""What watches a training run, or stops it; `Callback` is the base class of one's own."""

from imgcls_jax.training.callbacks.base import Callback

__all__ = ["Callback"]
