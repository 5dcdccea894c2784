"""From a data source to batches of uint8 canvases on the host. Nothing here imports JAX or TensorFlow by itself.

source (tfds, folder, arrays) → split (held-out shares) → decode → canvas (resize) → cache → batches
"""

from imgcls_jax.data.batches import eval_batches, eval_steps, train_batches
from imgcls_jax.data.dataset import BadImage, Dataset, Split, load
from imgcls_jax.data.order import balanced_order, epoch_order, train_order
from imgcls_jax.data.statistics import channel_statistics

__all__ = [
    "BadImage",
    "Dataset",
    "Split",
    "balanced_order",
    "channel_statistics",
    "epoch_order",
    "eval_batches",
    "eval_steps",
    "load",
    "train_batches",
    "train_order",
]
