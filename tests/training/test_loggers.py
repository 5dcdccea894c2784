"""TensorBoard and Weights & Biases get the figures that metrics.jsonl has."""

import dataclasses
import json
import struct
import sys

import pytest
from tensorboardX.proto import event_pb2

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import SCHEMA
from imgcls_jax.training.callbacks.loggers import JsonLines
from imgcls_jax.training.callbacks.weights_and_biases import WandB, check, mode
from imgcls_jax.training.loop import train


def events(folder):
    """(tag, step, value) of every scalar in a folder's event files, read as TFRecords."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            yield from ((value.tag, event.step, value.simple_value) for value in event.summary.value)


def test_tensorboard_events(tiny_config, tiny_arrays, tmp_path):
    train(tiny_config(logging=c.Logging(tensorboard=True)), tmp_path, arrays=tiny_arrays)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    written = {(tag, step): value for tag, step, value in events(tmp_path / "tensorboard")}
    for record in history:
        assert written["validation/top1", record["epoch"]] == pytest.approx(record["validation"]["top1"])
        assert written["train/loss", record["epoch"]] == pytest.approx(record["train"]["loss"])


def test_a_resumed_run_drops_what_its_checkpoint_does_not_know(tmp_path):
    of_epoch = {"train": {}, "validation": None, "evaluators": {}} | dict.fromkeys(
        ("learning_rate", "images_per_second", "waited_for_data", "seconds"), 0.0
    )
    of_step = dict.fromkeys(("learning_rate", "loss", "top1", "gradient_norm", "parameter_norm", "update_ratio"), 0.0)
    epochs = [{"schema": SCHEMA, "kind": "epoch", "epoch": i, "step": 4 * i + 4} | of_epoch for i in range(3)]
    steps = [{"schema": SCHEMA, "kind": "step", "epoch": i // 4, "step": i} | of_step for i in range(2, 13, 2)]
    writer = JsonLines(tmp_path)
    writer.go_back([], 0)
    written = [*steps[:2], epochs[0], *steps[2:4], epochs[1], *steps[4:], epochs[2]]
    for record in written:
        writer.write(record)
    JsonLines(tmp_path).go_back(epochs[:2], 10)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [*steps[:2], epochs[0], *steps[2:4], epochs[1], steps[4]]


@pytest.mark.slow
def test_wandb_offline(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logging = c.Logging(tensorboard=False, wandb_project="imgcls-test")
    train(tiny_config(logging=logging), tmp_path, arrays=tiny_arrays)
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"validation/top1" in log.read_bytes()


def test_wandb_without_a_key_is_explained(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(type(wandb.api), "api_key", None)
    with pytest.raises(UserError, match=r"has no API key: run `wandb login`, or set WANDB_MODE=offline"):
        WandB("x", "name", {}, tmp_path)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "online"),
        ({"WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_DISABLED": "false"}, "online"),
    ],
)
def test_the_switches_of_wandb(environment, expected, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert mode() == expected


def test_wandb_missing_is_said_before_data_are_read(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    data = dataclasses.replace(tiny_config().data, source=c.Arrays("nowhere.npz"))
    config = tiny_config(data=data, logging=c.Logging(wandb_project="p", tensorboard=False))
    with pytest.raises(UserError, match=r"Weights & Biases is not installed: pip install wandb"):
        train(config, tmp_path / "run")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    check()
    with pytest.raises(UserError, match=r"there is no file nowhere.npz"):
        train(config, tmp_path / "run")


def test_a_disabled_wandb_is_no_hindrance(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = tiny_config(epochs=1, logging=c.Logging(wandb_project="p", tensorboard=False))
    assert train(config, tmp_path / "run", arrays=tiny_arrays)["epochs"] == 1
