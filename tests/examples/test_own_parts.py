"""Each example of a part of one's own trains, and is a config file."""

import json
import runpy
from pathlib import Path

import pytest

from imgcls_jax.config import io

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_augmentation", "own_optimizer", "own_schedule", "own_loss", "own_metric"])
def test_it_trains_and_is_restored(name, tmp_path):
    result = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](tmp_path)
    assert result["test"]["top1"] > 0.9
    config = io.restore(tmp_path / "run" / "config.json")
    assert io.document(config) == io.document(io.load(str(EXAMPLES / f"{name}.py")))
    assert config.name == name
    own = [kind for kind in _kinds(io.document(config)) if kind.startswith(f"imgcls_config_{name}:")]
    assert len(own) == 1
    if name == "own_metric":  # it decides
        history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        errors = [record["validation"]["calibration_error"] for record in history]
        assert result["best_epoch"] == errors.index(min(errors))
        assert 0 < result["test"]["calibration_error"] < 0.5
        assert 0.9 < result["test"]["macro_f1"] <= 1


@pytest.mark.slow
def test_own_callbacks_stop_log_and_prune(tmp_path):
    result, search = runpy.run_path(str(EXAMPLES / "own_callback.py"))["main"](tmp_path)
    assert result["epochs"] < 6
    assert result["stopped"] == "the validation accuracy has reached 90%"
    assert result["history"][-1]["validation"]["top1"] >= 0.9
    assert all(record["figures"]["largest_gradient_norm"] > 0 for record in result["history"])
    config = io.restore(tmp_path / "run" / "config.json")
    assert io.document(config) == io.document(io.load(str(EXAMPLES / "own_callback.py")))
    assert [bool(run["stopped"]) for run in search.values()][-1], "a rate of 1e-5 is hopeless"
    assert search[1e-5]["epochs"] == 1


def _kinds(node):
    if isinstance(node, dict):
        return [node.get("kind", "")] + [kind for value in node.values() for kind in _kinds(value)]
    return [kind for item in node for kind in _kinds(item)] if isinstance(node, list) else []
