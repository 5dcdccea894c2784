"""TensorBoard and the services get the figures that metrics.jsonl has, under the same names."""

import dataclasses
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import SCHEMA
from imgcls_jax.training.callbacks import loggers
from imgcls_jax.training.callbacks.logger import Logger
from imgcls_jax.training.callbacks.loggers import JsonLines
from imgcls_jax.training.callbacks.weights_and_biases import WandB, check, mode
from imgcls_jax.training.loop import train
from imgcls_jax.training.progress import Progress
from imgcls_jax.training.run import Run

OF_EPOCH = {"train": {}, "validation": None, "evaluators": {}} | dict.fromkeys(
    ("learning_rate", "images_per_second", "waited_for_data", "seconds"), 0.0
)


def values(folder):
    """(step, value) of everything in a folder's event files, read as TFRecords."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            yield from ((event.step, value) for value in event.summary.value)


def events(folder):
    """(tag, step, value) of every scalar in a folder's event files."""
    return ((value.tag, step, value.simple_value) for step, value in values(folder) if not value.HasField("image"))


def pictures(folder):
    """(Tag, step) to the picture, of every one in a folder's event files."""
    return {
        (value.tag, step): Image.open(io.BytesIO(value.image.encoded_image_string))
        for step, value in values(folder)
        if value.HasField("image")
    }


def expected_figures(result):
    """(Name, step) to every number of a result, written out: what each service must have."""
    found = {}
    for record in result["history"]:
        for split in ("train", "validation"):
            found |= {(f"{split}/{name}", record["step"]): value for name, value in record[split].items()}
        for evaluator, values in record["evaluators"].items():
            found |= {(f"evaluators/{evaluator}/{name}", record["step"]): value for name, value in values.items()}
        found["learning_rate", record["step"]] = record["learning_rate"]
    last = result["history"][-1]["step"]
    for split in ("validation", "test"):
        found |= {(f"best/{split}/{name}", last): value for name, value in result[split].items()}
    for evaluator, values in result["evaluators"].items():
        found |= {(f"best/evaluators/{evaluator}/{name}", last): value for name, value in values.items()}
    return found


@pytest.fixture
def logged_run(tiny_config, tiny_arrays, tmp_path):
    """Trains with a metric and an evaluator of its own, keeps predictions; keywords are those of `c.Logging`."""

    def run(**logging):
        logging = c.Logging(**{"tensorboard": False, "predictions": True, **logging})
        config = tiny_config(
            metrics=(c.Score("recall"),), evaluators=(c.Evaluator("again", split="test"),), logging=logging
        )
        result = train(config, tmp_path / "run", arrays=tiny_arrays)
        assert {"loss", "top1", "recall", "count"} <= result["test"].keys()
        return result

    return run


def test_tensorboard_events(tiny_config, tiny_arrays, tmp_path):
    train(tiny_config(logging=c.Logging(tensorboard=True, pictures=False)), tmp_path, arrays=tiny_arrays)
    assert not pictures(tmp_path / "tensorboard")
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    written = {(tag, step): value for tag, step, value in events(tmp_path / "tensorboard")}
    for record in history:
        assert written["validation/top1", record["epoch"]] == pytest.approx(record["validation"]["top1"])
        assert written["train/loss", record["epoch"]] == pytest.approx(record["train"]["loss"])


@pytest.mark.slow
def test_pictures_and_final_figures_in_tensorboard(logged_run, tmp_path):
    result = logged_run(tensorboard=True)
    drawn = pictures(tmp_path / "run" / "tensorboard")
    assert drawn.keys() == {("preview_epoch_0", 0), ("mistakes", 2), ("confusion", 2)}
    for name in ("mistakes", "confusion"):
        theirs = Image.open(tmp_path / "run" / f"{name}.png").convert("RGB")
        np.testing.assert_array_equal(np.asarray(drawn[name, 2]), np.asarray(theirs))
    # Four rows of a canvas and four draws, as in `imgcls preview`, and not one color.
    sheet = np.asarray(drawn["preview_epoch_0", 0])
    assert sheet.shape[0] > 4 * 96 and sheet.shape[1] > 5 * 96 and sheet.std() > 20
    written = {(tag, step): value for tag, step, value in events(tmp_path / "run" / "tensorboard")}
    epochs = {record["step"]: record["epoch"] for record in result["history"]}
    for (name, step), value in expected_figures(result).items():
        place = result["epochs"] if name.startswith("best/") else epochs[step]
        assert written[name, place] == pytest.approx(value, rel=1e-6), name


def test_a_resumed_run_drops_what_its_checkpoint_does_not_know(tmp_path):
    of_step = dict.fromkeys(("learning_rate", "loss", "top1", "gradient_norm", "parameter_norm", "update_ratio"), 0.0)
    epochs = [{"schema": SCHEMA, "kind": "epoch", "epoch": i, "step": 4 * i + 4} | OF_EPOCH for i in range(3)]
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


@pytest.mark.slow
def test_a_disabled_wandb_is_no_hindrance(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = tiny_config(epochs=1, logging=c.Logging(wandb_project="p", tensorboard=False))
    assert train(config, tmp_path / "run", arrays=tiny_arrays)["epochs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own code
def test_mlflow_in_a_local_store(logged_run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs MLflow: pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    result = logged_run(mlflow_experiment="tiny experiment")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tiny experiment")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "tiny" and run.info.status == "FINISHED"
    assert run.data.params["optim.optimizer.momentum"] == "0.9"
    names = {name for name, _ in expected_figures(result)}
    found = {
        (name, metric.step): metric.value
        for name in names
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert found == pytest.approx(expected_figures(result))
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "preview_epoch_0.png", "mistakes.png", "confusion.png"}

    logged_run(mlflow_experiment="tiny experiment")  # started again, it stays one run
    assert len(client.search_runs([experiment.experiment_id])) == 1


TRACKIO = """
import sys
from trackio.sqlite_storage import SQLiteStorage
import json
(run,) = SQLiteStorage.get_runs("tiny-project")
print(json.dumps([SQLiteStorage.get_logs("tiny-project", run), SQLiteStorage.get_run_config("tiny-project", run)]))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Trackio's own code
def test_trackio_on_this_machine(logged_run, tmp_path, monkeypatch):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("needs Trackio, which asks for an older Pillow: pip install --no-deps trackio, and what it imports")
    # Nothing outside of this machine is asked for.
    for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = logged_run(trackio_project="tiny-project")
    # Read in a process of its own, in which nothing is left in memory.
    done = subprocess.run([sys.executable, "-c", TRACKIO], capture_output=True, text=True, check=True)
    logs, config = json.loads(done.stdout.splitlines()[-1])
    found = {(name, row["step"]): value for row in logs for name, value in row.items()}
    expected = expected_figures(result)
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["mistakes", result["history"][-1]["step"]]["_type"] == "trackio.image"
    assert config["optim"]["optimizer"]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("package", "logging", "sentence"),
    [
        ("mlflow", {"mlflow_experiment": "e"}, r"MLflow is not installed: pip install 'imgcls_jax\[mlflow\]'"),
        ("trackio", {"trackio_project": "p"}, r"Trackio is not installed: pip install trackio"),
    ],
)
def test_a_missing_service_is_said_before_data_are_read(package, logging, sentence, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    data = dataclasses.replace(tiny_config().data, source=c.Arrays("nowhere.npz"))
    with pytest.raises(UserError, match=sentence):
        train(tiny_config(data=data, logging=c.Logging(tensorboard=False, **logging)), tmp_path / "run")


class Broken(Logger):
    """A service that is there at the start, and gone after the first epoch."""

    name, is_service = "a service", True

    def __init__(self, value, name, tree, workdir):
        if value == "nowhere":
            raise ConnectionError("no answer\nfrom the server")

    def write(self, record):
        if record["epoch"] == 1:
            raise ConnectionError("no answer\nfrom the server")


def test_a_run_goes_on_without_a_service_that_fails(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(loggers._SERVICES, "mlflow_experiment", (lambda: None, Broken))
    run = Mock(spec=Run, workdir=tmp_path, progress=Progress(), step=0)

    def started(experiment):
        config = tiny_config(logging=c.Logging(tensorboard=False, pictures=False, mlflow_experiment=experiment))
        callback = loggers.Loggers(config)
        callback.on_start(run)
        return callback

    callback = started("somewhere")
    for epoch in range(3):
        callback.on_epoch(run, {"schema": SCHEMA, "kind": "epoch", "epoch": epoch, "step": epoch + 1} | OF_EPOCH)
    callback.on_end(run, None)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    run.tell.assert_called_once_with(
        "note: a service gets no more figures of this run, which goes on without it: no answer"
    )
    with pytest.raises(UserError, match=r"mlflow_experiment = 'nowhere': a service cannot be used \(no answer\)"):
        started("nowhere")
