"""The benchmarks run, print their lines, and say why they cannot."""

import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
from model_reference import import_torchvision

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(monkeypatch):
    """The module `benchmarks.run`, which is no part of the installed package."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.run")


def test_the_last_line_is_the_median_of_the_rounds(run):
    assert run.summary("P1", [0.904, 0.95, 0.93]) == "P1 ratio 0.93 (min 0.90, max 0.95, rounds 3)"


def test_a_missing_peer_is_no_error(run, monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    run.main(["P1", "--json", str(tmp_path / "figures.json")])
    message = "P1 skipped: the peer torch is not installed; install it by: pip install -e '.[parity]'"
    assert message in capsys.readouterr().out.splitlines()
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["results"] == {}
    assert document["environment"]["versions"]["jax"] == importlib.import_module("jax").__version__


def test_a_missing_gpu_is_no_error(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(run.environment, "gpu", lambda: None)
    run.main(["P6", "P7", "--json", str(tmp_path / "figures.json")])
    lines = capsys.readouterr().out.splitlines()
    for name in ("P6", "P7"):
        assert f"{name} skipped: it needs an NVIDIA GPU, and there is none here" in lines


def test_a_side_says_what_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    with (
        run.Side("ours:epochs", {"model": "lenet", "batch": 128, "images": "500"}, {}) as side,
        pytest.raises(run.CannotRun, match='^the tfds set "cifar10" is not prepared in '),
    ):
        side.ask()


AIRBENCH = """
print("-" * 20)
print("|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |")
for run in ("warmup", 0, 1, 2):
    print(f"|  {run}  |      0  |  0.5000  |  0.4000  |               |  1.0000  |")
    seconds = 9 if run == "warmup" else 2 + run
    print(f"|          |   eval  |  0.9500  |  0.9300  |       0.9400  |  {seconds:.4f}  |")
"""


def test_the_peer_of_the_speed_run_is_read_from_its_table(run, tmp_path):
    file = tmp_path / "airbench94_muon.py"
    file.write_text(AIRBENCH)
    assert [answer["seconds"] for answer in run.airbench.runs(file, 2)] == [2, 3]
    assert {answer["accuracy"] for answer in run.airbench.runs(file, 3)} == {0.94}
    with pytest.raises(run.CannotRun, match=r"airbench94_muon.py ended after 3 of 4 runs; it says above why"):
        list(run.airbench.runs(file, 4))
    with pytest.raises(run.CannotRun, match=r"the peer is not at .*none.py: give the path of airbench94_muon.py"):
        list(run.airbench.runs(tmp_path / "none.py", 1))


ON_CPU = """
import torch
from torch import nn

@torch.compile
def scaled(x):
    return x.bfloat16() * 2

class CifarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2).half()

def main(run, model):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    images = torch.load("images.pt", map_location=torch.device("cuda")).half()
    start.record()
    out = scaled(model.head(images))
    end.record()
    torch.cuda.synchronize()
    assert out.dtype == torch.float32 and out.device.type == "cpu"
    print(f"|  {run}  |  eval  |  1  |  1  |  {len(out) / 10:.4f}  |  {1e-3 * start.elapsed_time(end):.4f}  |")
"""


@pytest.mark.slow
def test_the_peer_of_the_speed_run_runs_on_the_cpu_in_float32(run, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "airbench94_muon.py").write_text(ON_CPU)
    torch.save(torch.zeros(7, 4), tmp_path / "images.pt")
    answers = list(run.airbench.runs(tmp_path / "airbench94_muon.py", 2, on_cpu=True))
    assert [answer["accuracy"] for answer in answers] == [0.7, 0.7]
    assert all(0 <= answer["seconds"] < 60 for answer in answers)


def test_the_speed_run_compares_whole_runs(run, monkeypatch, tmp_path, capsys):
    class Side:
        def __init__(self, program, settings, environment):
            self._answers = iter([{"choice": "GPU"}, *[{"seconds": 2, "ahead_seconds": 30, "accuracy": 0.941}] * 2])

        def ask(self):
            return next(self._answers)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(run, "Side", Side)
    monkeypatch.setattr(run, "why_not", lambda benchmark, **_: None)
    arguments = ["P7", "--rounds", "2", "--json", str(tmp_path / "figures.json")]
    run.main(arguments)
    assert "P7 skipped: the peer is not part of this project: give the path of" in capsys.readouterr().out
    (tmp_path / "airbench94_muon.py").write_text(AIRBENCH)
    run.main([*arguments, "--airbench", str(tmp_path / "airbench94_muon.py")])
    printed = capsys.readouterr().out
    assert "P7 ratio 1.25 (min 1.00, max 1.50, rounds 2)" in printed
    assert "mean accuracy of 2 runs: torch 94.00%, ours 94.10%" in printed
    assert "not counted: 30 s a run" in printed


def test_a_missing_compiler_is_no_error(run, monkeypatch, tmp_path, capsys):
    class Side:
        def __init__(self, program, settings, environment):
            self._steps = importlib.import_module("benchmarks.compiled").steps(**settings)

        def ask(self):
            return next(self._steps)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "Side", Side)
    run.main(["P9", "P10", "--json", str(tmp_path / "figures.json")])
    printed = capsys.readouterr().out
    assert "P9 skipped: the TPU compiler is not installed: pip install" in printed
    assert "P10 skipped: the GPU compiler is not installed: pip install" in printed


def test_an_unknown_benchmark_is_named(run, capsys):
    with pytest.raises(SystemExit):
        run.main(["P0"])
    assert "there is no benchmark P0: choose from P1, P2" in capsys.readouterr().err


def test_two_networks_are_not_compared(run, monkeypatch):
    class Side:
        def __init__(self, program, settings, environment):
            self._parameters = {"peer:steps": 10, "ours:steps": 11}[program]

        def ask(self):
            return {"parameters": self._parameters, "choice": ""}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(run, "Side", Side)
    with pytest.raises(RuntimeError, match="different networks: {'torch': 10, 'ours': 11}"):
        list(run.BENCHMARKS["P1"].measure(run.Options(1, True, "best", None)))


@pytest.mark.parametrize("name", ["P1", "P3a", "P4", "P5", "P8"])
def test_both_sides_take_the_settings_that_they_are_given(name, run, monkeypatch):
    import_torchvision()

    class Side:
        def __init__(self, program, settings, environment):
            module, function = program.split(":")
            called = getattr(importlib.import_module(f"benchmarks.{module}"), function)
            inspect.signature(called).bind(**settings)

        def ask(self):
            names = ("seconds", "host_seconds", "since_start", "first", "second", "host_bytes", "device_bytes")
            return dict.fromkeys(names, 1) | {"parameters": 1, "choice": ""}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(run, "Side", Side)
    for result in run.BENCHMARKS[name].measure(run.Options(1, True, "best", None)):
        assert result.ratios == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        pytest.param("P1", ["P1"], marks=pytest.mark.deep),
        pytest.param("P4", ["P4a", "P4b"], marks=pytest.mark.deep),
        pytest.param("P4c", ["P4c"], marks=pytest.mark.deep),
        pytest.param("P8", ["P8"], marks=pytest.mark.deep),
    ],
)
def test_smoke(run, name, printed, tmp_path, capsys):
    import_torchvision()
    run.main([name, "--smoke", "--rounds", "2", "--json", str(tmp_path / "figures.json")])
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "figures.json").read_text())["results"]
    for line in printed:
        pattern = rf"{line} ratio \d+\.\d\d \(min \d+\.\d\d, max \d+\.\d\d, rounds 2\)"
        assert any(re.fullmatch(pattern, text) for text in lines)
        assert len(results[line]["ratios"]) == len(results[line]["measurements"]["torch"]) == 2
        assert all(ratio > 0 for ratio in results[line]["ratios"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line", "package"), [("P9", "P9c", "libtpu"), ("P10", "P10c", "jax_cuda13_plugin")])
def test_compiled_steps_of_hardware_that_is_not_here(run, name, line, package, tmp_path, capsys):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    run.main([name, "--smoke", "--json", str(tmp_path / "figures.json")])
    (result,) = json.loads((tmp_path / "figures.json").read_text())["results"].values()
    key = {"P9": "cycles", "P10": "traffic"}[name]
    plain, ours = (result["measurements"][side][0] for side in ("plain", "ours"))
    assert result["ratios"] == [plain[key] / ours[key]]
    assert (
        plain["parameters"]
        == ours["parameters"]
        == (27 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128 + 129 * 256 + 2570
    )
    assert f"{line} ratio {plain[key] / ours[key]:.2f}" in capsys.readouterr().out
