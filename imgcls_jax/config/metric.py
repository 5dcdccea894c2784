"""The root of the metrics that a config may ask for."""

from typing import TYPE_CHECKING, Any, ClassVar

from imgcls_jax.config.optim import Task
from imgcls_jax.config.registry import Component

if TYPE_CHECKING:
    import numpy as np
    from jax import Array


class Metric(Component, root=True):
    """A metric that every evaluation computes besides loss, top-1 and top-5, and that may decide the best checkpoint.

    It is computed from sums over examples, so that it is exact for any batch size and number of devices:

        class Brier(c.Metric):
            name: ClassVar[str] = "brier"
            higher_is_better: ClassVar[bool] = False

            def sums(self, logits, labels, mask):
                errors = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1])) ** 2
                return jnp.where(mask, errors.sum(1), 0).sum(), mask.sum()

            def result(self, sums):
                total, count = sums
                return total / count
    """

    name: ClassVar[str]
    """Name of the metric in results, in logs and in `Best.metric`."""
    higher_is_better: ClassVar[bool] = True
    """Whether the highest value is the best one, or the lowest."""
    task: ClassVar[Task] = "classes"
    """The task (`Loss.task`) whose labels it compares with; those of "labels" and "numbers" are [b, outputs]."""

    def sums(self, logits: "Array", labels: "Array", mask: "Array") -> Any:
        """Sum what the metric needs over a batch; traced inside `jax.jit`.

        Args:
          logits: float32 [b, outputs]: one per class, or [b, 1] of a head of one sigmoid output, for class 1.
          labels: int32 [b].
          mask: bool [b]; rows where it is False are padding and must add zero.

        Returns:
          A pytree of arrays whose shapes do not depend on b; those of all batches are added up. Counts are exact as
          int32, which a sum of booleans is.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method sums")

    def result(self, sums: Any) -> float:
        """Compute the metric from the sums over all examples, as numpy arrays."""
        raise NotImplementedError(f"{type(self).__name__} has no method result")


class MetricOfAll(Metric, abstract=True):
    """A metric that no sums over examples give, such as an area under a curve: it is computed on the host from the
    outputs for all images of a split."""

    def sums(self, logits: "Array", labels: "Array", mask: "Array") -> Any:
        return ()

    def of_all(self, logits: "np.ndarray", labels: "np.ndarray") -> float:
        """Compute the metric.

        Args:
          logits: float32 [n, outputs]: one per class, or [n, 1] of a head of one sigmoid output, for class 1.
          labels: int32 [n].
        """
        raise NotImplementedError(f"{type(self).__name__} has no method of_all")
