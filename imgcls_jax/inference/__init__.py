"""Use a trained model: `Classifier` restores one, and `evaluate` restores and evaluates it in one call."""

from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.inference.evaluation import evaluate
from imgcls_jax.inference.images import Preprocessing
from imgcls_jax.inference.prediction import Choice, Prediction, Unreadable

__all__ = ["Choice", "Classifier", "Prediction", "Preprocessing", "Unreadable", "evaluate"]
