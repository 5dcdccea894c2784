"""launch/slurm.sh on a real Slurm: preempted, requeued, and finished with no step lost.

It needs two nodes, and the partitions `low`, whose jobs are requeued when jobs of `high` need their place (PreemptMode
REQUEUE with a GraceTime of 30 s).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgcls_jax.record import history

pytestmark = pytest.mark.slow


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def partitions():
    if shutil.which("sinfo") is None:
        pytest.skip("Slurm is not installed")
    listed = subprocess.run(["sinfo", "-h", "-o", "%P %D"], capture_output=True, text=True)
    rows = dict(line.replace("*", "").split() for line in listed.stdout.splitlines())
    if not (int(rows.get("low", 0)) >= 2 and int(rows.get("high", 0)) >= 2):
        pytest.skip(f"no running Slurm with the partitions low and high of two nodes: {listed.stdout}{listed.stderr}")


def wait_until(true, seconds, job, output):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, output.read_text() if output.exists() else slurm("scontrol", "show", "job")
        time.sleep(0.5)


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "")


def test_a_preempted_job_is_requeued_and_loses_no_step(environment, tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    place = ["--gpus-per-node=0", "--cpus-per-task=1", f"--output={output}"]
    config = ["--config", "configs/digits_cnn.py", "--config.epochs=30", "--workdir", str(run)]
    job = slurm("sbatch", "--parsable", "--partition=low", *place, "launch/slurm.sh", *config)
    # The file is there before the first step, and a run that is stopped so early has nothing to save.
    wait_until(lambda: run.exists() and history.epochs(run), 300, job, output)

    started = time.monotonic()
    other = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "srun true"]
    high = slurm("sbatch", *other)
    wait_until(lambda: slurm("squeue", "-h", "-j", high, "-o", "%T") != "PENDING", 60, job, output)
    assert time.monotonic() - started < 29, "the run did not end before Slurm would have killed it"
    saved = max(int(folder.name) for folder in (run / "checkpoints").iterdir())
    shown = slurm("scontrol", "show", "job", job)
    assert "Restarts=1" in shown and "JobState=PENDING" in shown

    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")  # Slurm waits two minutes by itself
    wait_until(lambda: "JobState=COMPLETED" in slurm("scontrol", "show", "job", job), 400, job, output)
    text = output.read_text()
    steps = 20
    assert f"continuing at epoch {saved // steps + 1}, step {saved % steps + 1}" in text
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records if record["kind"] == "epoch"] == list(range(30))
    assert json.loads((run / "result.json").read_text())["test"]["top1"] > 0.9


def test_a_step_of_slurm_without_the_flag_is_found(environment, tmp_path):
    """Two tasks are one run, not two that write over each other; other commands are refused."""
    command = [sys.executable, "-m", "imgcls_jax"]
    train = ["train", "--config", "configs/digits_cnn.py", "--config.epochs=1", "--workdir", str(tmp_path / "run")]
    slurm("srun", "-p", "high", "-N", "2", "-n", "2", "-t", "5", *command, *train)
    environment_ = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(environment_) == 1 and environment_[0]["mesh"]["data"] == 2
    refused = ["srun", "-p", "high", "-N", "2", "-n", "2", *command, "evaluate", "--workdir", str(tmp_path / "run")]
    ended = subprocess.run(refused, capture_output=True, text=True)
    assert ended.returncode == 2 and "evaluate is the work of one process" in ended.stderr
