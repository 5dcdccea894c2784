"""Published runs: in a folder, and in repositories of a stand-in for the server of Hugging Face (stand_in.py).

huggingface_hub is the real package: it reads the model card, and talks to the stand-in.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stand_in
import yaml

from imgcls_jax import Classifier, UserError
from imgcls_jax.cli import app
from imgcls_jax.config import io
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.export.hub import card, folder, remote
from imgcls_jax.inference import restore
from imgcls_jax.report import record

FILES = [folder.WEIGHTS, folder.CONFIG, folder.README]


def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)


@pytest.fixture
def without_onnx(monkeypatch):
    """Writing it is tested with the exports."""
    monkeypatch.setattr(folder.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def hub(monkeypatch, tmp_path, without_onnx):
    """The stand-in, with an empty cache and a token that may write."""
    with stand_in.reached(monkeypatch, tmp_path) as hub:
        yield hub


def test_a_folder_keeps_the_model_and_its_figures(finished_run, tmp_path, capsys):
    run, result, _ = finished_run
    assert "## Confidence" not in card.text(restore.of_run(run).program(None), None, source="", onnx=None, license=None)
    keep.save(Classifier.load(run).evaluate_images()[1]["validation"], keep.path_of(run, "validation"))
    app.main(["calibrate", "--workdir", str(run)])
    fitted = calibration.load(run)
    app.main(["push", str(run), str(tmp_path / "out"), "--license", "mit"])
    out = tmp_path / "out"
    expected = Classifier.load(run)
    again = Classifier.load(out)
    np.testing.assert_array_equal(again.logits(images()), expected.logits(images()))
    assert again.class_names == expected.class_names
    assert io.restore(out / "config.json") == expected.config
    assert (out / "model.onnx").is_file() == (importlib.util.find_spec("onnx") is not None)

    # pull copies it
    app.main(["pull", str(out), str(tmp_path / "copy")])
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(path.name for path in out.iterdir())
    capsys.readouterr()
    from PIL import Image

    Image.fromarray(images()[0]).save(tmp_path / "one.png")
    for workdir in (run, tmp_path / "copy"):
        app.main(["predict", "--workdir", str(workdir), str(tmp_path / "one.png"), "--sets", "0.9", "--unknown"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert again.card["calibration"] == expected.card["calibration"] == dataclasses.asdict(fitted)
    assert f"logits are divided: {fitted.temperature:.6g}\n" in (out / "README.md").read_text()
    with pytest.raises(UserError, match="is a published run, whose files do not change: calibrate the run"):
        app.main(["calibrate", "--workdir", str(out)])
    with pytest.raises(UserError, match=r"cannot be copied to itself"):
        app.main(["pull", str(out), str(out)])

    # what programs read, by huggingface_hub's own reader
    huggingface_hub = pytest.importorskip("huggingface_hub")
    read = huggingface_hub.ModelCard.load(out / "README.md")
    assert (read.data.license, read.data.library_name, read.data.model_name) == ("mit", "imgcls_jax", "tiny")
    assert read.data.pipeline_tag == "image-classification"
    names = {name: key for key, name in card._TITLES.items()}
    for split in ("test", "validation"):
        found = {
            names.get(one.metric_name, one.metric_name): one.metric_value
            for one in read.data.eval_results
            if one.dataset_split == split
        }
        assert found == {name: value for name, value in result[split].items() if name != "count"}
    assert read.data.eval_results[0].dataset_args == {"images": 27, "views": "center"}
    assert read.data.eval_results[0].dataset_name == "images", "of the file, without its folder"
    assert str(tmp_path) not in (out / "README.md").read_text().replace(str(out), "")


def test_a_folder_takes_the_place_of_its_older_self_alone(finished_run, tmp_path, without_onnx, capsys):
    run, _, _ = finished_run
    out = tmp_path / "out"
    out.mkdir()
    (out / ".git").touch()
    app.main(["push", str(run), str(out)])
    assert "note: model.onnx is left out: it needs the package onnx" in capsys.readouterr().out
    (out / "model.onnx").touch()
    app.main(["push", str(run), str(out)])
    assert sorted(path.name for path in out.iterdir()) == sorted([".git", *FILES])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").touch()
    for target in (tmp_path / "mine", run):
        with pytest.raises(UserError, match=r"holds other files, such as .*: give a new or an empty folder"):
            app.main(["push", str(run), str(target)])
    # A run into which a file of weights was exported is a run still.
    Classifier.load(run).export(run / folder.WEIGHTS)
    assert not folder.is_published(run)


def test_what_is_published_names_no_files_to_execute(finished_run, tmp_path, without_onnx, monkeypatch):
    """A config may say where the modules of one's own components are; a stranger's must not."""
    run, _, _ = finished_run
    trained = restore.of_run(run)
    harm = {"stranger": str(tmp_path / "stranger.py")}
    config = trained.card["config"] | {"modules": harm}
    config["config"] = config["config"] | {"model": {"kind": "stranger:Net"}}
    program = dataclasses.replace(trained.program(None), card=trained.card | {"config": config})
    (tmp_path / "stranger.py").write_text("raise SystemExit('executed')")
    out = tmp_path / "out"
    folder.write(program, out)
    assert json.loads((out / "config.json").read_text())["modules"] == {}
    # written by hand, against what push does
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="needs Net of the module stranger, which cannot be imported: put the folder"):
        Classifier.load(out)
    folder.copy(out, tmp_path / "copy")
    with pytest.raises(UserError, match="needs Net of the module stranger, which cannot be imported: put the folder"):
        io.restore(tmp_path / "copy" / "config.json")


def test_a_repository_is_made_filled_and_loaded(finished_run, tmp_path, hub, monkeypatch, capsys):
    run, _, _ = finished_run
    app.main(["push", str(run), "hf://someone/tiny", "--private"])
    assert f"{hub.address}/someone/tiny" in capsys.readouterr().out
    assert hub.private == {"someone/tiny": True}
    assert sorted(hub.files("someone/tiny")) == sorted(FILES)
    assert b'Classifier.load("hf://someone/tiny")' in hub.files("someone/tiny")["README.md"]
    expected = Classifier.load(run).logits(images())
    np.testing.assert_array_equal(Classifier.load("hf://someone/tiny").logits(images()), expected)
    np.testing.assert_array_equal(Classifier.load(Path("hf://someone/tiny")).logits(images()), expected)

    # Weights are downloaded once, and are there without a connection.
    got = [request for request in hub.requests if request == f"GET someone/tiny/resolve/{_sha(1)}/model.safetensors"]
    assert len(got) == 1
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    before = len(hub.requests)
    np.testing.assert_array_equal(Classifier.load("hf://someone/tiny").logits(images()), expected)
    with pytest.raises(UserError, match=r"hf://someone/other is not in the cache, and \$IMGCLS_OFFLINE or"):
        Classifier.load("hf://someone/other")
    with pytest.raises(UserError, match="forbids connections"):
        app.main(["push", str(run), "hf://someone/tiny"])
    assert len(hub.requests) == before
    monkeypatch.delenv("IMGCLS_OFFLINE")


def _sha(index: int) -> str:
    return stand_in.sha("someone/tiny", index)


def test_a_pushed_folder_is_uploaded_as_it_is_and_pulled(finished_run, tmp_path, hub, monkeypatch):
    run, _, _ = finished_run
    out = tmp_path / "out"
    app.main(["push", str(run), str(out)])
    (out / "README.md").write_text("mine")
    (out / "secret.txt").write_text("not for others")
    app.main(["push", str(out), "hf://someone/tiny"])
    assert hub.files("someone/tiny")["README.md"] == b"mine"
    assert sorted(hub.files("someone/tiny")) == sorted(FILES)
    # another file there, and another state
    hub.commits["someone/tiny"].append(hub.files("someone/tiny") | {"README.md": b"newer", "harm.py": b"raise"})
    monkeypatch.chdir(tmp_path)
    app.main(["pull", "hf://someone/tiny"])
    assert (tmp_path / "tiny" / "README.md").read_text() == "newer"
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == sorted(FILES)
    # in a process of its own, where the package reads the environment and is imported by nobody else
    variables = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "imgcls_jax", "pull", f"hf://someone/tiny@{_sha(1)}", "older"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("downloading ")]  # shown if it takes long
    assert [line.partition("  ")[0] for line in lines] == [f"older/{name}" for name in FILES]
    assert (tmp_path / "older" / "README.md").read_text() == "mine"


def test_what_goes_wrong_is_one_sentence(finished_run, tmp_path, hub, monkeypatch):
    run, _, _ = finished_run
    hub.commits["someone/empty"] = [{"README.md": b""}]
    hub.commits["someone/tiny"] = [{"model.safetensors": b"\0" * 100}]
    for name, said in {
        "hf://tiny": "'hf://tiny' names no repository: write hf://OWNER/NAME",
        "hf://a/b/c": "names no repository",
        "hf://a--b/..": "names no repository",
        "hf://a/b@": "names no repository",
        "hf://someone/missing": "there is no repository someone/missing on 127.0.0.1, or it is private",
        "hf://someone/tiny@v2": "someone/tiny has no revision 'v2'",
        "hf://someone/empty": "has no model.safetensors, so it was not published by imgcls push",
        "hf://someone/tiny": "was not written by imgcls export, or is cut short",
    }.items():
        with pytest.raises(UserError) as raised:
            app.main(["pull", name, str(tmp_path / "out")])
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    target = "hf://someone/new"
    with pytest.raises(UserError, match="files are added to the branch main"):
        app.main(["push", str(run), f"{target}@v2"])
    monkeypatch.setenv("HF_TOKEN", stand_in.READER)
    with pytest.raises(UserError, match="token may not write to someone/new"):
        app.main(["push", str(run), target])
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"hf://someone/new needs a token: run `hf auth login`, or set HF_TOKEN"):
        app.main(["push", str(run), target])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be downloaded, and is not in the cache: .*refused"):
        app.main(["pull", target, str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"hf://someone/new: .*refused"):
        app.main(["push", str(run), target])


def test_a_folder_needs_no_package_and_a_repository_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        UserError, match=r"hf://a/b needs the package huggingface_hub: run pip install 'imgcls_jax\[hub\]'"
    ):
        Classifier.load("hf://a/b")
    with pytest.raises(UserError, match="there is no run"):
        app.main(["push", str(tmp_path / "run"), str(tmp_path / "out")])
    with pytest.raises(UserError, match="is no published run: give hf://OWNER/NAME"):
        app.main(["pull", str(tmp_path / "run"), str(tmp_path / "out")])
    with pytest.raises(UserError, match="FOLDER is missing"):
        app.main(["pull", str(tmp_path)])
    with pytest.raises(UserError, match="TARGET is empty"):
        app.main(["push", str(tmp_path), ""])
    with pytest.raises(
        UserError, match="hf://a/b is on Hugging Face: fetch it first, by `imgcls pull hf://a/b FOLDER`"
    ):
        app.main(["predict", "--workdir", "hf://a/b", "x.png"])
    with pytest.raises(UserError, match="--private is for a repository"):
        app.main(["push", str(tmp_path), str(tmp_path), "--private"])


def test_names_of_repositories():
    assert remote.repository_of("runs/x") is None
    for text in ("hf://a/b", "hf:/a/b", "hf:a/b"):
        assert remote.repository_of(text) == remote.Repository("a/b")
    assert str(remote.repository_of("hf://a-1/b.c_d@feature/x")) == "hf://a-1/b.c_d@feature/x"


@pytest.mark.parametrize(
    "value",
    [
        {"a": "yes", "b": "", "c": "a: b # c", "d": ["- x", "[1]", "{}"], "e": [{"f": [{"g": 1e-05, "h": True}]}]},
        {"a": "\x7f\x85\u2028\ufeff\n\t\"\\'é😀", "b": [1e16, 0.5, -1e-300, 3], "c": "1e5", "d": "null", "e": "12"},
    ],
)
def test_front_matter_is_yaml(value):
    assert yaml.safe_load("".join(card._yaml(value))) == value


def test_the_card_is_text_whatever_things_are_called(finished_run):
    run, _, _ = finished_run
    trained = restore.of_run(run)
    names = ("</script><b>", "`|\n# no heading", "\udcff")
    config = dataclasses.replace(trained.config, name="a*b <i> # c: d")
    program = dataclasses.replace(trained.program(None), class_names=names, config=config)
    result = record.result(run)
    result["test"]["auroc"] = float("nan")
    text = card.text(program, result, source='a"b', onnx=None, license=None)
    text.encode()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["model-index"][0]["name"] == config.name
    assert front["license"] == "other"
    assert "auroc" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        r"# a\*b \<i\> \# c: d",
        *("## Use", "## Figures", "## Preprocessing", "## Classes", "## License"),
    ]
    assert '\n        0  "</script><b>"\n        1  "`|\\n# no heading"\n' in text
    assert r'Classifier.load("a\"b")' in text
    assert "trained from random values" in text
    assert "## Figures" not in card.text(program, None, source="x", onnx=None, license=None)
