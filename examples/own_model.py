"""Define a network of your own, load torch weights into it by a table of names, train it, and restore it.

A subclass of `c.Model` states the settings of the network and builds it: that is all that training needs, and the class
can be named in a config, on the command line and in a saved run like the library's own. This file is a config, too:

    python examples/own_model.py                                          # all of it, in less than a minute on a CPU
    imgcls check examples/own_model.py:SmallNet --size 8 --channels 1     # whether the network can be trained and saved
    imgcls train --config examples/own_model.py --config.model.width=32   # from random weights, wider
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.models.layers import BatchNorm
from imgcls_jax.weights import torch_names as t


class SmallNet(c.Model):
    """Two 3×3 convolutions and a linear layer."""

    width: int = 16
    """Channels of the first convolution; the second has twice as many."""

    def build(self, *, num_classes, channels, image_size, dtype, rngs):
        """Make the network; it takes every image size."""
        return SmallNetModule(self.width, channels, num_classes, dtype=dtype, rngs=rngs)

    def torch_rules(self):
        """Name the layers as the torch network does that the weights come from: its attribute, our path, the kind."""
        return t.rules(
            ("features.0", "conv1", t.CONV),
            ("features.1", "norm1", t.BATCH_NORM),
            ("features.3", "conv2", t.CONV),
            ("features.4", "norm2", t.BATCH_NORM),
            ("classifier", "head", t.LINEAR),
        )


class SmallNetModule(nnx.Module):
    """The network that `SmallNet` builds."""

    def __init__(self, width: int, channels: int, num_classes: int, *, dtype, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(channels, width, (3, 3), dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(width)
        self.conv2 = nnx.Conv(width, 2 * width, (3, 3), strides=2, padding=1, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(2 * width)
        # The output layer is called `head`, and computes in float32 whatever the dtype.
        self.head = nnx.Linear(2 * width, num_classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x, *, rngs: nnx.Rngs | None = None):
        """Map images [b, h, w, c] to logits [b, classes]. `rngs` is for dropout, which this network does without."""
        x = jax.nn.relu(self.norm1(self.conv1(x)))
        x = jax.nn.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((1, 2)))


def get_config(variant: str = "") -> c.Config:
    """Train it on scikit-learn's handwritten digits, 8×8 pixels."""
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="own_model",
        data=c.Data(
            source=c.TFDS("imgcls_digits", train="train", validation=None, test="test"),
            validation_share=0.1,
            canvas=c.Canvas(8, 8, channels=1),
            image_size=(8, 8),
            mean=(0.3,),
            std=(0.37,),
        ),
        augment=(c.PadCrop(1),),
        model=SmallNet(),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.AdamW(), schedule=c.Schedule(peak=1e-2, shape=c.Cosine())),
        batch_size=16,
        epochs=2,
        precision="fp32",
        seed=0,
    )


def save_torch_file(file: Path) -> None:
    """Write a file as torch.save(model.state_dict(), file) does, for which torch is not needed.

    It stands for the file that you have: here its weights are random, and its output layer is of 1000 other classes.
    """
    rng = np.random.default_rng(0)
    width = SmallNet().width

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    state = {
        "features.0.weight": normal(width, 1, 3, 3),  # torch's layout: [out, in, height, width]
        "features.0.bias": np.zeros(width, np.float32),
        "features.3.weight": normal(2 * width, width, 3, 3),
        "features.3.bias": np.zeros(2 * width, np.float32),
        "classifier.weight": normal(1000, 2 * width),
        "classifier.bias": np.zeros(1000, np.float32),
    }
    for name, channels in (("features.1", width), ("features.4", 2 * width)):
        state |= {f"{name}.{part}": np.ones(channels, np.float32) for part in ("weight", "running_var")}
        state |= {f"{name}.{part}": np.zeros(channels, np.float32) for part in ("bias", "running_mean")}
    weights.save_pth(state, file)


def main() -> None:
    """Train from the torch file, and restore the trained network."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder, "small_net.pth"), Path(folder, "run")
        save_torch_file(file)
        # The output layer is of other classes, so it starts at random.
        transfer = c.Transfer(init_from=str(file), replace=("head.*",))
        # Loaded from this file, so that the run remembers where `SmallNet` is defined.
        ic.train(ic.load_config(__file__, transfer=transfer), run)

        classifier = ic.Classifier.load(run)
        print(f"restored: {type(classifier.network).__name__}, {classifier.config.model}")
        zeros = np.zeros((2, 8, 8, 1), np.uint8)
        print(f"classes of two black images: {[prediction.label for prediction in classifier.predict(zeros)]}")


if __name__ == "__main__":
    main()
