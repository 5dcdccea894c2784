"""A trained model as one function from uint8 canvases to probabilities, and the document that describes it."""

import base64
import dataclasses
import datetime
import functools
import zlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from imgcls_jax import config as c
from imgcls_jax.augment import test_time
from imgcls_jax.config.experiment import Views
from imgcls_jax.errors import UserError
from imgcls_jax.models import network
from imgcls_jax.models.watching import naming
from imgcls_jax.record.documents import ModelCard
from imgcls_jax.weights import paths, published
from imgcls_jax.xla import plain

OUTPUTS = ("probabilities", "logits")
SCHEMA = 1
"""Version of the document in an exported file."""
TOLERANCE = 1e-4
"""Greatest difference of logits, in shares of the largest one, that another machine may show."""
_GOLDEN_IMAGES = 3


@dataclasses.dataclass(frozen=True)
class Program:
    """What every format is written from."""

    config: c.Config
    """The experiment, its precision float32."""
    class_names: tuple[str, ...]
    params: Mapping[str, np.ndarray]
    """By path."""
    stats: Mapping[str, np.ndarray]
    card: ModelCard
    views: Views | None
    """Test-time views whose probabilities are averaged; None: the center alone."""
    temperature: float = 1.0
    """What the logits are divided by for the probabilities."""

    @classmethod
    def of(
        cls,
        config: c.Config,
        class_names: tuple[str, ...],
        params: Mapping[str, np.ndarray],
        stats: Mapping[str, np.ndarray],
        card: ModelCard,
        views: Views | None,
        temperature: float = 1.0,
    ) -> "Program":
        """Make the program of a trained model; it computes in float32 whatever the training did.

        Raises:
          UserError: the model predicts numbers, sees images of 16 bits, or several labels per image at a temperature.
        """
        if config.loss.task == "numbers":
            raise UserError(
                f"{config.name} predicts numbers, but exported files hold probabilities: use Classifier.logits, or "
                "Classifier.params with the network"
            )
        if config.data.canvas.depth != 8:
            raise UserError(
                f"{config.name} sees images of {config.data.canvas.depth} bits per channel, but exported files take "
                "uint8: use the run's folder itself, by imgcls predict or Classifier.load"
            )
        if temperature != 1 and config.loss.task == "labels":
            raise UserError(f"{config.name} predicts several labels per image, which a temperature is not for")
        return cls(dataclasses.replace(config, precision="fp32"), class_names, params, stats, card, views, temperature)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a canvas."""
        canvas = self.config.data.eval_canvas or self.config.data.canvas
        return canvas.height, canvas.width, canvas.channels

    @functools.cached_property
    def sizes(self) -> tuple[int, int]:
        """Number of probabilities and of logits per image."""
        shapes = jax.eval_shape(self.function, jax.ShapeDtypeStruct((1, *self.shape), np.uint8))
        return shapes[0].shape[1], shapes[1].shape[1]

    @functools.cached_property
    def function(self) -> Callable[[UInt8[Array, "b H W c"]], tuple[Float[Array, "b k"], Float[Array, "b m"]]]:
        """Map uint8 canvases to probabilities and logits, float32, with XLA's plain operations."""
        made = network.of_config(self.config, max(len(self.class_names), 1))
        abstract = jax.eval_shape(made.create, jax.random.key(0))
        arrays = {**self.params, **self.stats}
        variables = tuple(
            paths.map_tree(lambda path, leaf: np.asarray(arrays[path], leaf.dtype), tree) for tree in abstract
        )
        prepare, average = test_time.build(self.config, self.views)

        def logits(images: Float[Array, "b h w c"]) -> Float[Array, "b m"]:
            model = nnx.merge(made.evaluate, *variables)
            with naming(model):
                return model(images).astype(jnp.float32)

        def function(image: UInt8[Array, "b H W c"]) -> tuple[Float[Array, "b k"], Float[Array, "b m"]]:
            with plain.operations():
                images = prepare(image)
                if average is None:
                    outputs = logits(images)
                else:
                    # All views of all images as one batch, so that the network is there once.
                    count = images.shape[0]
                    outputs = logits(images.reshape(-1, *images.shape[2:]))
                    outputs = average(outputs.reshape(count, -1, outputs.shape[-1]))
                if self.config.loss.task == "labels":
                    return jax.nn.sigmoid(outputs), outputs
                # sigmoid(z) is softmax((0, z))[1]
                single = outputs.shape[-1] == 1
                both = jnp.concatenate([jnp.zeros_like(outputs), outputs], axis=-1) if single else outputs
                return jax.nn.softmax(both if self.temperature == 1 else both / self.temperature), outputs

        return function

    @functools.cached_property
    def golden_images(self) -> UInt8[np.ndarray, "n H W c"]:
        """Images of random blocks: they reach every layer, and are small when compressed."""
        rng = np.random.default_rng(0)
        height, width, channels = self.shape
        blocks = rng.integers(0, 256, (_GOLDEN_IMAGES, 8, 8, channels), np.uint8)
        rows, columns = (np.arange(side) * 8 // side for side in (height, width))
        return blocks[:, rows][:, :, columns]

    @functools.cached_property
    def golden_outputs(self) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n m"]]:
        """What the program makes of them on this machine's CPU."""
        with jax.default_device(jax.local_devices(backend="cpu")[0]), jax.default_matmul_precision("highest"):
            probabilities, logits = jax.jit(self.function)(self.golden_images)
        return np.asarray(probabilities), np.asarray(logits)

    def document(
        self,
        form: str,
        golden: tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n m"]] | None = None,
        tolerance: float = TOLERANCE,
        **more: Any,
    ) -> dict[str, Any]:
        """Describe the file of a format: all that is needed to use it, and to find out whether it still works.

        Args:
          form: the format.
          golden: what the file makes of the golden images; None: what the program does.
          tolerance: greatest difference of logits from these that another machine may show, in shares of the largest.
          more: what is said beside versions and date.
        """
        probabilities, logits = golden or self.golden_outputs
        return {
            "imgcls_jax": {
                "schema": SCHEMA,
                "format": form,
                "version": metadata.version("imgcls_jax"),
                "jax": jax.__version__,
                "written": datetime.date.today().isoformat(),
                **more,
            },
            "class_names": list(self.class_names),
            "task": self.config.loss.task,
            "temperature": self.temperature,
            "preprocessing": {**self.card["preprocessing"], "views": self.views or "center"},
            "license": license_of(self.config),
            "model_card": self.card,
            "golden": {
                "images": base64.b64encode(zlib.compress(self.golden_images.tobytes(), 9)).decode(),
                "shape": list(self.golden_images.shape),
                "probabilities": probabilities.astype(float).tolist(),
                "logits": logits.astype(float).tolist(),
                "tolerance": tolerance,
            },
        }


def license_of(config: c.Config) -> str:
    """Say under which terms the weights are, as far as this package knows it."""
    source = config.transfer.init_from
    if source is None:
        return "trained from random values: whoever trained it decides, as far as the terms of the data allow"
    entry = published().get(source)
    return entry.license if entry else f"that of the weights it started from, {source}, and of the data"
