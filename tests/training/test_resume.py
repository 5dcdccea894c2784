"""A run that is killed and started again ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_loop import assert_same, final_params

from imgcls_jax import config as c
from imgcls_jax.config import io as files

PROGRAM = Path(__file__).with_name("killed_run.py")


@pytest.fixture
def start(tiny_config, tiny_arrays, tmp_path):
    """Starts the program in a process of its own, with one device; everything random is switched on."""
    config = tiny_config(
        epochs=3,
        augment=(c.PadCrop(1), c.HorizontalFlip(), c.Mixup(0.5, from_epoch=1)),
        optim=c.Optim(
            optimizer=c.AdamW(),
            schedule=c.Schedule(peak=0.01, shape=c.Cosine()),
            ema=c.EMA(0.9),
        ),
        save_every_steps=1,
        logging=c.Logging(tensorboard=True),
    )
    (tmp_path / "config.json").write_text(json.dumps(files.document(config)))
    np.savez(tmp_path / "arrays.npz", **tiny_arrays)
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"}

    def run(workdir, moment="never", **kwargs):
        command = [
            sys.executable,
            PROGRAM,
            tmp_path / workdir,
            tmp_path / "config.json",
            tmp_path / "arrays.npz",
            moment,
        ]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **kwargs)

    return run


def history(workdir):
    """metrics.jsonl without what depends on the clock."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in r.items() if k not in ("seconds", "images_per_second", "waited_for_data")} for r in records
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["saving", pytest.param("training", marks=pytest.mark.deep), pytest.param("evaluating", marks=pytest.mark.deep)],
)
def test_killed_and_restarted_run_is_bit_identical(moment, start, tmp_path):
    assert start("whole").wait() == 0
    assert start(moment, moment).wait() == -signal.SIGKILL, f"the run was to die while {moment}"
    assert not (tmp_path / moment / "result.json").exists()
    assert start(moment).wait() == 0
    assert_same(final_params(tmp_path / "whole"), final_params(tmp_path / moment))
    assert history(tmp_path / "whole") == history(tmp_path / moment)
    results = [json.loads((tmp_path / run / "result.json").read_text()) for run in ("whole", moment)]
    assert results[0]["test"] == results[1]["test"]
