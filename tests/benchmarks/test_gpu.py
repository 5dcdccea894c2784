"""The rehearsal of what is measured on a GPU: parts run, are kept, and are not run again."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])
    return importlib.import_module("benchmarks.gpu")


def test_parts_are_kept_and_not_run_again(gpu, monkeypatch, tmp_path, capsys):
    ran = []

    def missing(options):
        raise gpu.CannotRun("no peer")

    monkeypatch.setattr(gpu, "PARTS", {"a": lambda options: ran.append("a") or {"x": 1}, "b": missing})
    file = tmp_path / "figures.json"
    arguments = ["--smoke", "--json", str(file)]
    gpu.main(arguments)
    gpu.main(arguments)
    assert ran == ["a"]
    assert json.loads(file.read_text())["parts"]["a"]["figures"] == {"x": 1}
    printed = capsys.readouterr().out
    assert "b skipped: no peer" in printed and "a: done before" in printed and "still missing: b" in printed


def test_no_part_begins_without_time(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "PARTS", {"a": pytest.fail})
    gpu.main(["--smoke", "--minutes", "0", "--json", str(tmp_path / "figures.json")])
    assert "a: no time left; the same command goes on" in capsys.readouterr().out


def test_without_a_gpu_it_says_how_to_rehearse(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.environment, "gpu", lambda: None)
    with pytest.raises(SystemExit, match="--smoke"):
        gpu.main(["--json", str(tmp_path / "figures.json")])


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        "r18",
        pytest.param("remat", marks=pytest.mark.deep),
        pytest.param("P6", marks=pytest.mark.deep),
        pytest.param("P7", marks=pytest.mark.deep),
        pytest.param("P8", marks=pytest.mark.deep),
    ],
)
def test_rehearsal(gpu, part, tmp_path):
    file = tmp_path / "figures.json"
    gpu.main([part, "--smoke", "--json", str(file)])
    assert json.loads(file.read_text())["parts"][part]["figures"]
