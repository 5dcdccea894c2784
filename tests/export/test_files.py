"""Exported files: what they hold, how they are verified, and what is said of damaged ones."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
from PIL import Image

from imgcls_jax import Classifier
from imgcls_jax.cli import app
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import calibration
from imgcls_jax.export import files, standalone

pytest.importorskip("onnxruntime")
FORMATS = ("onnx", "stablehlo", "torch", "safetensors")


@pytest.fixture
def exported(finished_run):
    """Return the run's folder with a file of each format in it."""
    run, _, _ = finished_run
    classifier = Classifier.load(run)
    for form in FORMATS:
        classifier.export(run / f"model{files.SUFFIXES[form]}")
    return run


@pytest.mark.slow
def test_every_format_keeps_the_model(exported, capsys):
    """One fixture for all, as it trains."""
    classifier = Classifier.load(exported)
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)
    for suffix in (".onnx", ".stablehlo"):
        probabilities, logits = standalone.load(exported / f"model{suffix}")(images)
        np.testing.assert_allclose(logits, classifier.logits(images), atol=1e-5)
        np.testing.assert_allclose(probabilities, classifier.probabilities(images), atol=1e-6)
    for suffix in (".safetensors", ".pth"):
        again = Classifier.load(exported / f"model{suffix}")
        np.testing.assert_array_equal(again.logits(images), classifier.logits(images))
        assert again.class_names == ("red", "green", "blue")
    for suffix in files.SUFFIXES.values():
        about = standalone.document(exported / f"model{suffix}")
        assert about["class_names"] == ["red", "green", "blue"]
        assert about["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
        assert about["model_card"]["config"]["config"]["batch_size"] == 16
        assert "random values" in about["license"]
        app.main(["verify", str(exported / f"model{suffix}")])
        assert "ok: logits within" in capsys.readouterr().out
    assert "limited_life" in standalone.document(exported / "model.stablehlo")["imgcls_jax"]
    # All three platforms in one artifact.
    artifact = jax.export.deserialize(bytearray((exported / "model.stablehlo").read_bytes()))
    assert artifact.platforms == ("cpu", "cuda", "tpu")

    # The script needs nothing of this package.
    app.main(["verify", str(exported / "model.onnx"), "--script"])
    command = [sys.executable, "-I", str(exported / "verify.py"), str(exported / "model.onnx")]
    blocked = "import sys; sys.modules['imgcls_jax'] = sys.modules['jax'] = None; sys.argv = sys.argv[1:]; "
    blocked += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", blocked, *command[2:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ok: logits within" in done.stdout

    _check_programs_as_classifiers(exported, images, capsys)
    _check_precisions(exported, capsys)
    _check_temperature(exported, images, capsys)
    _check_damage(exported)
    _check_figures(exported, capsys)


def _check_programs_as_classifiers(folder: Path, images: np.ndarray, capsys) -> None:
    """An exported program predicts and evaluates as the run, and says what it lacks."""
    run = Classifier.load(folder)
    for suffix in (".onnx", ".stablehlo"):
        path = folder / f"model{suffix}"
        model = Classifier.load(path)
        assert [p.class_name for p in model.predict(images, top_k=2)] == [p.class_name for p in run.predict(images)]
        expected, found = run.evaluate(), model.evaluate()
        assert found["views"] == expected["views"]
        for split in ("validation", "test"):
            assert found[split] == pytest.approx(expected[split], rel=1e-5)
        for refused, argument in ((model.features, images), (model.explain, images), (model.export, "again.onnx")):
            with pytest.raises(UserError, match=f"model{suffix} holds a program, and not"):
                refused(argument)
        with pytest.raises(UserError, match="parameters by name"):
            print(model.params)
        with pytest.raises(UserError, match="sees images as center, which cannot be changed"):
            Classifier.load(path, views="flip")
        Image.fromarray(images[0]).save(folder / "image.png")
        app.main(["predict", "--model", str(path), str(folder / "image.png")])
        assert capsys.readouterr().out.splitlines()[-1].startswith(run.predict(images[0]).class_name)
        for flags in (["--sets", "0.9"], ["--embeddings", "features.npz"]):
            with pytest.raises(UserError, match="give the run's folder|need a run's folder"):
                app.main(["predict", "--model", str(path), *flags, str(folder / "image.png")])

    app.main(["evaluate", "--model", str(path)])
    assert f"top-1 {100 * expected['test']['top1']:.2f} %" in capsys.readouterr().out


def _check_precisions(folder: Path, capsys) -> None:
    """Halves are those of numpy; int8 weights lie within half a level of their channel."""
    import onnx

    def arrays(model):
        return {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}

    def kernel(model):
        """The weights of the convolution, as the graph has them."""
        (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
        return convolution.input[1], {node.output[0]: node for node in model.graph.node}, arrays(model)

    app.main(["export", str(folder), "--to", "onnx", "--precision", "fp16", "--out", str(folder / "half.onnx")])
    app.main(["export", str(folder), "--to", "onnx", "--precision", "int8", "--out", str(folder / "int8.onnx")])
    printed = capsys.readouterr().out
    assert "fp16 decides as the run for 100.0 % of 21 validation images" in printed
    assert "int8 decides as the run for" in printed
    models = {name: onnx.load(folder / f"{name}.onnx") for name in ("model", "half", "int8")}
    whole = {name: array for name, array in arrays(models["model"]).items() if array.ndim > 1 and array.size >= 64}
    assert len(whole) == 2
    for name, array in whole.items():
        np.testing.assert_array_equal(arrays(models["half"])[f"{name}_half"], array.astype(np.float16))
    weights = arrays(models["model"])[kernel(models["model"])[0]]
    name, makers, found = kernel(models["int8"])
    levels, scales, *zeros = (found[name] for name in makers[name].input)
    assert levels.dtype == np.int8 and scales.shape == (4,) and not any(zero.any() for zero in zeros)
    error = np.abs(levels * scales.reshape(-1, 1, 1, 1) - weights)
    assert (error <= scales.reshape(-1, 1, 1, 1) / 2 * (1 + 1e-5)).all()
    test = Classifier.load(folder).evaluate()["test"]["top1"]
    for name in ("half", "int8"):
        assert (
            standalone.document(folder / f"{name}.onnx")["imgcls_jax"]["precision"] == ("fp16", "int8")[name == "int8"]
        )
        assert abs(Classifier.load(folder / f"{name}.onnx").evaluate()["test"]["top1"] - test) <= 1 / 27
        app.main(["verify", str(folder / f"{name}.onnx")])
        assert "ok: logits within" in capsys.readouterr().out
    with pytest.raises(UserError, match="--precision int8 is for --to onnx and web"):
        app.main(["export", str(folder), "--to", "torch", "--precision", "int8"])
    with pytest.raises(UserError, match="int8 needs images to measure activations on"):
        Classifier.load(folder).export(folder / "none.onnx", precision="int8")


def _check_temperature(folder: Path, images: np.ndarray, capsys) -> None:
    """Probabilities at the temperature that was fitted, beside logits as they are."""
    app.main(["evaluate", "--workdir", str(folder)])
    app.main(["calibrate", "--workdir", str(folder)])
    fitted = calibration.load(folder).temperature
    assert fitted != 1
    for suffix in (".onnx", ".stablehlo"):
        path = folder / f"calibrated{suffix}"
        app.main(["export", str(folder), "--calibrated", "--out", str(path)])
        probabilities, logits = standalone.load(path)(images)
        np.testing.assert_allclose(logits, Classifier.load(folder).logits(images), atol=1e-5)
        np.testing.assert_allclose(probabilities, scipy.special.softmax(logits / fitted, axis=1), atol=1e-6)
        about = standalone.document(path)
        assert about["temperature"] == about["model_card"]["calibration"]["temperature"] == fitted
        np.testing.assert_allclose(Classifier.load(path).probabilities(images), probabilities, atol=1e-6)
        assert Classifier.load(path).predict(images[0]).probability == pytest.approx(probabilities[0].max(), abs=1e-6)
        app.main(["verify", str(path)])
    assert "ok: logits within" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds weights, which no temperature changes: export to onnx or stablehlo"):
        app.main(["export", str(folder), "--calibrated", "--to", "torch"])


def _check_damage(folder: Path) -> None:
    """A byte that is changed, an end that is missing, a stranger: one sentence each."""
    for suffix in files.SUFFIXES.values():
        whole = (folder / f"model{suffix}").read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        broken = folder / f"broken{suffix}"
        if standalone.beside(folder / f"model{suffix}").exists():
            standalone.beside(broken).write_bytes(standalone.beside(folder / f"model{suffix}").read_bytes())
        for data, sentence in (
            (bytes(changed), "has changed since imgcls export wrote it"),
            (whole[: len(whole) // 2], r"is cut short|has changed"),
            (b"", r"is cut short|has changed"),
        ):
            broken.write_bytes(data)
            with pytest.raises(UserError, match=sentence):
                app.main(["verify", str(broken)])
    (folder / "other.onnx").write_bytes(b"a file of another program")
    for name, sentence in (
        ("other.onnx", "was not written by imgcls export"),
        ("absent.onnx", "cannot be read"),
        ("config.json", "is no exported model"),
    ):
        with pytest.raises(UserError, match=sentence):
            app.main(["verify", str(folder / name)])


def _check_figures(folder: Path, capsys) -> None:
    """A file whose weights are others, and whose checksum was made anew: the figure that differs is named."""
    data, beside = (folder / "model.pth").read_bytes(), standalone.beside(folder / "model.pth")
    about = json.loads(beside.read_text())
    about["golden"]["probabilities"][1][2] += 0.01
    del about[standalone.SEAL]
    files._write_beside(folder / "model.pth", data, about)
    with pytest.raises(SystemExit) as stopped:
        app.main(["verify", str(folder / "model.pth")])
    assert stopped.value.code == 1
    assert "differs: image 2 in a batch of 3, blue: probability" in capsys.readouterr().out


def test_mistakes_are_one_sentence(tmp_path):
    run = tmp_path
    with pytest.raises(UserError, match=r"one of \.onnx, \.stablehlo, \.pth, \.safetensors"):
        files.format_of("model.tflite")
    for arguments, sentence in (
        ([str(run)], "--to FORMAT or --out FILE"),
        (["nowhere", "--to", "onnx"], "is no folder of a run"),
        ([str(run), "--to", "onnx", "--out", "model.pth"], r"the ending of a onnx file is \.onnx"),
        ([str(run), "--to", "tflite"], "invalid choice"),
    ):
        with pytest.raises(UserError, match=sentence):
            app.main(["export", *arguments])
