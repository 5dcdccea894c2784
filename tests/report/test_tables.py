"""Tables as text."""

from imgcls_jax.report import tables


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
