"""Fit heads to features: a linear one, its L2 strength found by cross-validation, and nearest neighbors."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

STRENGTHS = tuple(float(f"{10**exponent:.2g}") for exponent in np.arange(1.5, -3, -0.5))
"""The default path, strongest first: 32 … 0.0032."""
NEIGHBORS = (1, 3, 5, 10, 20)
_MOST_ITERATIONS = 1000
# Bias of a class without training images, which is never to be predicted.
_NEVER = -1e4

Features = Float[np.ndarray, "n features"]
Labels = Int[np.ndarray, " n"]
Progress = Callable[[str, int, int | None], None]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One value that was tried."""

    value: float
    """Strength of the regularization, or number of neighbors."""
    top1: float
    """Mean accuracy over the folds, in [0, 1]."""
    std: float
    """Standard deviation over the folds."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear head: logits = features · kernel + bias."""

    kernel: Float32[np.ndarray, "features classes"]
    bias: Float32[np.ndarray, " classes"]
    converged: bool
    """Whether the fit ended before its most iterations."""

    def logits(self, features: Features) -> Float[np.ndarray, "n classes"]:
        """Compute the logits, in float64."""
        return features.astype(np.float64) @ self.kernel.astype(np.float64) + self.bias


def folds(labels: Labels, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide examples into folds: (rows to fit on, rows to test on) of each.

    They are stratified by class, unless a class has fewer images than there are folds.
    """
    enough = np.unique(labels, return_counts=True)[1].min() >= count
    made = (StratifiedKFold if enough else KFold)(count, shuffle=True, random_state=seed)
    return list(made.split(np.zeros(len(labels)), labels))


def path(
    features: Features,
    labels: Labels,
    strengths: Sequence[float],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    on_progress: Progress,
) -> list[Choice]:
    """Cross-validate the linear head at each strength, from the strongest down, each fit starting at the one before."""
    ordered = sorted(strengths, reverse=True)
    right = np.zeros((len(ordered), len(parts)))
    for j, (train, test) in enumerate(parts):
        fitted = None
        for i, strength in enumerate(ordered):
            on_progress("cross-validation", j * len(ordered) + i, len(ordered) * len(parts))
            fitted = _Scaled.fit(features[train], labels[train], strength, start=fitted)
            right[i, j] = (fitted.model.predict(fitted.scaled(features[test])) == labels[test]).mean()
    return _choices(ordered, right)


def nearest(
    features: Features, labels: Labels, counts: Sequence[int], parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[Choice]:
    """Cross-validate the vote of the nearest neighbors by cosine similarity, for each number of them."""
    smallest = min(len(train) for train, _ in parts)
    counts = [count for count in counts if count <= smallest]
    right = np.array([[_vote(features, labels, part, count) for part in parts] for count in counts])
    return _choices(counts, right)


def _vote(features: Features, labels: Labels, part: tuple[np.ndarray, np.ndarray], count: int) -> float:
    train, test = part
    return float((neighbors(features[train], labels[train], count).predict(features[test]) == labels[test]).mean())


def neighbors(features: Features, labels: Labels, count: int) -> KNeighborsClassifier:
    """Make the classifier by the vote of `count` neighbors."""
    return KNeighborsClassifier(count, metric="cosine", algorithm="brute").fit(features, labels)


def best(choices: Sequence[Choice]) -> Choice:
    """Return the choice of the highest accuracy; of equal ones the first: the strongest, the fewest."""
    return max(choices, key=lambda choice: choice.top1)


def linear(features: Features, labels: Labels, strength: float, num_classes: int) -> Linear:
    """Fit the linear head: the mean cross-entropy plus strength / 2 times the squared norm of the kernel is smallest.

    The features are centered and divided by their root mean square, one number for all, before the norm is taken, so
    that a strength means the same for every network. The head returned takes them as they are.

    Args:
      features: of the training images.
      labels: their classes.
      strength: of the regularization.
      num_classes: number of outputs; a class without images is never predicted.
    """
    fitted = _Scaled.fit(features, labels, strength)
    coefficients, intercept = fitted.model.coef_, fitted.model.intercept_
    if len(coefficients) == 1:  # of two classes, scikit-learn gives the difference of their logits
        coefficients, intercept = (np.concatenate([-x / 2, x / 2]) for x in (coefficients, intercept))
    kernel = np.zeros((features.shape[1], num_classes))
    bias = np.full(num_classes, _NEVER)
    kernel[:, fitted.model.classes_] = coefficients.T / fitted.scale
    bias[fitted.model.classes_] = intercept - coefficients @ (fitted.mean / fitted.scale)
    return Linear(kernel.astype(np.float32), bias.astype(np.float32), fitted.converged)


def held_out(
    features: Features,
    labels: Labels,
    strength: float,
    num_classes: int,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Float32[np.ndarray, "n classes"]:
    """Compute the logits of every example by the linear head of the other folds; for arguments see `linear`, `path`."""
    logits = np.zeros((len(labels), num_classes), np.float32)
    for train, test in parts:
        logits[test] = linear(features[train], labels[train], strength, num_classes).logits(features[test])
    return logits


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """A model of scikit-learn's on centered and scaled features."""

    model: LogisticRegression
    mean: np.ndarray
    scale: float
    converged: bool

    @classmethod
    def fit(cls, features: Features, labels: Labels, strength: float, start: "_Scaled | None" = None) -> "_Scaled":
        mean = features.mean(0, dtype=np.float64)
        scale = float(np.sqrt(((features - mean) ** 2).mean())) or 1.0
        # scikit-learn sums the loss and weights it by C. Of two classes it fits the difference w of two opposite
        # vectors ± w / 2, whose squared norms are together half of w's.
        opposite = 2 if len(np.unique(labels)) == 2 else 1
        model = start.model if start else LogisticRegression(max_iter=_MOST_ITERATIONS, warm_start=True)
        model.set_params(C=opposite / (strength * len(labels)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(((features - mean) / scale).astype(np.float32), labels)
        return cls(model, mean, scale, not any(issubclass(one.category, ConvergenceWarning) for one in caught))

    def scaled(self, features: Features) -> Features:
        return ((features - self.mean) / self.scale).astype(np.float32)


def _choices(values: Sequence[float], right: Float[np.ndarray, "values folds"]) -> list[Choice]:
    return [Choice(value, float(row.mean()), float(row.std())) for value, row in zip(values, right, strict=True)]
