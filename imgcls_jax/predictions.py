"""A trained model as a function of images, with exactly the preprocessing of its evaluation."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from imgcls_jax import checkpoint, pretrained, state, steps
from imgcls_jax import config as c
from imgcls_jax import mesh as meshes
from imgcls_jax.augment import views
from imgcls_jax.config import files
from imgcls_jax.data.canvas import read
from imgcls_jax.data.source import Encoded
from imgcls_jax.errors import UserError
from imgcls_jax.weights import paths


def restore(workdir: Path) -> tuple[c.Config, tuple[str, ...]]:
    """The config of a run, with its best checkpoint as the weights to load, and its class names.

    The data set need not be at hand.

    Raises:
      UserError: `workdir` is no run's, or it has no checkpoint yet.
    """
    config = files.restore(workdir / "config.json")
    with checkpoint.of_run(workdir) as (checkpoints, newest):
        card = checkpoints.run(newest)["card"]
    return with_weights(config, str(workdir)), tuple(card["class_names"])


def with_weights(config: c.Config, source: str) -> c.Config:
    """The config with every parameter loaded from a file, a published name or a run."""
    return dataclasses.replace(config, transfer=c.Transfer(init_from=source))


class Predictor:
    """Predicts canvases as the test of a run sees them, `Config.test_views` included.

    Batches are padded to one size, so that one program is compiled. For one process, on any number of devices.
    """

    def __init__(self, config: c.Config, classes: int):
        """
        Args:
          config: as `restore` or `with_weights` gives it.
          classes: number of classes.

        Raises:
          UserError: the weights are not there, or do not fit the model.
        """
        self._canvas = config.data.eval_canvas or config.data.canvas
        self._batch = config.eval_batch_size or config.batch_size
        self._mesh = meshes.make(config.mesh)
        if self._batch % self._mesh.size:
            raise UserError(f"batches of {self._batch} cannot be shared equally by {self._mesh.size} devices")
        model = state.model_of(config, classes)
        abstract = jax.eval_shape(model.create, jax.random.key(0))
        loaded, self.notes = pretrained.load(config, *abstract)
        if loaded is None:
            raise UserError("transfer.init_from is not set: random weights predict nothing")
        variables = tuple(
            paths.map_tree(lambda path, leaf: np.asarray(loaded[path], leaf.dtype), tree) for tree in abstract
        )
        self._variables = meshes.put(variables, meshes.replicated(self._mesh))
        prepare, average = views.look(config, config.test_views)
        self._logits = jax.jit(steps.build_predict(model.evaluate, prepare=prepare, average=average))

    def canvas(self, image: Encoded) -> UInt8[np.ndarray, "h w c"]:
        """An image file, its bytes, or uint8 pixels, decoded and fitted as in evaluation.

        Raises:
          UnreadableImageError: with the reason.
        """
        return read(image, self._canvas)[0]

    def logits(self, canvases: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n outputs"]:
        """The model's outputs: one a class; with a sigmoid head one, for class 1."""
        parts = []
        for start in range(0, len(canvases), self._batch):
            part = canvases[start : start + self._batch]
            padded = np.pad(part, ((0, self._batch - len(part)), (0, 0), (0, 0), (0, 0)))
            out = self._logits(self._variables, meshes.put(padded, meshes.batch(self._mesh)))
            parts.append(np.asarray(out)[: len(part)])
        return np.concatenate(parts)

    def labels(self, canvases: UInt8[np.ndarray, "n h w c"]) -> Int64[np.ndarray, " n"]:
        """The most probable class of each canvas."""
        return self.probabilities(canvases).argmax(1)

    def probabilities(self, canvases: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n classes"]:
        """Of each class, by softmax; with a sigmoid head of the two classes."""
        logits = self.logits(canvases).astype(np.float64)
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)  # sigmoid(z) is softmax((0, z))[1]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)
