"""Searches: what they write from invented trainings, and real ones with workers that are killed."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io
from imgcls_jax.errors import UserError
from imgcls_jax.training.finite import NotFinite
from imgcls_jax.training.interruption import Interrupted
from imgcls_jax.tune.search import spaces
from imgcls_jax.tune.search.search import search

PEAK = "optim.schedule.peak"


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tiny_config, tmp_path):
    """Search in tmp_path/search with one worker."""

    def call(texts=(f"{PEAK}=log(1e-4,1)",), **options):
        config = options.pop("config", tiny_config())
        told: list[str] = []
        outcome = search(config, spaces.parse(texts, config), tmp_path / "search", tell=told.append, **options)
        return outcome, told

    return call


def peak(config: c.Config) -> float:
    return config.optim.schedule.peak


@pytest.mark.slow
def test_the_best_values_are_found_and_written(run, invented, tiny_config, tmp_path):
    invented(lambda config, _: 1 - abs(np.log10(peak(config)) + 2) / 4 - 0.1 * (config.batch_size == 8))
    outcome, _ = run([f"{PEAK}=log(1e-4,1)", "batch_size=choice(8,16)"], trials=40)
    found = rows(tmp_path / "search")
    assert [row["trial"] for row in found] == [str(i) for i in range(40)]
    assert {row["state"] for row in found} == {"finished"}
    assert outcome.best.value == max(float(row["top1"]) for row in found)
    assert outcome.settings["batch_size"] == "16" and 10**-2.3 < outcome.settings[PEAK] < 10**-1.7
    late = [abs(np.log10(float(row[PEAK])) + 2) for row in found[20:]]
    assert np.mean(late) < 0.6, "TPE looks where it is good; random draws are 1 away on average"
    best = io.load(tmp_path / "search" / "best.py")
    assert best == outcome.config and best.batch_size == 16
    text = (tmp_path / "search" / "search.md").read_text()
    assert f"Best top1: {outcome.best.value:.4f}, trial {outcome.best.number}:" in text
    assert "PED-ANOVA" in text and "40 trials: 40 finished." in text
    assert (tmp_path / "search" / "search.png").stat().st_size > 10_000
    again, told = run([f"{PEAK}=log(1e-4,1)", "batch_size=choice(8,16)"], trials=41)
    assert [text.partition(" ")[0] for text in told] == ["trial-040", "trial-040"]
    assert again.text.count("| finished |") == 41


@pytest.mark.slow
def test_a_loss_is_minimized(run, invented, tmp_path):
    invented(lambda config, _: 1 - peak(config))  # the loss is the rate itself
    outcome, _ = run(trials=6, metric="loss", sampler="random")
    assert outcome.best.value == pytest.approx(min(float(row["loss"]) for row in rows(tmp_path / "search")))
    assert outcome.config.best.metric == "loss"


def test_failures_are_tried_once_more_and_told(run, invented, tmp_path):
    tried: list[str] = []

    def score(config, workdir):
        tried.append(workdir.name)
        if workdir.name == "trial-001":
            raise UserError("the disk is full")
        if workdir.name == "trial-002" and tried.count(workdir.name) == 1:
            raise UserError("the server is away")
        if workdir.name == "trial-003":
            raise NotFinite("the loss is NaN", None)
        return 0.5

    invented(score)
    outcome, told = run(trials=5)
    assert [tried.count(f"trial-00{i}") for i in range(5)] == [1, 2, 2, 1, 1]
    assert [row["state"] for row in rows(tmp_path / "search")] == [
        "finished", "failed", "finished", "diverged", "finished",
    ]  # fmt: skip
    assert "trial-001 failed, and is tried once more: the disk is full" in told
    assert "trial-001 failed: the disk is full" in told
    assert "trial 1: the disk is full" in outcome.text
    assert "trial 2:" not in outcome.text


def test_where_all_fail_the_search_ends(run, invented):
    def score(config, workdir):
        raise UserError("there is no folder photos")

    invented(score)
    with pytest.raises(UserError, match="^the first 3 trials failed, and none did not: there is no folder photos$"):
        run(trials=20)


def test_an_interrupted_trial_is_continued(run, invented, tmp_path):
    tried = []

    def score(config, workdir):
        tried.append((workdir.name, peak(config)))
        if len(tried) <= 2:
            raise Interrupted("a signal came")
        return 0.5

    invented(score)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(trials=2)
    run(trials=2)
    assert [name for name, _ in tried] == ["trial-000"] * 3 + ["trial-001"]
    assert len({rate for _, rate in tried[:3]}) == 1
    assert [row["starts"] for row in rows(tmp_path / "search")] == ["1", "1"]


def test_one_trial_here(run, invented, tmp_path):
    invented(lambda config, _: 0.5)
    for count in (1, 2, 3):
        run(trials=3, here=1)
        assert len(rows(tmp_path / "search")) == count
    _, told = run(trials=3, here=1)
    assert told == []


def test_impossible_values_are_found_before_anything_is_trained(run, tiny_config, tmp_path):
    with pytest.raises(UserError, match="^--space batch_size: with 7 batch_size = 7 cannot be shared equally"):
        run(["batch_size=choice(16,7)"], config=tiny_config(mesh=c.Mesh(devices=2)), trials=1)
    with pytest.raises(UserError, match='best.metric names the metric "topp1"'):
        run(trials=1, metric="topp1")
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
@pytest.mark.deep
def test_pruning_follows_the_median(run, tiny_config, tiny_arrays, tmp_path):
    outcome, _ = run(trials=9, config=tiny_config(epochs=3), arrays=tiny_arrays, metric="loss", sampler="random")
    histories, pruned = {}, set()
    for row in rows(tmp_path / "search"):
        number = int(row["trial"])
        lines = (tmp_path / "search" / f"trial-{number:03d}" / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["validation"]["loss"] for line in lines]
        complete = [history for other, history in histories.items() if other not in pruned]
        # The rule written out: after five finished trials, worse at its best than the median of the others there.
        ends = next(
            (
                epoch + 1
                for epoch in range(2)
                if len(complete) >= 5 and min(losses[: epoch + 1]) > np.median([history[epoch] for history in complete])
            ),
            3,
        )
        assert len(losses) == ends, f"trial {number}"
        if ends < 3:
            pruned.add(number)
        assert row["state"] == ("pruned" if ends < 3 else "finished")
        if ends == 3:
            assert float(row["loss"]) == min(losses)
        histories[number] = losses
    assert pruned and len(pruned) < 4
    assert outcome.best.number not in pruned


def check_all_finished_once(folder: Path, outputs: list[str], trials: int, killed: str) -> None:
    """Check that every trial is there and finished by one worker, and the killed one started twice."""
    found = rows(folder)
    assert [row["trial"] for row in found] == [str(i) for i in range(trials)]
    assert {row["state"] for row in found} <= {"finished", "pruned"}
    assert {row["starts"] for row in found if f"trial-{int(row['trial']):03d}" == killed} == {"2"}
    assert sum(int(row["starts"]) for row in found) == trials + 1
    told = [line for text in outputs for line in text.splitlines() if line.startswith("trial-")]
    ends = [line.split()[0] for line in told if " begins: " not in line]
    assert len(ends) == len(set(ends)) == trials
    for row in found:
        workdir = folder / f"trial-{int(row['trial']):03d}"
        epochs = [json.loads(line)["epoch"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert epochs == list(range(int(row["epochs"]))), "no epoch is missing, and none is there twice"
        assert json.loads((workdir / "result.json").read_text())["history"]


def work_and_kill_one(start_worker, folder: Path, trials: int, workers: int, *options: str) -> None:
    """Let workers search, and kill one within its first trial."""
    processes = [start_worker("--trials", str(trials), *options) for _ in range(workers)]
    first = processes[0]
    assert first.stdout is not None
    seen = []
    while " begins: " not in (line := first.stdout.readline()):
        assert line, f"the worker ended: {seen}"
        seen.append(line)
    os.kill(first.pid, signal.SIGKILL)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes[1:]] == [0] * (workers - 1), outputs
    check_all_finished_once(folder, outputs, trials, killed=line.split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_a_worker_is_killed(storage, start_worker, request, tmp_path):
    options = () if storage == "journal" else ("--storage", request.getfixturevalue("database"))
    work_and_kill_one(start_worker, tmp_path / "search", 5, 2, *options)


@pytest.mark.slow
def test_a_study_in_postgresql(run, invented, database, tmp_path):
    from sqlalchemy import create_engine, text

    tried = []

    def score(config, workdir):
        tried.append(workdir.name)
        if tried.count("trial-001") == 1 and workdir.name == "trial-001":
            raise Interrupted("a signal came")
        return peak(config)

    invented(score)
    with pytest.raises(Interrupted):
        run(trials=12, storage=database)
    outcome, _ = run(trials=12, storage=database)
    assert tried == ["trial-000", "trial-001", *(f"trial-{i:03d}" for i in range(1, 12))]
    with create_engine(database.replace("postgresql:", "postgresql+psycopg:")).connect() as connection:
        stored = connection.execute(text("select number, state, value from trials join trial_values using (trial_id)"))
        values = {number: value for number, state, value in stored if state == "COMPLETE"}
    assert sorted(values) == list(range(12))
    assert outcome.best.value == max(values.values())
    (tmp_path / "search").rename(tmp_path / "before")
    run(trials=2, storage=database)  # a search of its own in the same database
    assert len(rows(tmp_path / "search")) == 2
