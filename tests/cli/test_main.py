"""The command as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls_jax import main
from imgcls_jax.errors import UserError

REPOSITORY = Path(__file__).parents[2]
QUICK = ["--config.epochs=3", "--config.eval_batch_size=32"]


def command(*arguments, **environment):
    """Run a command of the package in a process of its own, at the repository's root, on one device."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_digits_from_the_command_line(tmp_path):
    """Also: training imports neither TensorFlow nor torch nor W&B."""
    arguments = ["--config", "configs/digits_cnn.py", "--workdir", tmp_path / "run", *QUICK]
    done = command("-X", "importtime", "-m", "imgcls_jax.main", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    # -X importtime also lists imports that failed, so look for what only a real import brings: the submodules.
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {name.split(".")[0] for name in names if "." in name}
    assert "jax" in imported
    assert not imported & {"tensorflow", "torch", "wandb", "mlflow", "trackio"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["count"] == 359
    for text in ("convs.0", "per class (10 classes)", "    3/3    ", "top-1", f"imgcls report {tmp_path}"):
        assert text in done.stdout
    for text in ("split hash", "mesh", "XLA"):
        assert text not in done.stdout
    assert max(map(len, done.stdout.replace(str(tmp_path), "").splitlines())) < 80
    assert "\x1b" not in done.stdout, "plain text where there is no terminal"


@pytest.mark.slow
def test_a_mistake_is_one_line_and_status_2(tmp_path):
    done = command("-m", "imgcls_jax.main", "--config", "configs/digits_cnn.py", "--config.epochz=3")
    assert done.returncode == 2
    assert (
        done.stderr.splitlines()[-1]
        == "error: --config.epochz: the config has no setting 'epochz' (did you mean \"epochs\"?)"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["rocm", "tpu"])  # one that JAX does not know here, one that it cannot start
def test_a_device_that_is_not_there(platform, tmp_path):
    arguments = ["--config", "configs/digits_cnn.py", "--workdir", tmp_path / "run"]
    done = command("-m", "imgcls_jax.main", *arguments, JAX_PLATFORMS=platform)
    if done.returncode == 0:
        pytest.skip(f"this machine has a {platform} device")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: JAX finds no device of JAX_PLATFORMS='{platform}': install")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config", "nothing.py"], "there is no config file nothing.py"),
        (["--config", "configs/digits_cnn.py", "--wrkdir", "x"], 'has no flag --wrkdir (did you mean "--workdir"?)'),
        (["--config", "configs/digits_cnn.py", "--config.epochs"], "--config.epochs lacks a value"),
    ],
)
def test_bad_flags(arguments, message, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(UserError) as error:
        main.main(arguments)
    assert message in str(error.value)


def test_config_help_lists_the_settings(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as end:
        main.main(["--config", "configs/digits_cnn.py", "--config.epochs", "7", "--config.help"])
    assert end.value.code == 0
    assert "epochs = 7   (0 < int ≤ 1,000,000)\n    Passes over the training images." in capsys.readouterr().out
