"""What the curves show, read off the drawn lines."""

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.display import figures
from imgcls_jax.report import comparison


def history(top1, *, validation=True):
    """Epochs whose validation accuracy is `top1` and whose training accuracy is a tenth higher."""
    return [
        {
            "epoch": i,
            "train": {"top1": x + 0.1, "loss": 1 - x},
            "validation": {"top1": x, "loss": 2 - x} if validation else None,
        }
        for i, x in enumerate(top1)
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were made."""
    made, make = [], figures.figure

    def keep(*size):
        made.append(make(*size))
        return made[-1]

    monkeypatch.setattr(figures, "figure", keep)
    return made


def test_side_by_side(drawn, tmp_path):
    runs = {"a": [history([0.2, 0.4])], "b": [history([0.3]), history([0.5])]}
    comparison.side_by_side(runs, tmp_path / "x.png", title="both", targets={"b": 0.6, "c": 0.1})
    a, b = drawn[0].axes
    assert [axes.get_title() for axes in (a, b)] == ["a", "b"]
    train, validation = a.get_lines()
    np.testing.assert_allclose(train.get_ydata(), [30, 50])
    np.testing.assert_allclose(validation.get_ydata(), [20, 40])
    np.testing.assert_array_equal(validation.get_xdata(), [1, 2])
    *seeds, target = b.get_lines()
    assert [line.get_ydata()[0] for line in seeds] == pytest.approx([40, 30, 60, 50])
    assert list(target.get_ydata()) == [60, 60]
    assert [text.get_text() for text in b.get_legend().get_texts()] == ["train", "validation", "reported"]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width > 500


def test_more_labels_than_columns_leave_empty_panels_blank(drawn, tmp_path):
    runs = {str(i): [history([0.5])] for i in range(6)}
    comparison.side_by_side(runs, tmp_path / "x.png", title="six")
    assert [bool(axes.get_lines()) for axes in drawn[0].axes] == [True] * 6 + [False] * 2
    assert not drawn[0].axes[7].axison


def test_together_shows_the_mean_over_the_epochs_that_all_seeds_have(drawn, tmp_path):
    runs = {"two": [history([0.2, 0.4, 0.9]), history([0.4, 0.5])], "no split": [history([0.1], validation=False)]}
    comparison.together(runs, tmp_path / "x.png", title="all")
    loss, accuracy = drawn[0].axes
    two, alone = accuracy.get_lines()
    np.testing.assert_allclose(two.get_ydata(), [30, 45])
    np.testing.assert_allclose(alone.get_ydata(), [20])  # its training accuracy
    assert [line.get_label() for line in (two, alone)] == ["two", "no split (train)"]
    np.testing.assert_allclose(loss.get_lines()[0].get_ydata(), [1.7, 1.55])
    (band,) = accuracy.collections
    corners = band.get_paths()[0].vertices
    np.testing.assert_allclose([corners[:, 1].min(), corners[:, 1].max()], [20, 50])
