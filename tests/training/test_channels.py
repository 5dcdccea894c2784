"""Training on images of five channels whose classes only 16 bits tell apart."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference.classifier import Classifier
from imgcls_jax.training.loop import train


@pytest.fixture
def sensor() -> dict[str, np.ndarray]:
    """Two classes: the fourth channel of one is brighter by 60 of 65,535, less than a level of 8 bits."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 64), ("validation", 16), ("test", 32)):
        labels = np.arange(count) % 2
        images = rng.integers(30_000, 30_080, (count, 8, 8, 5), np.uint16)
        images[..., 3] += (60 * labels[:, None, None]).astype(np.uint16)
        arrays[f"x_{name}"], arrays[f"y_{name}"] = images, labels
    assert len(np.unique(np.rint(arrays["x_train"] / 257))) == 1
    return arrays


def settings(source: c.Source, **changes) -> c.Data:
    return c.Data(
        source,
        c.Canvas(8, 8, 5, depth=16),
        (8, 8),
        mean=(30_050 / 65_535,) * 5,
        std=(40 / 65_535,) * 5,
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_what_8_bits_lose_is_learned(feed, sensor, tiny_config, tmp_path):
    np.savez(tmp_path / "sensor.npz", **sensor)
    config = tiny_config(
        data=settings(c.Arrays(str(tmp_path / "sensor.npz")), feed=feed),
        augment=(c.HorizontalFlip(), c.PadCrop(1, mode="reflect")),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, pool=2),), aggregate="flatten", head=c.Head()),
        epochs=3,
        logging=c.Logging(tensorboard=False),
    )
    result = train(config, tmp_path / "run")
    assert result["test"]["top1"] == 1
    assert (tmp_path / "run/mistakes.png").exists()
    if feed == "streamed":
        return
    model = Classifier.load(tmp_path / "run")
    logits = model.logits(sensor["x_test"])
    assert (logits.argmax(1) == sensor["y_test"]).all()
    np.save(tmp_path / "one.npy", sensor["x_test"][1])
    np.testing.assert_allclose(model.logits([tmp_path / "one.npy"]), logits[1:2], rtol=1e-5)
    with pytest.raises(UserError, match="16 bits per channel, but exported files take uint8"):
        model.export(tmp_path / "model.onnx")
    shallow = dataclasses.replace(config.data, canvas=c.Canvas(8, 8, 5))
    with pytest.raises(UserError, match="depth"):
        train(dataclasses.replace(config, data=shallow), tmp_path / "run")
