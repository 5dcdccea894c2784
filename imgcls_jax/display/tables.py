"""Tables as aligned text, as Markdown and as LaTeX."""

import textwrap
from collections.abc import Mapping, Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "…": r"\dots{}",
}


def plain(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    gap: str = "  ",
    indent: str = "",
) -> str:
    """Return a table of text whose columns are aligned, without lines.

    Args:
      header: names of the columns; an empty sequence for a table without a header.
      rows: the cells, as many per row as there are columns.
      right: columns, counted from 0, that are aligned to the right, such as numbers.
      gap: between two columns.
      indent: at the beginning of each line.
    """
    lines = [*([header] if header else []), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return (indent + gap.join(padded)).rstrip()

    return "\n".join(map(line, lines))


def pairs(rows: Mapping[str, str], *, width: int, indent: str = "  ") -> str:
    """Return names and values as two columns, long values wrapped below themselves.

    Args:
      rows: value by name; a value without spaces, such as a path, is never broken.
      width: of the lines, characters.
      indent: at the beginning of each line.
    """
    beside = len(indent) + max(map(len, rows), default=0) + 2
    lines = []
    for name, value in rows.items():
        wrapped = textwrap.wrap(value, max(width - beside, 20), break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{indent}{name}".ljust(beside) + wrapped[0])
        lines += [" " * beside + rest for rest in wrapped[1:]]
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a GitHub table, padded so that its source is readable; all but the first `left` columns are aligned to the
    right."""
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])]) + "\n"


def latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a LaTeX tabular; it needs the package booktabs."""

    def line(row: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(character, character) for character in cell) for cell in row) + r" \\"

    body = [r"\toprule", line(header), r"\midrule", *map(line, rows), r"\bottomrule"]
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"
