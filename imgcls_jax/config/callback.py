"""The root of the callbacks that a config may ask for."""

from typing import TYPE_CHECKING

from imgcls_jax.config.registry import Component

if TYPE_CHECKING:
    from imgcls_jax.training.callbacks import Callback as RunCallback


class Callback(Component, root=True):
    """Settings of something that watches a run, or stops it. A subclass states its settings and builds it:

        class StopAt(c.Callback):
            top1: float = 0.95
            \"""Validation accuracy in [0, 1] at which training ends.\"""

            def build(self):
                return StopWhenGood(self.top1)  # an `imgcls_jax.Callback`

    It is saved with the config, so that a resumed run has it again without being told.
    """

    def build(self) -> "RunCallback":
        """Make the `imgcls_jax.Callback` that the training loop calls; called once at the start of a run."""
        raise NotImplementedError(f"{type(self).__name__} has no method build")
