"""A probe from images to a run: what it leaves, and what it takes from its cache."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.cli import predict as predict_command
from imgcls_jax.cli import probe as command
from imgcls_jax.cli import suspects as suspects_command
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.inference import Classifier
from imgcls_jax.models import network
from imgcls_jax.report.write import report
from imgcls_jax.training import features
from imgcls_jax.training.loop import train
from imgcls_jax.tune.probe import heads
from imgcls_jax.tune.probe.probe import probe

MODEL = c.CNN(convs=(c.Conv(8, 3, padding=1, norm="batch"),), aggregate="average", head=c.Head())


@pytest.fixture
def pretrained(tiny_config, tiny_arrays, tmp_path, monkeypatch):
    """A config on images in a file, whose network starts from a file of weights."""
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "images.npz", **tiny_arrays, label_names=np.array(["red", "green", "blue"]))
    settings = dataclasses.replace(tiny_config().data, source=c.Arrays(str(tmp_path / "images.npz")))
    config = tiny_config(data=settings, model=MODEL)
    trees = (jax.tree.map(np.asarray, tree) for tree in network.of_config(config, 3).create(jax.random.key(0)))
    weights.save_safetensors(weights.to_state_dict(*trees, MODEL), tmp_path / "backbone.safetensors")
    return dataclasses.replace(config, transfer=c.Transfer(init_from=str(tmp_path / "backbone.safetensors")))


@pytest.mark.slow
def test_the_folder_of_a_probe_is_that_of_a_run(pretrained, tiny_arrays, tmp_path, monkeypatch, capsys):
    found = probe(pretrained, tmp_path / "probe", strengths=[1.0, 0.01, 0.0001], folds=3)
    assert found.num_features == 8
    assert found.strength == heads.best(found.strengths).value
    classifier, backbone = (
        Classifier.load(*source) for source in ((tmp_path / "probe",), (pretrained.transfer.init_from, pretrained))
    )

    # The backbone is the file's, and the head the one that its features and scikit-learn give.
    for path, array in backbone.params.items():
        if not path.startswith("head."):
            np.testing.assert_array_equal(classifier.params[path], array)
    rows = backbone.features(tiny_arrays["x_train"])
    head = heads.linear(rows, tiny_arrays["y_train"], found.strength, 3)
    np.testing.assert_allclose(classifier.params["head.out.kernel"], head.kernel, rtol=1e-4, atol=1e-4)

    # An evaluation finds the figures of the probe again.
    evaluated = classifier.evaluate()
    for split in ("validation", "test"):
        assert evaluated[split] == pytest.approx(found.result[split], rel=1e-4, abs=1e-5)
    assert evaluated["test"]["top1"] > 0.8
    assert json.loads((tmp_path / "probe" / "result.json").read_text())["probe"]["strength"] == found.strength
    kept = {split: keep.load(keep.path_of(tmp_path / "probe", split)) for split in ("train", "validation", "test")}
    for split, made in classifier.evaluate_images()[1].items():
        np.testing.assert_allclose(kept[split].logits, made.logits, rtol=1e-4, atol=1e-4)
        assert kept[split].names == made.names
    parts = heads.folds(tiny_arrays["y_train"], 3, pretrained.seed)
    expected = heads.held_out(rows, tiny_arrays["y_train"], found.strength, 3, parts)
    np.testing.assert_allclose(kept["train"].logits, expected, rtol=1e-4, atol=1e-4)
    suspects_command.main(["--workdir", str(tmp_path / "probe")])
    assert "top losses, train, out of fold: 50" in capsys.readouterr().out
    report([tmp_path / "probe"], tmp_path / "report")
    assert train(classifier.config, tmp_path / "probe")["test"] == evaluated["test"]  # nothing is left to train

    # Another probe computes no feature again, whatever its name, head or seed.
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("features were computed again"))
    other = dataclasses.replace(pretrained, name="other", seed=1)
    assert probe(other, tmp_path / "other", folds=3).result["test"]["count"] == 27
    # The same folder can be probed again.
    assert probe(pretrained, tmp_path / "probe", strengths=[0.1], folds=3).strength == 0.1


@pytest.mark.slow
def test_the_cache_belongs_to_pixels_weights_and_preprocessing(pretrained, tiny_arrays, tmp_path):
    def entries(config, name):
        before = {file.name for file in (tmp_path / "cache" / "features").glob("*.npy")}
        probe(config, tmp_path / name, strengths=[0.1], folds=2)
        return len({file.name for file in (tmp_path / "cache" / "features").glob("*.npy")} - before)

    assert entries(pretrained, "first") == 3
    np.savez(tmp_path / "changed.npz", **tiny_arrays | {"x_test": 255 - tiny_arrays["x_test"]})
    other = dataclasses.replace(pretrained.data, source=c.Arrays(str(tmp_path / "changed.npz")))
    assert entries(dataclasses.replace(pretrained, data=other), "pixels") == 1
    darker = dataclasses.replace(other, mean=(0.4, 0.5, 0.5))
    damaged = next((tmp_path / "cache" / "features").glob("*.npy"))
    content = damaged.read_bytes()
    assert entries(dataclasses.replace(pretrained, data=darker), "mean") == 3
    damaged.write_bytes(content[:50])
    for name, data in (("a", pretrained.data), ("b", other)):
        assert entries(dataclasses.replace(pretrained, data=data), name) == 0
    assert damaged.read_bytes() == content
    a, b = {"x": np.zeros(3)}, {"x": np.zeros(3, np.float32)}
    assert features.digest(a) == features.digest(dict(a)) != features.digest(b)


def test_mistakes_are_one_sentence(tiny_config, pretrained, tiny_arrays, tmp_path):
    cases = [
        (tiny_config(), "this config starts at random: set transfer.init_from, or give --weights"),
        (dataclasses.replace(pretrained, model=dataclasses.replace(MODEL, head=c.Head(hidden=(c.Dense(4),)))), "head"),
    ]
    for config, message in cases:
        with pytest.raises(UserError, match=message):
            probe(config, tmp_path / "x", overwrite=True)
    with pytest.raises(UserError, match="40 folds need 80 training images or more, and there are 72"):
        probe(pretrained, tmp_path / "y", folds=40)
    with pytest.raises(UserError, match="say what to probe"):
        command.main([])
    with pytest.raises(UserError, match="does not exist: give a folder of images, a table"):
        command.main([str(tmp_path / "none")])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="is neither a folder of images nor a table"):
        command.main([str(tmp_path / "notes.txt")])
    with pytest.raises(UserError, match=r"no published weights 'efficientnet_lite/lite9' .did you mean"):
        command.main([str(tmp_path / "images.npz"), "--weights", "efficientnet_lite/lite9"])


@pytest.mark.slow
def test_the_command_shows_what_was_tried_and_embeddings_are_written(pretrained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_config", lambda *_: pretrained)
    command.main([
        str(tmp_path / "images.npz"), "--workdir", str(tmp_path / "run"), "--strengths", "1", "0.01", "--folds", "2",
    ])  # fmt: skip
    shown = capsys.readouterr().out
    assert "cross-validation, 2 folds" in shown
    assert shown.count("best") >= 2
    assert "(27 images)" in shown

    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for name, array in zip("ab", pixels, strict=True):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = [str(tmp_path / f"{name}.png") for name in ("a", "bad", "b")]
    embeddings = tmp_path / "out" / "e.npz"
    with pytest.raises(UserError, match="1 of 3 images cannot be read, all others are classified"):
        predict_command.main(["--workdir", str(tmp_path / "run"), *names, "--embeddings", str(embeddings)])
    with np.load(embeddings) as written:
        assert written["names"].tolist() == [names[0], names[2]]
        np.testing.assert_array_equal(written["features"], Classifier.load(tmp_path / "run").features(list(pixels)))
    with pytest.raises(UserError, match=r"--embeddings e.csv: the file is an .npz archive"):
        predict_command.main(["--workdir", str(tmp_path / "run"), names[0], "--embeddings", "e.csv"])
