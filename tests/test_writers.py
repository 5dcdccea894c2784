"""TensorBoard and Weights & Biases get the figures that metrics.jsonl has."""

import json
import struct

import pytest
from tensorboardX.proto import event_pb2

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.train import train_and_evaluate
from imgcls_jax.writers import Writers


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
    train_and_evaluate(tiny_config(logging=c.Logging(tensorboard=True)), tmp_path, arrays=tiny_arrays)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    written = {(tag, step): value for tag, step, value in events(tmp_path / "tensorboard")}
    for record in history:
        assert written["validation/top1", record["epoch"]] == pytest.approx(record["validation"]["top1"])
        assert written["train/loss", record["epoch"]] == pytest.approx(record["train"]["loss"])


def test_a_resumed_run_drops_what_its_checkpoint_does_not_know(tiny_config, tmp_path):
    config = tiny_config()
    records = [{"epoch": i, "validation": {"loss": float(i)}} for i in range(3)]
    writers = Writers(tmp_path, config, {}, records[:1])
    writers.write(records[1])
    writers.write(records[2])
    writers.close()
    Writers(tmp_path, config, {}, records[:2]).close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records[:2]


@pytest.mark.slow
def test_wandb_offline(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logging = c.Logging(tensorboard=False, wandb_project="imgcls-test")
    train_and_evaluate(tiny_config(logging=logging), tmp_path, arrays=tiny_arrays)
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"validation/top1" in log.read_bytes()


def test_wandb_without_a_key_is_explained(tiny_config, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(type(wandb.api), "api_key", None)
    with pytest.raises(UserError, match=r"has no API key: run `wandb login`, or set WANDB_MODE=offline"):
        Writers(tmp_path, tiny_config(logging=c.Logging(wandb_project="x", tensorboard=False)), {}, [])
