"""Runs that are killed at random moments end as if nothing had happened, in every configuration that has a state."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kills", ["2", pytest.param("26", marks=pytest.mark.deep)])
def test_killed_at_random_moments(kills, tiny_arrays, tmp_path):
    """IMGCLS_TEST_KILLS sets their number, IMGCLS_TEST_SEED the moments."""
    kills, seed = os.environ.get("IMGCLS_TEST_KILLS", kills), os.environ.get("IMGCLS_TEST_SEED", "0")
    np.savez(tmp_path / "arrays.npz", **tiny_arrays)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_campaign.py"), tmp_path, kills, seed],
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"},  # compiles in a third of the time
        text=True,
        capture_output=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert sum(map(int, re.findall(r": (\d+) kills", done.stdout))) >= int(kills)
