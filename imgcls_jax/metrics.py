"""Loss and accuracy as sums over examples, so that any number of batches and devices adds up exactly."""

import flax
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jaxtyping import Array, Bool, Float, Int

from imgcls_jax import losses


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Averages over the examples seen so far; each carries its (total, count)."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    top1: clu_metrics.Average.from_output("top1")  # type: ignore[valid-type]
    top5: clu_metrics.Average.from_output("top5")  # type: ignore[valid-type]

    def result(self) -> dict[str, float]:
        """{"loss", "top1", "top5", "count"}: mean loss, shares of right answers in [0, 1], number of examples."""
        host = jax.device_get(self)
        averages = {name: getattr(host, name) for name in ("loss", "top1", "top5")}
        count = int(host.top1.count)
        return {name: float(a.total) / max(count, 1) for name, a in averages.items()} | {"count": count}


def batch_metrics(
    loss: Float[Array, " b"],
    logits: Float[Array, "b k"],
    label: Int[Array, " b"],
    mask: Bool[Array, " b"] | None = None,
) -> Metrics:
    """The metrics of one batch; rows whose mask is False do not count. With five classes or fewer top-5 is 1."""
    top1, top5 = (losses.correct(logits, label, k).astype(jnp.float32) for k in (1, 5))
    return Metrics.single_from_model_output(mask=mask, loss=loss, top1=top1, top5=top5)
