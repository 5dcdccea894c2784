"""Make matplotlib figures without pyplot, so that neither a window system nor a notebook's backend is touched."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls_jax.disk import outputs
from imgcls_jax.display import fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> "Figure":
    """Make an empty figure.

    Args:
      width, height: inches.
    """
    from matplotlib.figure import Figure  # imported late: it takes half a second

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path, *, dpi: int) -> None:
    """Write a figure to a file, whose suffix is the format; it appears whole or not at all."""
    use_fonts(figure)
    with outputs.writing(path, binary=True) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".").lower() or "png", dpi=dpi)


def literal(text: str) -> str:
    r"""Return a user's text, such as a class name, so that matplotlib draws it as it is: a dollar begins no formula.

    What no installed font has is written as an escape.

    >>> literal("$5_bill")
    '\\$5_bill'
    """
    return fonts.printable(text).replace("$", r"\$")


def use_fonts(figure: "Figure") -> None:
    """Let the texts of a finished figure use other installed fonts for what matplotlib's own lacks."""
    from matplotlib.text import Text

    for axes in figure.axes:  # whose ticks get their texts when somebody asks for them
        axes.get_xticklabels(), axes.get_yticklabels()
    artists: list[Any] = figure.findobj(Text)
    characters = {character for artist in artists for character in artist.get_text() if not character.isascii()}
    families = sorted({family for character in characters if (family := fonts.family_with(character))})
    for artist in artists if families else []:
        artist.set_fontfamily(["sans-serif", *families])


def label_epochs(axes: Any, *, title: str, ylabel: str) -> None:
    """Label axes whose horizontal one counts epochs from 1, with whole numbers as ticks, and draw a grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
