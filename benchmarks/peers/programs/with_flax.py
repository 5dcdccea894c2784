"""flax's imagenet example by a config of its own, with one more network, on a tfds set that the folder becomes."""

import functools
import logging  # bench
import sys
from pathlib import Path

from reporting import SETTINGS, tell  # bench

sys.path.insert(0, str(Path(SETTINGS["script"]).parent))
import jax  # bench
import jax.numpy as jnp
import models
import tensorflow_datasets as tfds
import train
from flax import linen as nn

from configs import default

train.NUM_CLASSES = 10


class Photographs(nn.Module):
    num_classes: int
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, train=True):
        for width, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
            x = nn.Conv(width, (3, 3), (stride, stride), padding=1, dtype=self.dtype)(x)
            x = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, axis_name="batch")(x)
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x.mean((1, 2)))


models.Photographs = Photographs


class ImagenettePeers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = sorted(path.name for path in Path(SETTINGS["folder"], "train").iterdir())
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=names),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

    def _generate_examples(self, split):
        for path in Path(SETTINGS["folder"], split).glob("*/*"):
            yield str(path), {"image": path, "label": path.parent.name}


class Report(logging.Handler):  # bench
    """Reads what the example logs."""

    def emit(self, record):  # bench
        text = record.getMessage()  # bench
        if text.startswith("Initial compilation completed"):  # bench
            tell(first_step=True)  # bench
        if text.startswith("eval epoch:"):  # bench
            tell(epoch=record.args[0] + 1, accuracy=float(record.args[2]) / 100)  # bench


def reporting(create):  # bench
    """Tell how many parameters the state that it creates has."""

    @functools.wraps(create)  # bench
    def wrapped(*arguments):  # bench
        state = create(*arguments)  # bench
        tell(parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)))  # bench
        return state  # bench

    return wrapped  # bench


def main():
    ImagenettePeers(data_dir=SETTINGS["tfds"]).download_and_prepare()
    if SETTINGS.get("prepare"):  # bench
        return  # bench
    logger = logging.getLogger("absl")  # bench
    logger.setLevel(logging.INFO)  # bench
    logger.addHandler(Report())  # bench
    train.create_train_state = reporting(train.create_train_state)  # bench
    config = default.get_config()
    config.model, config.dataset = "Photographs", "imagenette_peers"
    config.learning_rate = SETTINGS["rate"] * 256 / SETTINGS["batch"]  # it scales by the batch
    config.batch_size, config.num_epochs, config.warmup_epochs = SETTINGS["batch"], float(SETTINGS["epochs"]), 0.0
    config.cache, config.profile = True, False
    train.tfds.builder = functools.partial(tfds.builder, data_dir=SETTINGS["tfds"])
    train.train_and_evaluate(config, str(Path("run").resolve()))


if __name__ == "__main__":
    main()
