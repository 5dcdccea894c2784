"""The curves of a run, read off the drawn lines."""

import subprocess
import sys

import numpy as np
from PIL import Image

from imgcls_jax.report import curves

HISTORY = [
    {
        "epoch": i,
        "learning_rate": 0.1 / (i + 1),
        "train": {"loss": 2.0 - i, "top1": 0.2 * i},
        "validation": {"loss": 2.5 - i, "top1": top1},
    }
    for i, top1 in enumerate((0.1, 0.6, 0.5))
]


def test_the_best_epoch_is_marked_with_its_value(tmp_path):
    loss, accuracy, rate = curves.draw(HISTORY, title="run", best=1).axes
    assert [axes.get_xlabel() for axes in (loss, accuracy, rate)] == ["epoch"] * 3
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "top-1 accuracy, %")
    train, validation, ring = (line for line in accuracy.get_lines() if len(line.get_xdata()) != 2)
    np.testing.assert_allclose(train.get_ydata(), [0, 20, 40])
    np.testing.assert_allclose(validation.get_ydata(), [10, 60, 50])
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [60])
    assert "best: epoch 2, 60.00 %" in [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert rate.get_position().width < 0.6 * loss.get_position().width
    curves.plot(HISTORY, tmp_path / "curves.png", title="run", best=1)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000


def test_without_validation_there_is_one_line():
    history = [record | {"validation": None} for record in HISTORY]
    loss, accuracy, _ = curves.draw(history, title="run", best=2).axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train"]
    assert "best: epoch 3, 40.00 %" in [text.get_text() for text in accuracy.get_legend().get_texts()]


def test_a_notebooks_backend_stays(tmp_path):
    """No part of the package uses pyplot, which would choose a backend, and keep every figure."""
    code = (
        "import sys, json, pathlib\n"
        "from imgcls_jax.report import curves\n"
        f"curves.plot({HISTORY!r}, pathlib.Path({str(tmp_path / 'x.png')!r}), title='run')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_no_module_uses_pyplot(request):
    for file in (request.config.rootpath / "imgcls_jax").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import pyplot" not in text and "matplotlib.pyplot" not in text and "matplotlib.use(" not in text, file
