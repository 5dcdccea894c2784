"""Texts of users in pictures: class names with dollars, underscores, brackets, and letters of any script."""

import os
import warnings

import matplotlib.text
import numpy as np
import pytest
from PIL import Image

from imgcls_jax.display import figures, fonts
from imgcls_jax.report import confusion

NAMES = [
    "$5_bill",
    "$10_bill$",
    "US$ a_b$c",
    "CA$_$",
    "a|b",
    "c*d*",
    r"\$x\$",
    "a [/b] c",
    "Grüße",
    "\u732b",
    os.fsdecode(b"caf\xe9"),
]


@pytest.mark.parametrize("name", NAMES[:8])
def test_a_text_is_drawn_as_it_is(name):
    drawn, is_formula = matplotlib.text.Text(text=figures.literal(name))._preprocess_math(figures.literal(name))
    assert (drawn, is_formula) == (name, False)


def test_any_class_names_in_a_confusion_matrix(tmp_path):
    """No formula is parsed, no glyph is missing; the table holds the names as they are."""
    counts = np.eye(len(NAMES), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion.plot(counts, NAMES, tmp_path / "x.png", title=" ".join(NAMES))
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
    confusion.write_csv(counts, NAMES, tmp_path / "x.csv")
    text = (tmp_path / "x.csv").read_bytes()
    assert all(os.fsencode(name) in text for name in NAMES)


def test_what_no_font_has_is_escaped(monkeypatch):
    assert fonts.family_with("a") == fonts.family_with("ü") == "DejaVu Sans"
    assert fonts.family_with("\U000f1234") is None  # a private character
    assert fonts.printable("a\U000f1234") == r"a\U000f1234"
    font, text = fonts.for_pillow("ü\U000f1234", 10)
    assert text == r"\u00fc\U000f1234"
    assert fonts.for_pillow("ü", 10)[1] == "ü"


def test_another_font_is_used_where_it_is_needed(monkeypatch, tmp_path):
    """STIX comes with matplotlib and has letters that DejaVu lacks."""
    lacking = next(
        chr(code)
        for code in sorted(fonts._characters(fonts._files()["STIXGeneral"]))
        if fonts.family_with(chr(code)) == "STIXGeneral"
    )
    figure = figures.figure(2, 2)
    figure.suptitle(figures.literal(f"a{lacking}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figure, tmp_path / "x.png", dpi=50)
    assert figure.get_suptitle() == f"a{lacking}"
