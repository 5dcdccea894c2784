"""Every shipped config, in every variant, trains and is evaluated at a shrunken size."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from shipped import CLASSES, SPECS

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.training.loop import train


def shrink(config: c.Config) -> c.Config:
    """The same experiment on 32 pixels at most, in two epochs of two steps; every phase still runs.

    Published weights are left out: what they would fill and freeze is frozen at random.
    """
    patch = 14 if isinstance(config.model, c.DINOv2) else 1
    side = min(32, *config.data.image_size) // patch * patch
    margin = config.data.canvas.height - config.data.image_size[0]
    canvas = dataclasses.replace(config.data.canvas, height=side + margin, width=side + margin)
    phased = tuple(dataclasses.replace(op, from_epoch=min(op.from_epoch, 1)) for op in config.augment)
    shape = config.optim.schedule.shape
    if isinstance(shape, c.MultiStep):
        shape = c.MultiStep(at=(1,), factor=shape.factor)
    if isinstance(shape, c.OneCycle):
        shape = dataclasses.replace(shape, warmup_share=0.5)
    schedule = dataclasses.replace(config.optim.schedule, warmup_epochs=min(config.optim.schedule.warmup_epochs, 1))
    model = config.model
    if isinstance(model, c.CifarResNet):
        model = dataclasses.replace(model, depth=20)  # 110 layers take two minutes to compile
    if isinstance(model, c.WideResNet):
        model = dataclasses.replace(model, depth=10)
    if isinstance(model, c.ResNet):
        model = dataclasses.replace(model, name="resnet18")  # 50 layers compile for a minute
    return dataclasses.replace(
        config,
        model=model,
        data=dataclasses.replace(
            config.data,
            source=c.Arrays(),
            canvas=canvas,
            eval_canvas=None,
            image_size=(side, side),
            validation_share=0.0,
        ),
        augment=phased,
        optim=dataclasses.replace(config.optim, schedule=dataclasses.replace(schedule, shape=shape)),
        transfer=dataclasses.replace(config.transfer, init_from=None, replace=(), allow_frozen_random=True),
        batch_size=4,
        epochs=2,
        # fp16's first steps overflow until its loss scale fits, and here all steps are first ones.
        precision="bf16" if config.precision == "fp16" else config.precision,
        mesh=c.Mesh(devices=1),
    )


def mark(spec):
    name = Path(spec).name
    return pytest.param(spec, id=name, marks=[pytest.mark.slow, *([pytest.mark.deep] if ":" in name else [])])


@pytest.mark.parametrize("spec", [mark(spec) for spec in SPECS])
def test_shrunken_config_trains(spec, tmp_path):
    original = files.load(spec)
    config = shrink(original)
    rng = np.random.default_rng(0)
    shape = (config.data.canvas.height, config.data.canvas.width, config.data.canvas.channels)
    classes = CLASSES[Path(spec).name.partition(".")[0]]
    arrays = {"label_names": np.array([f"class {i}" for i in range(classes)])}
    for split, count in (("train", 9), ("validation", 3), ("test", 5)):
        labels = rng.integers(0, classes, count)
        labels[0] = classes - 1
        arrays |= {f"x_{split}": rng.integers(0, 256, (count, *shape), dtype=np.uint8), f"y_{split}": labels}
    result = train(config, tmp_path, arrays=arrays)
    assert result["epochs"] == 2
    assert result["test"]["count"] == 5
    assert math.isfinite(result["test"]["loss"])
