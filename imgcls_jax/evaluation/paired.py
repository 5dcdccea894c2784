"""Compare two models on the same images: the difference of every figure with its interval, and McNemar's test."""

from dataclasses import dataclass

import numpy as np

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import bootstrap, scores
from imgcls_jax.evaluation.bootstrap import Interval
from imgcls_jax.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Comparison:
    """How a second model differs from a first one."""

    differences: dict[str, tuple[float, Interval]]
    """By figure but "ece": second minus first, and its 95 % interval. Both models are drawn alike, so that it is
    narrower than two intervals side by side suggest."""
    only_first: int
    """Images that the first model alone gets right."""
    only_second: int
    p_value: float
    """Of McNemar's exact test: how likely numbers at least so unequal are if both models are equally accurate."""


def compare(
    first: Predictions, second: Predictions, *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two models that predicted the same images.

    Raises:
      UserError: the images, their labels or the classes differ, or an output is not finite.
    """
    second = _same_images(first, second)
    found = [scores.of(predictions) for predictions in (first, second)]
    drawn = [bootstrap.replicates(predictions, resamples=resamples, seed=seed) for predictions in (first, second)]
    differences: dict[str, tuple[float, Interval]] = {}
    for name in found[0].overall:
        if name == "ece":  # biased by an amount that differs between the models
            continue
        change = found[1].overall[name] - found[0].overall[name]
        if name in drawn[0].overall:
            interval = bootstrap.percentile(drawn[1].overall[name] - drawn[0].overall[name])
        else:
            influence = drawn[1].influence[name] - drawn[0].influence[name]
            half = bootstrap.Z * float(np.sqrt((influence**2).sum()))
            interval = change - half, change + half
        differences[name] = change, interval
    only_first, only_second = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    return Comparison(differences, only_first, only_second, mcnemar(only_first, only_second))


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the two-sided p value of McNemar's exact test; 1 where both are right on the same images."""
    from scipy import stats

    total = only_first + only_second
    return float(stats.binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def _same_images(first: Predictions, second: Predictions) -> Predictions:
    """The second predictions in the order of the first."""
    if first.class_names != second.class_names:
        raise UserError("the two models have other classes: only models of the same classes can be compared by images")
    if first.names == second.names:
        order = np.arange(len(second))
    else:
        place = {name: i for i, name in enumerate(second.names)}
        if len(first) != len(second) or any(name not in place for name in first.names):
            raise UserError(
                f"the two models were evaluated on other {first.split} images ({len(first):,} and {len(second):,}): "
                "evaluate both on the same data"
            )
        order = np.array([place[name] for name in first.names])
    if not np.array_equal(first.labels, second.labels[order]):
        raise UserError(f"the labels of the {first.split} images differ between the two models: evaluate both again")
    return Predictions(
        second.logits[order], second.labels[order], first.names, second.class_names, second.split, second.views
    )
