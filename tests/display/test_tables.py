"""Tables as text."""

from imgcls_jax.display import tables


def test_markdown_is_aligned_and_escapes_bars():
    text = tables.markdown(("name", "x"), [("a|b", "1.5"), ("c", "two\nlines")])
    assert text == (
        "| name |         x |\n"
        "| ---- | --------: |\n"
        "| a\\|b |       1.5 |\n"
        "| c    | two lines |\n"
    )  # fmt: skip


def test_latex_escapes_what_latex_would_read():
    text = tables.latex(("cell", "score, %"), [("batch_norm & {all}", "81.2 ± 0.3"), ("a\\b~^", "−1 × 2…")])
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"cell & score, \% \\",
        r"\midrule",
        r"batch\_norm \& \{all\} & 81.2 $\pm$ 0.3 \\",
        r"a\textbackslash{}b\textasciitilde{}\textasciicircum{} & $-$1 $\times$ 2\dots{} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_plain_columns_are_aligned():
    text = tables.plain(("layer", "size", ""), [("stem", "9", "x"), ("head.out", "1,024", "")], right=[1], indent="  ")
    assert text.splitlines() == [
        "  layer      size",
        "  stem          9  x",
        "  head.out  1,024",
    ]
    assert tables.plain((), [("a", "b"), ("cc", "d")]) == "a   b\ncc  d"


def test_pairs_wrap_below_themselves_and_break_no_path():
    text = tables.pairs(
        {"steps": "20 per epoch, of 64 images", "files": "/a/very/long/path/that/does/not/fit"}, width=30
    )
    assert text.splitlines() == [
        "  steps  20 per epoch, of 64",
        "         images",
        "  files  /a/very/long/path/that/does/not/fit",
    ]
    assert tables.pairs({}, width=30) == ""
