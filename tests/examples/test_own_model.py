"""The example of a network of one's own, as its docstring says it is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls_jax.cli import check
from imgcls_jax.config import io

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"


@pytest.mark.slow
def test_it_trains_from_a_torch_file_and_restores():
    # As a script, where no other JAX runs yet.
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(EXAMPLE.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "restored: SmallNetModule, SmallNet(width=16)" in done.stdout
    assert "classes of two black images: " in done.stdout


@pytest.mark.slow
def test_its_network_keeps_the_contract(capsys):
    check.main([f"{EXAMPLE}:SmallNet", "--size", "8", "--channels", "1"])
    assert "all 12 checks passed" in capsys.readouterr().out


def test_it_is_a_config():
    config = io.load(str(EXAMPLE), ["model.width=32"])
    assert (type(config.model).__name__, config.model.width) == ("SmallNet", 32)
