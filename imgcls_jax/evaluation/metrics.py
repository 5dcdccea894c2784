"""Metrics as sums over examples, so that any number of batches and devices adds up exactly.

A training step sums loss, top-1 and top-5 (`Metrics`); an evaluation also what `Config.metrics` asks for (`Figures`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, no_type_check

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jaxtyping import Array, Bool, Float, Int, Shaped
from pydantic import Field

from imgcls_jax import config as c
from imgcls_jax.config.optim import Task
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import ranking, scores, tasks
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.optim import losses

Label = Int[Array, " b"] | Shaped[Array, "b m"]
"""A class per example; or several labels, or numbers."""


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Averages over the examples seen so far; each carries its (total, count)."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    top1: clu_metrics.Average.from_output("top1")  # type: ignore[valid-type]
    top5: clu_metrics.Average.from_output("top5")  # type: ignore[valid-type]

    def result(self) -> dict[str, float]:
        """Compute {"loss", "top1", "top5", "count"}: mean loss, shares of right answers in [0, 1], number of
        examples."""
        host = jax.device_get(self)
        averages = {name: getattr(host, name) for name in ("loss", "top1", "top5")}
        count = int(host.top1.count)
        return {name: float(a.total) / max(count, 1) for name, a in averages.items()} | {"count": count}

    @staticmethod
    def of_batch(loss: Float[Array, " b"], logits: Float[Array, "b k"], targets: Float[Array, "b m"]) -> "Metrics":
        """Compute the metrics of a training batch."""
        # Under mixup a prediction counts as right where it names the class of the greater share.
        return batch_metrics(loss, logits, jnp.argmax(targets, -1))  # type: ignore[return-value]


@flax.struct.dataclass
class LossMetrics(clu_metrics.Collection):
    """The average loss over the examples seen so far, of tasks other than one class per image."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]

    def result(self) -> dict[str, float]:
        """Compute {"loss", "count"}."""
        loss = jax.device_get(self.loss)
        return {"loss": float(loss.total) / max(int(loss.count), 1), "count": int(loss.count)}

    @staticmethod
    def of_batch(loss: Float[Array, " b"], logits: Float[Array, "b k"], targets: Float[Array, "b m"]) -> "LossMetrics":
        """Compute the metrics of a training batch."""
        return LossMetrics.single_from_model_output(loss=loss)


AnyMetrics = Metrics | LossMetrics


def empty(task: Task) -> AnyMetrics:
    """Return the metrics of no example."""
    return (Metrics if task == "classes" else LossMetrics).empty()


def batch_metrics(
    loss: Float[Array, " b"],
    logits: Float[Array, "b k"],
    label: Label,
    mask: Bool[Array, " b"] | None = None,
) -> AnyMetrics:
    """Compute the metrics of one batch; rows whose mask is False do not count. With at most five classes top-5 is 1."""
    if label.ndim == 2:
        return LossMetrics.single_from_model_output(mask=mask, loss=loss)
    top1, top5 = (losses.correct(logits, label, k).astype(jnp.float32) for k in (1, 5))
    return Metrics.single_from_model_output(mask=mask, loss=loss, top1=top1, top5=top5)


# ---- what an evaluation sums ----------------------------------------------------------------------------------------


@no_type_check  # a tree of its shapes has the same form
class Figures(flax.struct.PyTreeNode):
    """What an evaluation has summed so far; a pytree, to be carried from one jitted step to the next."""

    metrics: AnyMetrics
    sums: dict[str, Any]
    """The sums of each metric of `Config.metrics` by its name."""


def init(metrics: Sequence[c.Metric], outputs: int, labels: np.ndarray | None = None) -> Figures:
    """Return the sums over no example.

    Args:
      metrics: `Config.metrics`.
      outputs: number of logits per example.
      labels: those of a split, whose shape and dtype tell the task; None: a class per image.

    Raises:
      UserError: a metric counts rows that its mask leaves out.
    """
    # A batch of padding alone must add nothing; that also tells the shapes of the sums.
    labels = np.zeros(0, np.int32) if labels is None else labels
    no_label = jnp.zeros((1, *labels.shape[1:]), labels.dtype)
    nothing = jnp.zeros((1, outputs), jnp.float32), no_label, jnp.zeros(1, bool)
    sums = {metric.name: jax.device_get(jax.jit(metric.sums)(*nothing)) for metric in metrics}
    for name, tree in sums.items():
        if any(np.any(leaf != 0) for leaf in jax.tree.leaves(tree)):
            raise UserError(f'the metric "{name}" counts padding: rows whose mask is False must add zero to its sums')
    return Figures(metrics=empty(tasks.of_labels(labels)), sums=sums)


def update(
    figures: Figures,
    metrics: Sequence[c.Metric],
    *,
    loss: Float[Array, " b"],
    logits: Float[Array, "b outputs"],
    label: Label,
    mask: Bool[Array, " b"],
) -> Figures:
    """Add a batch; rows whose mask is False do not count. Traced inside `jax.jit`.

    Args:
      figures: sums so far, of `init`.
      metrics: those that `init` was given.
    """
    new = {metric.name: metric.sums(logits, label, mask) for metric in metrics}
    sums = jax.tree.map(lambda old, more: old + more, figures.sums, new)
    return Figures(metrics=figures.metrics.merge(batch_metrics(loss, logits, label, mask)), sums=sums)


def need_all(metrics: Sequence[c.Metric], labels: np.ndarray) -> bool:
    """Whether a metric, or the task of these labels, needs the outputs for all images."""
    return labels.ndim == 2 or any(isinstance(metric, c.MetricOfAll) for metric in metrics)


def result(
    figures: Figures, metrics: Sequence[c.Metric], logits: np.ndarray | None = None, labels: np.ndarray | None = None
) -> dict[str, float]:
    """Compute the values on the host: those of `Metrics.result`, then each of `metrics` by its name.

    Args:
      figures: the sums over all examples.
      metrics: those that `init` was given.
      logits: [n, outputs] of all examples, where one of the metrics needs them.
      labels: [n] or [n, outputs], likewise.
    """
    sums = jax.device_get(figures.sums)

    def value(metric: c.Metric) -> float:
        if isinstance(metric, c.MetricOfAll):
            assert logits is not None and labels is not None
            return float(metric.of_all(logits, labels))
        return float(metric.result(sums[metric.name]))

    of_task = {} if labels is None or logits is None or labels.ndim == 1 else tasks.figures(logits, labels)
    return figures.metrics.result() | of_task | {metric.name: value(metric) for metric in metrics}


# ---- names and directions -------------------------------------------------------------------------------------------


def directions(metrics: Sequence[c.Metric]) -> dict[str, bool]:
    """Tell by name whether the highest value of a metric is the best: of those of every task, and `Config.metrics`."""
    always = tasks.DIRECTIONS["labels"] | tasks.DIRECTIONS["numbers"] | tasks.DIRECTIONS["classes"]
    return always | {metric.name: metric.higher_is_better for metric in metrics}


def score(values: Mapping[str, float], name: str, metrics: Sequence[c.Metric]) -> float:
    """Return the metric of that name, turned so that higher is better; NaN and infinity count as the worst value.

    Args:
      values: an evaluation's metrics by name.
      metrics: `Config.metrics`.
    """
    value = values[name]
    if not math.isfinite(value):
        return -math.inf
    return value if directions(metrics)[name] else -value


def check(config: c.Config) -> None:
    """Raise UserError for metrics without a usable name, and for settings that name a metric which is not there."""
    task = config.loss.task
    always = tasks.DIRECTIONS[task]
    taken = dict.fromkeys((*always, "count"), "which every evaluation gives")
    for index, metric in enumerate(config.metrics):
        name, kind = getattr(metric, "name", None), type(metric).__name__
        if not isinstance(name, str) or not name:
            raise UserError(f'metrics[{index}]: {kind} has no name: declare `name: ClassVar[str] = "…"` in it')
        if name in taken:
            raise UserError(f'metrics[{index}]: {kind} is named "{name}", {taken[name]}: rename or remove it')
        if metric.task != task:
            raise UserError(
                f"metrics[{index}]: {kind} is for {tasks.NAMES[metric.task]}, and {type(config.loss).__name__} is a "
                f"loss for {tasks.NAMES[task]}: remove it; every evaluation gives {', '.join(always)}"
            )
        taken[name] = f"as {kind} is"
    shape = config.optim.schedule.shape
    own = [*always, *(metric.name for metric in config.metrics)]
    evaluated = [f"{evaluator.name}/{name}" for evaluator in config.evaluators for name in own]
    wanted = {
        "best.metric": (config.best.metric, own + evaluated),
        f"optim.schedule.shape ({type(shape).__name__})": (shape.watched(), own),
    }
    for where, (name, known) in wanted.items():
        if name is not None and name not in known:
            raise UserError(
                f'{where} names the metric "{name}", which no evaluation computes: take one of {", ".join(known)}, or '
                "add it to metrics"
            )


# ---- metrics of this package ----------------------------------------------------------------------------------------


def always_right(name: str, outputs: int) -> bool:
    """Tell whether "topK" is 100 % for any network, as there are no more than K classes to choose from."""
    top = re.fullmatch(r"(?:.*/)?top(\d+)", name)
    return top is not None and int(top[1]) >= max(outputs, 2)


def predicted(logits: Float[Array, "b outputs"]) -> Int[Array, " b"]:
    """Return the most probable class of each row, the lower of equals; −1 for a row with a NaN.

    Of one-sigmoid logits [b, 1], class 1 is predicted above zero.
    """
    logits = losses.logits_of_classes(logits)
    return jnp.where(jnp.isnan(logits).any(axis=-1), -1, jnp.argmax(logits, axis=-1))


class TopK(c.Metric):
    """Share of examples whose class is among the k most probable ones; named "top3" for k = 3."""

    k: Annotated[int, Field(gt=0)]
    """Number of classes that may be named."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"top{self.k}"

    def sums(self, logits: Array, labels: Array, mask: Array) -> tuple[Array, Array]:
        return (losses.correct(logits, labels, self.k) & mask).sum(), mask.sum()

    def result(self, sums: Any) -> float:
        right, count = sums
        return float(right / max(count, 1))


class BalancedAccuracy(c.Metric):
    """Mean over classes of the share of their examples that are predicted right, as scikit-learn's
    balanced_accuracy_score; classes without examples do not count."""

    name: ClassVar[str] = "balanced_accuracy"

    def sums(self, logits: Array, labels: Array, mask: Array) -> tuple[Array, Array]:
        right, _, labeled = _counts(logits, labels, mask)
        return right, labeled

    def result(self, sums: Any) -> float:
        right, labeled = sums
        there = labeled > 0
        return float((right[there] / labeled[there]).mean()) if there.any() else 0.0


class MacroF1(c.Metric):
    """Mean over classes of the F1 score, as scikit-learn's f1_score(average="macro"); classes that are neither labels
    nor predicted do not count."""

    name: ClassVar[str] = "macro_f1"

    def sums(self, logits: Array, labels: Array, mask: Array) -> tuple[Array, Array, Array]:
        return _counts(logits, labels, mask)

    def result(self, sums: Any) -> float:
        right, named, labeled = sums
        total = named + labeled
        there = total > 0
        return float((2 * right[there] / total[there]).mean()) if there.any() else 0.0


class Score(c.MetricOfAll):
    """A figure of `imgcls evaluate` by its name, "auroc" say; see docs/figures.md for what each is."""

    figure: Literal["precision", "recall", "weighted_f1", "auroc", "average_precision", "log_loss", "brier", "ece"]
    """Which one; it is the metric's name, too."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.figure

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        return self.figure not in scores.LOWER_IS_BETTER

    def of_all(self, logits: np.ndarray, labels: np.ndarray) -> float:
        names = tuple(map(str, range(max(logits.shape[1], 2))))
        made = Predictions(logits, labels, ("",) * len(labels), names, "validation")
        if not made.is_finite:
            return math.nan
        return scores.of(made, ranked=self.figure in ranking.FIGURES).overall[self.figure]


def _counts(
    logits: Float[Array, "b outputs"], labels: Int[Array, " b"], mask: Bool[Array, " b"]
) -> tuple[Int[Array, " k"], Int[Array, " k"], Int[Array, " k"]]:
    """Examples of each class that are predicted right, that are predicted as it, and that are labeled as it; int32."""
    classes = jnp.arange(max(logits.shape[-1], 2))
    named = (predicted(logits)[:, None] == classes) & mask[:, None]
    labeled = (labels[:, None] == classes) & mask[:, None]
    return tuple(rows.sum(0) for rows in (named & labeled, named, labeled))  # type: ignore[return-value]
