"""The command `imgcls doctor`."""

import json

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.cli import app
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.evaluation.predictions import Predictions

CONFIG = """
from imgcls_jax import config as c

def get_config(variant=""):
    return c.Config(
        name="tiny",
        data=c.Data(
            source=c.Folder({folder!r}), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3,
            feed="streamed",
        ),
        augment=(c.HorizontalFlip(),),
        model=c.CNN(convs=(c.Conv(4, 3, pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(c.SGD(), c.Schedule(peak=0.05, shape=c.Constant())),
        batch_size=8, epochs=2, precision="fp32", seed=0, mesh=c.Mesh(devices=1),
    )
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of 40 images in two classes."""
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def config(photos, tmp_path):
    """A config file whose data are those images."""
    (tmp_path / "tiny.py").write_text(CONFIG.format(folder=str(photos)))
    return str(tmp_path / "tiny.py")


def doctor(capsys, *arguments):
    """The JSON document and the exit status of the command."""
    status = 0
    try:
        app.main(["doctor", *map(str, arguments), "--json"])
    except SystemExit as ended:
        status = ended.code
    return json.loads(capsys.readouterr().out), status


def test_a_folder(capsys, photos):
    (photos / "dog/broken.jpg").write_text("no image")
    document, status = doctor(capsys, photos)
    assert status == 0
    levels = {finding["check"]: finding["level"] for finding in document["findings"]}
    assert levels["unreadable"] == "warning"
    assert levels["tiny"] == "warning", "8×8 on a canvas of 224×224"
    assert {"exact_duplicates", "cache_disk", "imbalance"} <= set(document["checks"])
    assert set(document["findings"][0]) == {"level", "what", "evidence", "fix", "items", "check"}


@pytest.mark.slow
def test_a_config_and_its_step(capsys, config, tmp_path):
    document, status = doctor(capsys, "--config", config, "--workdir", tmp_path / "run")
    assert status == 0
    made = {"settings", "data", "memory", "reading_speed", "checkpoint_disk", "augmentation_without_effect"}
    assert made <= set(document["checks"])
    assert not (tmp_path / "run").exists()


def test_errors_are_findings_and_the_status_is_1(capsys, config):
    document, status = doctor(capsys, "--config", config, "--config.mesh.devices=9", "--quick")
    assert status == 1
    first = document["findings"][0]
    assert (first["level"], first["check"]) == ("error", "settings")
    assert "mesh.devices is 9" in first["what"]
    document, status = doctor(capsys, "--config", config, "--config.batch_size=64", "--quick")
    assert status == 1
    assert "larger than the training set of 40 images" in document["findings"][0]["what"]
    document, status = doctor(capsys, "--config", config, "--config.transfer.freeze=('convs.*',)", "--quick")
    assert status == 1
    assert "frozen at their random initial values" in document["findings"][0]["what"]


@pytest.mark.slow
def test_range_test(capsys, config):
    document, _ = doctor(capsys, "--config", config, "--range-test", "--config.optim.schedule.peak=1e-6")
    assert "learning_rate" in document["checks"]
    (finding,) = [finding for finding in document["findings"] if finding["check"] == "learning_rate"]
    assert finding["fix"].startswith("--config.optim.schedule.peak=")


def test_as_text(capsys, photos):
    app.main(["doctor", str(photos), "--quick"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("checks: 0 errors, 0 warnings")


def test_wrong_labels_on_request(capsys, photos, tmp_path):
    """Of images whose classes a network tells apart, but for two whose labels were swapped on purpose."""
    names = tuple(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20))
    labels = np.repeat([0, 1], 20).astype(np.int32)
    logits = np.where(labels[:, None] == np.arange(2), 3.0, -3.0).astype(np.float32)
    logits[[4, 30]] *= -1
    made = Predictions(logits, labels, names, ("cat", "dog"), "validation")
    keep.save(made, keep.path_of(tmp_path, "validation"))
    document, status = doctor(capsys, photos, "--quick", "--labels", tmp_path)
    assert status == 0
    (finding,) = [finding for finding in document["findings"] if finding["check"] == "wrong_labels"]
    assert set(finding["items"]) == {"cat/4.png (cat, rather dog)", "dog/10.png (dog, rather cat)"}
    (photos / "cat" / "4.png").unlink()
    document, _ = doctor(capsys, photos, "--quick", "--labels", tmp_path)
    gone, left = [finding for finding in document["findings"] if finding["check"] == "wrong_labels"]
    assert gone["items"] == ["cat/4.png"] and left["items"] == ["dog/10.png (dog, rather cat)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to examine"),
        (["photos", "--config", "x.py"], "there is no"),
        (["photos", "--range-test"], "need --config FILE.py"),
        (["photos", "--labels", "runs/none"], "there is no run runs/none"),
        (["photos", "--labels", "."], "has no predictions: `imgcls evaluate"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        app.main(["doctor", *arguments])
