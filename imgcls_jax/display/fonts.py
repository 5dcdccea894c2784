"""Find a font for any text, and write what no installed font has as escapes, so that pictures show no empty boxes."""

import functools
from pathlib import Path
from typing import Any

# Fonts that draw a box for every character.
_BOXES = "Last Resort"
# Parts of the names of fonts that cover much, which are looked into first.
_LIKELY = ("CJK", "Noto Sans", "Unifont", "Unicode", "WenQuanYi", "PingFang", "Hiragino", "YaHei", "Gothic", "Fallback")


def family_with(character: str) -> str | None:
    """Return the name of an installed font family that has a character, matplotlib's own first; None: none has."""
    return _named(ord(character))


def printable(text: str) -> str:
    r"""Return a text in which every character that no installed font has is an escape, such as \u732b.

    >>> printable("Grüße")
    'Grüße'
    >>> printable("caf\udce9")
    'caf\\xe9'
    """
    return text if text.isascii() else "".join(_escaped(character) for character in text)


def for_pillow(text: str, size: int) -> tuple[Any, str]:
    """Return a font of Pillow's in which a text can be drawn, and the text, with escapes where the font needs them.

    Args:
      text: one line.
      size: of the font, pixels.
    """
    from PIL import ImageFont

    if text.isascii():
        return ImageFont.load_default(size=size), text
    for character in text:
        family = family_with(character)
        if family is not None and all(ord(other) in _characters(_files()[family]) for other in text):
            return ImageFont.truetype(_files()[family], size), text
    escaped = "".join(character if character.isascii() else _escape(character) for character in text)
    return ImageFont.load_default(size=size), escaped


def _escaped(character: str) -> str:
    return character if character.isascii() or family_with(character) else _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@functools.cache
def _named(code: int) -> str | None:
    return next((family for family, file in _files().items() if code in _characters(file)), None)


@functools.cache
def _files() -> dict[str, str]:
    """The regular file of each installed font family, the likeliest to have a character first."""
    from matplotlib import font_manager, rcParams

    own = font_manager.FontProperties(family=rcParams["font.sans-serif"])
    default = font_manager.findfont(own)
    files = {font_manager.get_font(default).family_name: str(default)}
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (not any(part in font.name for part in _LIKELY), font.name, font.style, str(font.weight)),
    )
    for font in fonts:
        if _BOXES not in font.name and font.style == "normal" and Path(font.fname).is_file():
            files.setdefault(font.name, str(font.fname))
    return files


@functools.cache
def _characters(file: str) -> frozenset[int]:
    from matplotlib import font_manager

    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a damaged font
        return frozenset()
