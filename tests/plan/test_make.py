import dataclasses
import importlib.util
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import hardware, images, make, programs, report


@pytest.fixture(scope="module")
def config():
    small = io.load("configs/digits_cnn.py", ["batch_size=16"])
    model = dataclasses.replace(small.model, convs=small.model.convs[:1], aggregate="average")
    return dataclasses.replace(small, model=model, augment=())


@pytest.fixture(scope="module")
def plan(config):
    return make.make(config, hardware.parse("here"))


def test_here_takes_what_the_compiled_step_says(config, plan):
    mesh = meshes.make(config.mesh)
    run = programs.experiment(config, images.unread(config, None, None)[0], mesh)
    _, step = run.enter_phase(run.abstract_state(0), 0, previous=0)
    wanted = step.memory_analysis()
    memory = plan.training.memory
    beside = ("temporaries", "outputs")
    assert memory["temporaries"] == wanted.temp_size_in_bytes
    assert sum(n for name, n in memory.items() if name not in beside) == wanted.argument_size_in_bytes
    assert memory["outputs"] == wanted.output_size_in_bytes - wanted.alias_size_in_bytes


def test_a_cpu_holds_the_process_too(plan):
    import resource  # Unix alone has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.2 * peak < plan.process * plan.devices <= peak, "this process is larger, by the tests before"
    assert plan.need == max(plan.training.total, plan.evaluation.total) + plan.process
    assert "of the process" in report.rows(plan)


def test_parameters_by_hand(plan):
    # A 3×3 convolution from 1 to 32 channels with bias, BatchNorm's two, then 32 to 10 with bias, float32.
    kernel, head = 9 * 32, 32 * 10 + 10
    assert plan.training.memory["parameters"] == 4 * (kernel + 3 * 32 + head)


def test_report_of_what_does_not_fit(plan):
    full = dataclasses.replace(plan, available=plan.need - 2048, suggestions=("--config.remat=True",))
    table = report.rows(full)
    assert table["verdict"] == "does not fit: 2.0 KiB too much"
    assert table["compiled and fits"] == "--config.remat=True"
    assert json.loads(json.dumps(report.document(full)))["fits"] is False


def test_report_of_batch_norm(plan):
    assert plan.batch_norm == (16, plan.devices)
    alone = report.rows(dataclasses.replace(plan, batch_norm=(2, 1), devices=8))
    assert alone["BatchNorm"] == "over 2 images at a time, of one device"
    grouped = report.rows(dataclasses.replace(plan, batch_norm=(16, 8), devices=8))
    assert grouped["BatchNorm"].startswith("over 16 images at a time, of 8 devices: --config.bn_group=1 needs no sums")
    assert "BatchNorm" not in report.rows(dataclasses.replace(plan, batch_norm=None))


@pytest.mark.slow
def test_suggestions_are_compiled_and_fit(config, plan, monkeypatch):
    monkeypatch.setattr(make, "memory_limit", lambda mesh: plan.need - 1)
    # This process grows with each step that it compiles, which is no fault of the smaller ones.
    peaks = itertools.count(plan.process * plan.devices, 2**24)
    monkeypatch.setattr(make, "peak_memory", lambda: next(peaks))
    found = make.make(config, hardware.parse("here")).suggestions
    assert "--config.batch_size=8" in found
    monkeypatch.setattr(make, "peak_memory", lambda: plan.process * plan.devices)
    half = make.make(dataclasses.replace(config, batch_size=8), hardware.parse("here"))
    assert half.need <= half.available == plan.need - 1
    assert half.suggestions == ()


@pytest.mark.slow
def test_minimum_is_the_gradients_in_the_compute_type(config, plan):
    assert plan.minimum == plan.training.memory["parameters"]
    assert make.make(dataclasses.replace(config, precision="bf16"), hardware.parse("here")).minimum == plan.minimum / 2


def test_estimate_is_the_longest_of_the_three(plan):
    step = dataclasses.replace(plan.training, flops=494e12, traffic=3352, collectives={"all-reduce": (1, 450 * 10**9)})
    found = report.estimate(step, hardware.parse("h100x4"), "fp32")
    assert found is not None
    np.testing.assert_allclose([found.arithmetic, found.memory, found.network], [1, 1e-9, 2 * 3 / 4])
    assert (found.step, found.limit) == (1.5, "network")


@pytest.mark.parametrize("name", ["h200x8", "v5e", "v5e:2", "h100:2x2", "h100x0", "x"])
def test_other_hardware_is_one_sentence(name):
    with pytest.raises(UserError, match="--on"):
        hardware.parse(name)


def test_unknown_classes_are_asked_for(config):
    data = dataclasses.replace(config.data, source=c.Folder("nowhere"))
    with pytest.raises(UserError, match="--classes 1000"):
        images.unread(dataclasses.replace(config, data=data), None, None)


@pytest.mark.parametrize(("name", "package"), [("v5e:2x2", "libtpu"), ("h100x8", "jax-cuda13-plugin")])
def test_missing_compiler_is_named(name, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"pip install.*{package}"):
        hardware.prepare(hardware.parse(name))


@pytest.mark.slow
def test_devices_that_share_a_batch_send_little_but_the_gradients():
    digits = io.load("configs/digits_cnn.py")
    mesh = meshes.make(digits.mesh)
    step = programs.training(programs.experiment(digits, images.unread(digits, None, None)[0], mesh), 0)
    gradients = step.memory["parameters"]
    least = report.wire_bytes({"all-reduce": (1, gradients)}, mesh.size)
    assert least == 2 * gradients * (mesh.size - 1) / mesh.size
    assert least <= report.wire_bytes(step.collectives, mesh.size) <= 1.01 * least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "kinds", "most"),
    [
        # Parameters are gathered twice and gradients summed once, where a sum everywhere is worth two of these.
        ("mesh.fsdp=8", {"all-reduce", "all-gather", "reduce-scatter"}, 1.55),
        # Gradients are summed once for all parts, BatchNorm's statistics in each.
        ("optim.accumulate=4", {"all-reduce"}, 1.04),
    ],
)
def test_bytes_sent_between_gpus(setting, kinds, most):
    document = planned("configs/digits_cnn.py", "h100x8", setting)
    collectives = {kind: (count, sent) for kind, (count, sent) in document["training"]["collectives"].items()}
    assert collectives.keys() == kinds
    least = report.wire_bytes({"all-reduce": (1, document["minimum"])}, 8)
    assert report.wire_bytes(collectives, 8) <= most * least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "devices"), [("h100x8", 8), ("v5e:2x2", 4)])
def test_hardware_that_is_not_here(name, devices):
    document = planned("configs/digits_cnn.py", name)
    assert document["fits"] and document["devices"] == devices
    count, sent = document["training"]["collectives"]["all-reduce"]
    assert count > 0 and document["minimum"] <= sent <= 1.01 * document["minimum"]
    assert document["estimate"]["step"] > 0


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "devices"), [("v5e:2x2", 4), ("v5p:2x2x1", 4), ("h100x1", 1), ("h100x8", 8), ("h100x8x2", 16)]
)
@pytest.mark.parametrize(
    ("spec", "settings", "gigaflops"),
    [
        # The forward pass of a ResNet-50 at 224 pixels has 4.1·10⁹ multiplications and additions (torchvision's
        # `GFLOPS` in its documents, which counts both as one), and a step two more for each: but for the input of the
        # first convolution, or, where layers are frozen, for their kernels and all that is below them.
        ("cifar100_r50.py", [], (2 * 4.1, 6 * 4.1)),
        (
            "cifar10_r50.py",
            ["data.canvas.height=256", "data.canvas.width=256", "data.image_size=(224, 224)"],
            (5.8 * 4.09, 6 * 4.12),
        ),
        # KellerJordan/cifar10-airbench states 3.6·10¹⁴ for 9.9 epochs of 50,000 images and their evaluation.
        ("cifar10_speedrun.py", [], (0.69, 0.76)),
    ],
)
def test_deep_networks_compile_for_hardware_that_is_not_here(name, devices, spec, settings, gigaflops):
    document = planned(f"configs/{spec}", name, *settings)
    assert document["fits"] and document["devices"] == devices
    least, most = gigaflops
    assert least < document["training"]["flops"] * devices / document["batch_size"] / 1e9 < most
    assert document["need"] > sum(document["training"]["memory"][part] for part in ("parameters", "optimizer"))


def planned(spec, name, *settings):
    """What `imgcls plan --json` prints; skips where the compiler is not installed."""
    package = "jax_cuda13_plugin" if name.startswith("h100") else "libtpu"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-m", "imgcls_jax", "plan", "--config", spec, "--on", name, "--json"]
    command += [f"--config.{setting}" for setting in settings]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
