"""The loop, end to end on a tiny task."""

import asyncio
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.metrics import Metrics
from imgcls_jax.inference import Classifier
from imgcls_jax.record.checkpoint import Checkpoints
from imgcls_jax.training.best import best_epoch, out_of_patience
from imgcls_jax.training.callbacks.recovery import not_finite
from imgcls_jax.training.loop import train
from imgcls_jax.training.progress import StepMetrics


def final_params(workdir):
    """Flat {path: array} of the newest checkpoint's parameters."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    tree = checkpoints.arrays(checkpoints.latest())
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree["params"])}


def assert_same(left, right, **tolerance):
    assert left.keys() == right.keys()
    for path in left:
        if tolerance:
            np.testing.assert_allclose(left[path], right[path], err_msg=path, **tolerance)
        else:
            np.testing.assert_array_equal(left[path], right[path], err_msg=path)


def test_it_learns_and_leaves_its_record(tiny_config, tiny_arrays, drawn_curves, tmp_path):
    config = tiny_config(epochs=8, logging=c.Logging(tensorboard=True))
    result = train(config, tmp_path / "run", arrays=tiny_arrays)
    assert result["test"]["count"] == 27
    assert result["validation"]["count"] == 21
    assert result["test"]["top1"] > 0.9  # chance is 0.33
    assert result["epochs"] == 8
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == list(range(8))
    assert all(record["train"]["count"] == 64 for record in history)  # 4 steps of 16; the remainder of 8 is left out
    assert history[result["best_epoch"]]["validation"] == result["validation"]
    for name in ("config.json", "environment.json", "curves.png", "parameters.txt", "split.npz"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    card = Checkpoints(tmp_path / "run" / "checkpoints").run(8 * 4)["card"]
    assert card["class_names"] == ["0", "1", "2"]
    assert card["config"]["config"]["data"]["mean"] == [0.5, 0.5, 0.5]


def test_in_an_event_loop_as_notebooks_have_one(tiny_config, tiny_arrays, tmp_path):
    async def cell():
        result = train(tiny_config(epochs=1), tmp_path, arrays=tiny_arrays)
        return result, Classifier.load(tmp_path).predict(list(tiny_arrays["x_test"]))

    result, predictions = asyncio.run(cell())
    right = [int(made.label) == label for made, label in zip(predictions, tiny_arrays["y_test"], strict=True)]
    assert np.mean(right) == pytest.approx(result["test"]["top1"])


@pytest.mark.parametrize("devices", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("feed", [pytest.param("resident", marks=pytest.mark.slow), "streamed"])
def test_evaluation_equals_a_count_by_hand(devices, feed, tiny_config, tiny_arrays, tmp_path):
    """27 test images in batches of 16: every one counts exactly once, on any number of devices."""
    config = tiny_config(mesh=c.Mesh(devices=devices), data=_with_feed(tiny_config(), feed))
    result = train(config, tmp_path, arrays=tiny_arrays)

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saved = jax.tree.map(jnp.asarray, checkpoints.arrays((result["best_epoch"] + 1) * 4))
    model = config.model.build(num_classes=3, channels=3, image_size=(8, 8), dtype=np.float32, rngs=nnx.Rngs(0))
    view = nnx.view(model, deterministic=True, use_running_average=True, update_running=False)
    graph, _, _ = nnx.split(view, nnx.Param, nnx.BatchStat)
    images = (tiny_arrays["x_test"] / np.float32(255) - 0.5) / 0.25
    logits = np.asarray(
        nnx.merge(graph, _int_keys(saved["params"]), _int_keys(saved["stats"]))(jnp.asarray(images, np.float32)),
        np.float64,
    )
    labels = tiny_arrays["y_test"]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert result["test"]["count"] == 27
    assert result["test"]["top1"] == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-7)
    assert result["test"]["loss"] == pytest.approx(-log_p[np.arange(27), labels].mean(), rel=1e-5)


@pytest.mark.slow
def test_resident_and_streamed_give_the_same_parameters(tiny_config, tiny_arrays, tmp_path):
    for feed in ("resident", "streamed"):
        train(tiny_config(data=_with_feed(tiny_config(), feed)), tmp_path / feed, arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "resident"), final_params(tmp_path / "streamed"), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_eight_devices_give_the_parameters_of_one(tiny_config, tiny_arrays, tmp_path):
    """BatchNorm's statistics are the whole batch's, so only the rounding of sums differs."""
    meshes = {"one": c.Mesh(devices=1), "eight": c.Mesh(devices=8), "fsdp": c.Mesh(devices=8, fsdp=4)}
    for name, mesh in meshes.items():
        train(tiny_config(mesh=mesh), tmp_path / name, arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "one"), final_params(tmp_path / "eight"), rtol=0, atol=1e-5)
    assert_same(final_params(tmp_path / "one"), final_params(tmp_path / "fsdp"), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_finished_run_called_again_changes_nothing(tiny_config, tiny_arrays, tmp_path):
    first = train(tiny_config(), tmp_path, arrays=tiny_arrays)
    params = final_params(tmp_path)
    again = train(tiny_config(), tmp_path, arrays=tiny_arrays)
    assert again == first
    assert_same(final_params(tmp_path), params)


@pytest.mark.slow
def test_another_config_is_refused_with_every_difference(tiny_config, tiny_arrays, tmp_path):
    workdir = tmp_path / "run"
    train(tiny_config(), workdir, arrays=tiny_arrays)
    changed = tiny_config(seed=1, augment=(c.HorizontalFlip(0.25),))
    with pytest.raises(UserError, match="holds a run of another config") as error:
        train(changed, workdir, arrays=tiny_arrays)
    assert "seed: 0 → 1" in str(error.value)
    assert "augment[0].p: 0.5 → 0.25" in str(error.value)

    train(changed, workdir, arrays=tiny_arrays, overwrite=True)
    assert (tmp_path / "run.old1" / "result.json").exists(), "the old run is moved aside, not deleted"


def test_a_run_without_a_checkpoint_may_be_started_anew_with_other_settings(tiny_config, tiny_arrays, tmp_path):
    with pytest.raises(UserError, match="larger than the training set"):
        train(tiny_config(batch_size=80), tmp_path / "run", arrays=tiny_arrays)
    assert train(tiny_config(), tmp_path / "run", arrays=tiny_arrays)["epochs"] == 2


def test_a_folder_of_other_things_is_not_written_into(tiny_config, tiny_arrays, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is no run's and holds"):
        train(tiny_config(), tmp_path, arrays=tiny_arrays)
    with pytest.raises(UserError, match="is a file"):
        train(tiny_config(), tmp_path / "thesis.tex", arrays=tiny_arrays)


def test_nan_is_caught_and_explained(tiny_config, tiny_arrays, tmp_path):
    schedule = c.Schedule(peak=1e30, shape=c.Constant())
    config = tiny_config(optim=c.Optim(optimizer=c.SGD(), schedule=schedule))
    with pytest.raises(UserError, match=r"the loss is NaN or infinite in epoch 1 by step \d.* at learning rate 1e\+30"):
        train(config, tmp_path, arrays=tiny_arrays)


def test_fp16_may_skip_the_first_steps_but_not_a_whole_epoch():
    first, last = (StepMetrics(0, step, step, 0.1, Metrics.empty(), jnp.array(True), None) for step in (1, 3))
    assert not_finite(first, 3) is None
    assert "infinite in every step in epoch 1 by step 3" in not_finite(last, 3)


@pytest.mark.slow
def test_recovery_from_the_start_equals_a_run_at_the_lower_rate(tiny_config, tiny_arrays, tmp_path):
    def optim(peak):
        return c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=peak, shape=c.Constant()))

    low = tiny_config(epochs=1, optim=optim(0.01))
    train(low, tmp_path / "low", arrays=tiny_arrays)
    high = dataclasses.replace(low, optim=optim(1e30), recover=c.Recover(factor=1e-16, times=2))
    train(high, tmp_path / "high", arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "low"), final_params(tmp_path / "high"), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_recovery_goes_back_to_the_last_good_epoch(tiny_config, tiny_arrays, tmp_path, capsys):
    schedule = c.Schedule(peak=0.01, per="epoch", shape=c.MultiStep(at=(1,), factor=1e30))
    config = tiny_config(
        epochs=3, optim=c.Optim(optimizer=c.SGD(), schedule=schedule), recover=c.Recover(factor=1e-31, times=1)
    )
    train(config, tmp_path, arrays=tiny_arrays)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert [record["learning_rate"] for record in history] == pytest.approx([0.01, 0.001, 0.001])
    said = capsys.readouterr().out
    assert "in epoch 2" in said
    assert "going back to epoch 2, step 1 with the learning rate times 1e-31 (time 1 of 1)" in " ".join(said.split())


def test_recovery_ends_after_so_many_times(tiny_config, tiny_arrays, tmp_path):
    schedule = c.Schedule(peak=1e30, shape=c.Constant())
    config = tiny_config(optim=c.Optim(optimizer=c.SGD(), schedule=schedule), recover=c.Recover(times=2))
    with pytest.raises(UserError, match=r"at learning rate 2\.5e\+29"):
        train(config, tmp_path, arrays=tiny_arrays)


@pytest.mark.slow
def test_early_stopping(tiny_config, tiny_arrays, tmp_path):
    schedule = c.Schedule(peak=1e-12, shape=c.Constant())  # nothing is learnt, so the first epoch stays the best
    config = tiny_config(
        epochs=9,
        optim=c.Optim(optimizer=c.SGD(), schedule=schedule),
        early_stopping=c.EarlyStopping(patience=2, min_delta=0.5),
        best=c.Best("loss"),
    )
    result = train(config, tmp_path, arrays=tiny_arrays)
    assert result["epochs"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_too(precision, tiny_config, tiny_arrays, tmp_path):
    result = train(tiny_config(epochs=8, precision=precision), tmp_path, arrays=tiny_arrays)
    assert result["test"]["top1"] > 0.9
    assert all(value.dtype == np.float32 for value in final_params(tmp_path).values())


@pytest.mark.slow
def test_one_sigmoid_output(tiny_config, tiny_arrays, tmp_path):
    arrays = {}
    for split in ("train", "validation", "test"):
        two = tiny_arrays[f"y_{split}"] < 2
        arrays |= {f"x_{split}": tiny_arrays[f"x_{split}"][two], f"y_{split}": tiny_arrays[f"y_{split}"][two]}
    model = c.CNN(convs=(c.Conv(4, 3, pool=2),), aggregate="flatten", head=c.Head(sigmoid=True))
    result = train(tiny_config(model=model, loss=c.BinaryCrossEntropy(), epochs=8), tmp_path, arrays=arrays)
    assert result["test"]["top1"] > 0.9
    assert result["test"]["top5"] == 1.0


def _record(epoch, top1, loss):
    return {"epoch": epoch, "validation": {"top1": top1, "top5": 1.0, "loss": loss}}


def test_ties_of_the_best_epoch_go_to_the_lower_loss(tiny_config):
    history = [_record(0, 0.5, 2.0), _record(1, 0.7, 1.5), _record(2, 0.7, 1.0), _record(3, 0.6, 1.0)]
    config, by_loss = tiny_config(), tiny_config(best=c.Best("loss"))
    assert best_epoch(history, config) == 2
    assert best_epoch(history, by_loss) == 2, "the first of equals"
    assert best_epoch([{"validation": None}] * 3, config) == 2
    assert best_epoch([], config) is None


@pytest.mark.parametrize("metric", ["top1", "loss"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_the_best(bad, metric, tiny_config):
    config = tiny_config(best=c.Best(metric))
    assert best_epoch([_record(0, bad, bad), _record(1, 0.1, 9.0)], config) == 1
    assert best_epoch([_record(0, 0.1, 9.0), _record(1, bad, bad)], config) == 0
    assert best_epoch([_record(0, 0.1, bad), _record(1, 0.1, 9.0)], config) == 1


def test_patience_counts_from_the_last_real_improvement(tiny_config):
    config = tiny_config(early_stopping=c.EarlyStopping(patience=2, min_delta=0.1), best=c.Best("loss"))
    losses = [2.0, 1.85, 1.95, 1.7, 1.65, 1.62]
    stopped = [out_of_patience([_record(i, 0, x) for i, x in enumerate(losses[:n])], config) for n in range(7)]
    # 1.85 improves on 2.0; 1.95 does not; 1.7 improves on 1.85; 1.65 and 1.62 do not improve on 1.7 by 0.1.
    assert stopped == [False] * 6 + [True]
    assert not math.isnan(losses[0])


def _with_feed(config, feed):
    return c.Data(
        source=config.data.source,
        canvas=config.data.canvas,
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        feed=feed,
    )


def _int_keys(tree):
    """A restored tree's list positions, which come back as text, as numbers."""
    if not isinstance(tree, dict):
        return tree
    return {int(key) if key.isdigit() else key: _int_keys(value) for key, value in tree.items()}
