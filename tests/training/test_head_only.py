"""Training on features that are computed once: equal to training on images, and where it is not done."""

import dataclasses

import numpy as np
import pytest
from test_loop import final_params

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions
from imgcls_jax.inference import Classifier
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import head_only
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.interruption import Interrupted
from imgcls_jax.training.loop import train

FROZEN = c.BatchNormMode(train_affine=False, normalize_by="running", update_running=False)


@pytest.fixture
def frozen(tiny_config, tmp_path, monkeypatch):
    """A config of which the head alone trains, with dropout and a BatchNorm of its own."""
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    return tiny_config(
        data=dataclasses.replace(tiny_config().data, canvas=c.Canvas(11, 10)),
        augment=(),
        model=c.CNN(
            convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head(dropout=0.3)
        ),
        transfer=c.Transfer(freeze=("convs.*",), allow_frozen_random=True, batch_norm=FROZEN),
        logging=c.Logging(tensorboard=False),
    )


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_a_run_on_features_is_that_on_images(frozen, tiny_arrays, tmp_path, monkeypatch, capsys, feed):
    calls, features = [], Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda self, x: calls.append(len(x)) or features(self, x))
    settings = dataclasses.replace(frozen.data, feed=feed)
    results = {}
    for name, limit in (("features", settings.cache_gib), ("images", 0.0)):
        config = dataclasses.replace(frozen, data=dataclasses.replace(settings, cache_gib=limit))
        results[name] = train(config, tmp_path / name, arrays=tiny_arrays)
        said = "only the head trains: the 64 features of the 93 training and validation images are computed once"
        assert (said in " ".join(capsys.readouterr().out.split())) == (name == "features")
        assert calls == [72, 21]

    ours, theirs = (final_params(tmp_path / name) for name in results)
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-5, atol=1e-6, err_msg=path)
    for mine, other in zip(*(result["history"] for result in results.values()), strict=True):
        for split in ("train", "validation"):
            assert mine[split] == pytest.approx(other[split], rel=1e-5)
    assert results["features"]["test"] == pytest.approx(results["images"]["test"], rel=1e-5)
    kept = [predictions.load(predictions.path_of(tmp_path / name, "validation")).logits for name in results]
    np.testing.assert_allclose(*kept, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_with_the_weights_it_began_with(frozen, tiny_arrays, tmp_path):
    start, run = tmp_path / "start", tmp_path / "run"
    transfer = dataclasses.replace(frozen.transfer, init_from=str(start), allow_frozen_random=False)
    config = dataclasses.replace(frozen, transfer=dataclasses.replace(transfer, replace=("head.*",)))
    config = dataclasses.replace(config, epochs=3)
    for seed in (1, 2):
        train(dataclasses.replace(frozen, seed=seed, epochs=1), start, arrays=tiny_arrays, overwrite=True)
        for _ in range(2 if seed == 1 else 0):
            with pytest.raises(Interrupted):
                train(config, run, arrays=tiny_arrays, callbacks=[InterruptAfterAnEpoch()])
    with pytest.raises(UserError, match=f"{start} gave other weights when this run began"):
        train(config, run, arrays=tiny_arrays)


class InterruptAfterAnEpoch(Callback):
    def on_epoch(self, run, record):
        run.interrupt()


def begins_at_the_head(config, arrays) -> bool:
    mesh = meshes.make(config.mesh)
    experiment = Experiment(config, data.load(config.data, arrays=arrays), mesh)
    begun = []
    experiment.start_at_the_head = lambda *inputs: begun.append(inputs)
    head_only.prepare(experiment, data.no_progress)
    return bool(begun)


@pytest.mark.slow
def test_where_features_are_computed(frozen, tiny_arrays):
    def changed(**changes):
        return begins_at_the_head(dataclasses.replace(frozen, **changes), tiny_arrays)

    def model(conv, **changes):
        return dataclasses.replace(frozen.model, convs=(dataclasses.replace(frozen.model.convs[0], **conv),), **changes)

    assert changed()
    assert changed(model=model({}, head=c.Head(batch_norm=True, hidden=(c.Dense(8, dropout=0.5),))))
    assert changed(precision="bf16")
    assert not changed(augment=(c.HorizontalFlip(),))
    assert not changed(augment=(c.Mixup(0.5),))
    assert not changed(model=model({"dropout": 0.1}))
    for mode in ({"normalize_by": "batch"}, {"normalize_by": "batch", "update_running": True}):
        assert not changed(
            transfer=dataclasses.replace(frozen.transfer, batch_norm=dataclasses.replace(FROZEN, **mode))
        )
    assert not changed(transfer=c.Transfer(batch_norm=dataclasses.replace(FROZEN, train_affine=True)))
    assert not changed(epochs=1)
    assert not changed(data=dataclasses.replace(frozen.data, eval_canvas=c.Canvas(8, 8)))
    assert not changed(data=dataclasses.replace(frozen.data, cache_gib=1e-6))
