"""Load images from a source and feed them as batches of uint8 canvases. Importing this imports no JAX or TensorFlow.

source (tfds, folder, arrays, your own) → split (held-out shares) → decode → canvas (resize) → cache → batches
"""

from imgcls_jax.data.batches import eval_batches, eval_steps, train_batches
from imgcls_jax.data.cache import threads
from imgcls_jax.data.checks import check
from imgcls_jax.data.dataset import BadImage, Dataset, Split, load
from imgcls_jax.data.examples import Encoded, Examples, Progress, Splits, no_progress
from imgcls_jax.data.order import balanced_order, epoch_order, train_order
from imgcls_jax.data.statistics import channel_statistics

__all__ = [
    "BadImage",
    "Dataset",
    "Encoded",
    "Examples",
    "Progress",
    "Split",
    "Splits",
    "balanced_order",
    "channel_statistics",
    "check",
    "epoch_order",
    "eval_batches",
    "eval_steps",
    "load",
    "no_progress",
    "threads",
    "train_batches",
    "train_order",
]
