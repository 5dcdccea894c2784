"""Find the best epoch of a run, and tell whether to wait for a better one; both from its history alone."""

import math

from imgcls_jax import config as c
from imgcls_jax.evaluation import metrics
from imgcls_jax.record.documents import EpochRecord


def figure(record: EpochRecord, metric: str) -> float:
    """Return a metric of an epoch: "top1" of the validation images, "NAME/top1" of a named evaluator's."""
    evaluator, slash, name = metric.rpartition("/")
    figures = record["evaluators"][evaluator] if slash else record["validation"]
    assert figures is not None, "checked before training"
    return figures[name]


def score(record: EpochRecord, config: c.Config) -> float:
    """Return the metric of `config.best` in an epoch, turned so that higher is better."""
    name = config.best.metric.rpartition("/")[2]
    return metrics.score({name: figure(record, config.best.metric)}, name, config.metrics)


def best_epoch(history: list[EpochRecord], config: c.Config) -> int | None:
    """Return the epoch with the best metric, counted from 0; without a metric, the last epoch.

    Among equals it is the one of the lowest loss on the same images, and the first of those. What is not finite is
    worse than anything finite. None where no epoch is finished.
    """
    best = None
    for number in range(len(history)):
        best = better(history[: number + 1], best, config)
    return best


def better(history: list[EpochRecord], best: int | None, config: c.Config) -> int:
    """Return the best epoch of a history whose last one is new, given the best one before it; see `best_epoch`."""
    newest = len(history) - 1
    if best is None or ("/" not in config.best.metric and history[-1]["validation"] is None):
        return newest
    return newest if _rank(history[-1], config) > _rank(history[best], config) else best


def _rank(record: EpochRecord, config: c.Config) -> tuple[float, float]:
    evaluator, slash, _ = config.best.metric.rpartition("/")
    loss = figure(record, f"{evaluator}{slash}loss")
    return score(record, config), -loss if math.isfinite(loss) else -math.inf


def out_of_patience(history: list[EpochRecord], config: c.Config) -> bool:
    """Tell whether the metric has not improved by more than `min_delta` for `patience` epochs."""
    stopping = config.early_stopping
    if stopping is None:
        return False
    reference, waited = -math.inf, 0
    for record in history:
        value = score(record, config)
        reference, waited = (value, 0) if value > reference + stopping.min_delta else (reference, waited + 1)
    return waited >= stopping.patience
