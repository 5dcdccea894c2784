"""A work directory is one run's and one process's."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.record.workdir import claimed


def claim(workdir, config, *, overwrite=False):
    with claimed(workdir, config, overwrite=overwrite):
        pass


def test_a_work_directory_that_cannot_be_written_is_said_first(tiny_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run cannot be written: Not a directory$"):
        claim(tmp_path / "file" / "run", tiny_config())
    with pytest.raises(UserError, match="is a file: choose another --workdir"):
        claim(tmp_path / "file", tiny_config())


HOLDER = """
import sys, time, pathlib
from imgcls_jax.record.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_touches_nothing_until_the_first_is_dead(tiny_config, tmp_path):
    workdir = tmp_path / "run"
    claim(workdir, tiny_config())
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, workdir], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = contents(tmp_path)
        for overwrite in (False, True):
            with pytest.raises(UserError, match=rf"in use by process {holder.pid} on .*, which started at 20.*: wait"):
                claim(workdir, tiny_config(seed=1), overwrite=overwrite)
        assert contents(tmp_path) == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    claim(workdir, tiny_config())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_process_does_not_hold_it_twice(tiny_config, tmp_path):
    with (
        claimed(tmp_path / "run", tiny_config(), overwrite=False),
        pytest.raises(UserError, match=f"in use by process {os.getpid()} "),
    ):
        claim(tmp_path / "run", tiny_config(), overwrite=True)


class Killed(BaseException):
    pass


def test_a_run_that_is_killed_while_it_begins_begins_again(tiny_config, tmp_path, monkeypatch):
    workdir, calls = tmp_path / "run", 0

    def dying(function, moment):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == moment:
                raise Killed
            return function(*args, **kwargs)

        return call

    def begin(config, moment):
        nonlocal calls
        calls = 0
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", dying(os.fsync, moment))
            for name in ("mkdir", "replace"):
                patched.setattr(Path, name, dying(getattr(Path, name), moment))
            claim(workdir, config)

    for earlier in ((), ("config.json", "environment.json", "split.npz")):  # new; begun and without a checkpoint
        for moment in range(1, 30):
            shutil.rmtree(workdir, ignore_errors=True)
            if earlier:
                workdir.mkdir()
                for name in earlier:
                    (workdir / name).touch()
            try:
                begin(tiny_config(), moment)
            except Killed:
                claim(workdir, tiny_config(seed=1))
                assert files.restore(workdir / "config.json") == tiny_config(seed=1)
            else:
                break
        assert moment > 4


def test_a_folder_with_logs_is_new_and_one_with_other_files_is_not(tiny_config, tmp_path):
    for name in ("lost+found", ".nfs0001", "log.txt", "slurm-1.out"):
        (tmp_path / name).touch()
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match=r"is no run's and holds photo.jpg: choose another --workdir, such as .*/tiny$"):
        claim(tmp_path, tiny_config())
    (tmp_path / "photo.jpg").unlink()
    claim(tmp_path, tiny_config())
    assert (tmp_path / "config.json").exists()


def test_what_cannot_be_moved_aside_is_one_sentence(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").touch()
    for workdir in (tmp_path, tmp_path.parent / tmp_path.name / "..", tmp_path / "."):
        with pytest.raises(UserError, match="the folder that this command was started in: choose another --workdir"):
            claim(workdir, tiny_config(), overwrite=True)
    assert (tmp_path / "mine.txt").exists()

    def busy(*_):
        raise OSError(16, "Device or resource busy")

    (tmp_path / "volume").mkdir()
    monkeypatch.setattr("pathlib.Path.rename", busy)
    with pytest.raises(UserError, match=r"cannot move .*volume aside \(Device or resource busy\): choose another"):
        claim(tmp_path / "volume", tiny_config(), overwrite=True)


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run", "hdfs://host:1/run"])
def test_a_url_is_no_folder(url, tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is in a bucket or on a server .*: mount it"):
        claim(Path(url), tiny_config())
    assert list(tmp_path.iterdir()) == []


def test_the_mesh_is_not_the_run(tiny_config, tmp_path):
    claim(tmp_path, tiny_config())
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    claim(tmp_path, tiny_config(mesh=c.Mesh(devices=8, fsdp=2)))
    assert files.restore(tmp_path / "config.json").mesh == c.Mesh(devices=8, fsdp=2)
    with pytest.raises(UserError, match="another config.*\n  seed: 0 → 1$"):
        claim(tmp_path, tiny_config(seed=1))
