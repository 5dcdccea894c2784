"""Why a loss is not finite: the step, the layer, its input and the images, for faults that were put there."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax.data import train_order
from imgcls_jax.errors import UserError
from imgcls_jax.training.loop import train


class Fragile(nnx.Module):
    """A layer whose output is infinite for an image whose brightest value is 1, white."""

    def __call__(self, x):
        return x / jnp.where(x.max((1, 2, 3), keepdims=True) >= 2.0, 0.0, 1.0)


class Net(nnx.Module):
    def __init__(self, fragile, num_classes, rngs):
        self.fragile = Fragile() if fragile else nnx.Sequential()
        self.head = nnx.Linear(8 * 8 * 3, num_classes, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.head(self.fragile(x).reshape(len(x), -1))


class FragileNet(c.Model):
    fragile: bool = True

    def build(self, *, num_classes, channels, image_size, dtype, rngs):
        return Net(self.fragile, num_classes, rngs)


class Root(c.Loss):
    """A loss whose gradient is infinite where it is 0."""

    def build(self, *, num_classes, class_counts=None):
        return lambda logits, labels: jnp.sqrt(jnp.maximum((logits * 0).sum(-1), 0))


def fly(config, arrays, folder):
    """Train until it fails; return the message and the flight record."""
    with pytest.raises(UserError, match="NaN or infinite") as caught:
        train(config, folder, arrays=arrays)
    (file,) = (folder / "flight_record").iterdir()
    document = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return str(caught.value), file, document


@pytest.mark.parametrize("changes", [dict(), dict(save_every_steps=3), dict(optim="accumulate")])
def test_a_layer(tiny_config, tiny_arrays, tmp_path, changes):
    arrays = dict(tiny_arrays) | {"x_train": np.minimum(tiny_arrays["x_train"], 240)}
    arrays["x_train"][17] = 255  # one white image; normalized it is 2
    if changes.get("optim"):
        changes = dict(optim=c.Optim(c.SGD(), c.Schedule(peak=1e-3, shape=c.Constant()), accumulate=2))
    config = tiny_config(model=FragileNet(), augment=(), **changes)
    message, file, document = fly(config, arrays, tmp_path / "run")
    assert "the output of fragile (Fragile) is the first not to be finite; its input goes from" in message
    assert str(file) in message
    assert document["layer"] == "fragile"
    layer = next(layer for layer in document["layers"] if layer["path"] == "fragile")
    assert layer["input"]["greatest"] == pytest.approx(2.0)
    assert layer["output"]["finite"] < 1
    assert "x_train[17]" in [image["id"] for image in document["images"]]
    assert len(document["images"]) == config.batch_size
    # Of the step it says, the batch is the one that the seed gives.
    order = train_order(arrays["y_train"].astype(np.int32), "shuffle", config.seed, document["epoch"])
    rows = order[document["step_in_epoch"] * 16 :][:16]
    assert [image["id"] for image in document["images"]] == [f"x_train[{row}]" for row in rows]


def test_a_gradient(tiny_config, tiny_arrays, tmp_path):
    config = tiny_config(model=FragileNet(False), augment=(), loss=Root())
    message, _, document = fly(config, tiny_arrays, tmp_path / "run")
    assert "all layers and the loss are finite, but the gradient of head." in message
    assert (document["epoch"], document["step_in_epoch"]) == (0, 0)
    assert all(image["loss"] == 0 for image in document["images"])


@pytest.mark.slow
def test_a_learning_rate_too_high(tiny_config, tiny_arrays, tmp_path):
    optim = c.Optim(c.SGD(), c.Schedule(peak=1e30, shape=c.Constant()))
    message, _, document = fly(tiny_config(optim=optim), tiny_arrays, tmp_path / "run")
    assert document["cause"] in message
    assert document["learning_rate"] == pytest.approx(1e30)
    first, *later = document["largest_parameter_before_each_step"]
    assert first <= 1
    assert len(later) == document["step_in_epoch"]
    assert all(value > 1e20 for value in later)


def test_a_replay_that_fails_does_not_hide_the_loss(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    def broken(run):
        raise OSError("the disk is gone")

    monkeypatch.setattr("imgcls_jax.training.flight_record._explain", broken)
    optim = c.Optim(c.SGD(), c.Schedule(peak=1e30, shape=c.Constant()))
    with pytest.raises(UserError, match=r"NaN or infinite.*could not be taken again \(OSError: the disk is gone\)"):
        train(tiny_config(optim=optim), tmp_path / "run", arrays=tiny_arrays)
