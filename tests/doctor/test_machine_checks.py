"""Checks of the machine: a disk that is full, a step that does not fit, a source that is slow."""

import collections
import os
import shutil
import time

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.data import Splits
from imgcls_jax.doctor import machine_checks
from imgcls_jax.doctor.findings import Subject

Usage = collections.namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "level"), [(10_000, None), (2_500, "warning"), (999, "error")])
def test_disk_for_checkpoints(tiny_config, tmp_path, monkeypatch, free, level):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(10**6, 0, free))
    subject = Subject(tiny_config().data, tiny_config(), workdir=tmp_path / "new" / "run", state_bytes=1000)
    findings = list(machine_checks.checkpoint_disk(subject))
    assert [finding.level for finding in findings] == [level] * (level is not None)
    assert asked == [tmp_path], "the disk on which the folder will be"


def test_disk_for_the_cache(tiny_config, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 8 * 8 * 3 * 100))
    settings = tiny_config().data
    assert not list(machine_checks.cache_disk(Subject(settings, images_to_cache=100)))
    (finding,) = machine_checks.cache_disk(Subject(settings, images_to_cache=101))
    assert "101 images" in finding.evidence


@pytest.mark.parametrize(("need", "level"), [(80, None), (95, "warning"), (101, "error")])
def test_memory(tiny_config, need, level):
    findings = list(machine_checks.memory(Subject(tiny_config().data, step_bytes=need, memory_limit=100)))
    assert [finding.level for finding in findings] == [level] * (level is not None)


def test_a_gpu_that_is_not_used(tiny_config, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    subject = Subject(tiny_config().data)
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path != "/dev/nvidia0" and there(path))
    assert not list(machine_checks.devices(subject))
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/nvidia0" or there(path))
    (finding,) = machine_checks.devices(subject)
    assert "uses the CPU" in finding.what


class Slow(c.Source):
    """Images of a file system that takes 20 ms for each."""

    def open(self, arrays=None, on_progress=None):
        splits = Splits.from_pairs("slow", [(np.full((8, 9, 3), i, np.uint8), i % 2) for i in range(8)])
        read = splits.train.read

        def slow(indices):
            time.sleep(0.02 * len(indices))
            return read(indices)

        object.__setattr__(splits.train, "read", slow)
        return splits


@pytest.mark.slow
def test_reading_speed(monkeypatch):
    monkeypatch.setattr(machine_checks, "_MEASURED", 0.1)
    settings = c.Data(Slow(), c.Canvas(8, 8), (8, 8), (0.5,) * 3, (0.25,) * 3, cache_gib=0, workers=1)
    dataset = data.load(settings)
    (finding,) = machine_checks.reading_speed(Subject(settings, dataset=dataset, step_rate=60.0))
    assert "decoded in every epoch" in finding.evidence
    assert not list(machine_checks.reading_speed(Subject(settings, dataset=dataset, step_rate=1.0)))
