"""The tables around a run fit 79 columns and say what matters."""

import dataclasses
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.training import summary
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.weights.plan import Plan, Row


def plan(*rows):
    return Plan(
        tuple(Row(path, (n,), source, start, "default", lr, 1.0) for path, n, source, start, lr in rows), {}, {}
    )


def test_layers_of_a_small_network():
    text = summary.layers(
        plan(
            ("convs.0.conv.kernel", 100, "random", 0, 1.0),
            ("convs.0.norm.scale", 10, "random", 0, 1.0),
            ("convs.1.conv.kernel", 1000, "random", 0, 1.0),
            ("head.out.kernel", 50, "random", 0, 1.0),
        )
    )
    assert text.splitlines() == [
        "  layer    parameters  trained  source",
        "  convs.0         110      110  random",
        "  convs.1       1,000    1,000  random",
        "  head             50       50  random",
        "  all           1,160    1,160  random",
    ]


def test_layers_of_a_long_network_that_thaws():
    blocks = [(f"blocks.{i}.kernel", 1000, "loaded", 3 if i == 19 else None, 0.5) for i in range(20)]
    text = summary.layers(plan(*blocks, ("head.out.kernel", 50, "replaced", 0, 1.0)))
    assert text.splitlines() == [
        "  layer   parameters  trained  source            learning rate ×",
        "  blocks      20,000        0  loaded            0.5",
        "  head            50       50  replaced          1",
        "  all         20,050       50  loaded, replaced  0.5 to 1",
        "  from epoch 4 on 1,050 are trained",
    ]


@pytest.mark.parametrize(
    ("images", "batch", "rest"),
    [(48, 32, "; 16 of 48 images, others each time, fill no batch and are left out"), (64, 32, "")],
)
def test_images_that_fill_no_batch_are_said(images, batch, rest):
    run = Mock(
        spec=Experiment,
        config=SimpleNamespace(batch_size=batch, epochs=2),
        dataset=SimpleNamespace(train=range(images)),
        steps_per_epoch=images // batch,
    )
    assert summary._steps(run) == f"{images // batch} per epoch, of 32 images; 2 epochs{rest}"


def record(**changes):
    figures = {"loss": 1234567.891, "top1": 1.0, "top5": 1.0, "count": 10}
    return {
        "epoch": 998,
        "step": 1,
        "learning_rate": 1.5e-4,
        "train": figures,
        "validation": figures,
        "images_per_second": 1_234_567.0,
        "seconds": 123_456.0,
        "waited_for_data": 0.0,
    } | changes


@pytest.mark.parametrize("epochs", [3, 999, 100_000])
@pytest.mark.parametrize("validated", [True, False])
def test_the_longest_row_fits(tiny_config, epochs, validated):
    table = summary.EpochTable(tiny_config(epochs=epochs), validated=validated)
    row = table.row(record(), best=True)
    assert max(len(table.header()), len(row)) <= 79
    assert row.endswith(" *")
    assert ("val loss" in table.header()) == validated


def test_columns_stand_below_their_names(tiny_config):
    table = summary.EpochTable(tiny_config(epochs=30), validated=True)
    figures = {"loss": 0.12345, "top1": 0.9876, "top5": 1.0, "count": 10}
    row = table.row(
        record(epoch=2, train=figures, validation=figures, images_per_second=1234.4, seconds=12.3), best=False
    )
    assert table.header() == "  epoch      loss       acc  val loss   val acc       lr     img/s     time"
    assert row == "   3/30    0.1235   98.76 %    0.1235   98.76 %  1.5e-04     1,234   12.3 s"


def test_skipped_steps_are_told(tiny_config):
    table = summary.EpochTable(tiny_config(), validated=True)
    assert "3 steps skipped so far, loss scale 1024" in table.row(
        record(skipped_steps=3, loss_scale=1024.0), best=False
    )
    assert "skipped" not in table.row(record(skipped_steps=0, loss_scale=1024.0), best=False)


def test_top_5_is_told_where_it_says_something():
    figures = {"top1": 0.5, "top5": 1.0, "loss": 1.0, "count": 1000}
    assert summary.metrics(figures) == "top-1 50.00 %, loss 1.0000 (1,000 images)"
    assert "top-5 90.00 %" in summary.metrics(figures | {"top5": 0.9})


def test_the_start_of_a_run(tiny_config, tiny_arrays, tmp_path, capsys):
    from imgcls_jax.training.loop import train

    config = dataclasses.replace(tiny_config(epochs=1), best=c.Best("loss"))
    train(config, tmp_path / "run", arrays=tiny_arrays)
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if line in ("data", "layers", "run", "result")]
    assert titles == ["data", "layers", "run", "result"]
    assert "  train           72  0 24, 1 24, 2 24" in out
    assert "convs.0.conv.kernel" not in out
    assert "convs.0.conv.kernel" in (tmp_path / "run" / "parameters.txt").read_text()
    assert "top-5" not in out
    assert np.max([len(line.replace(str(tmp_path), "")) for line in out.splitlines()]) < 80
