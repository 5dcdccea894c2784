"""Draw charts as inline SVG, in the classes that style.css colors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]

Size = tuple[int, int]
"""Width and height of a chart in its units, which are about pixels: text is 11 of them high."""

SMALL: Size = (300, 200)
LARGE: Size = (720, 440)
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 18, 34
# Lines of so many points have a mark with a tooltip at each.
_MOST_MARKED = 120


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    style: str
    """Its CSS class."""
    points: Sequence[Point]
    """Where y is not finite, the line is interrupted."""


@dataclass(frozen=True)
class Mark:
    """A vertical line of a chart."""

    x: float
    label: str
    """A letter or a word at its top."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Make an element; text and attributes are escaped, and attributes that are None left out.

    >>> str(tag("text", "a < b", x=1, class_="tick", aria_hidden=None))
    '<text x="1" class="tick">a &lt; b</text>'
    """
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(name, pairs, inside, name)


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` round numbers from `low` to `high`.

    >>> ticks(0, 1), ticks(3, 17)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [5.0, 10.0, 15.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axes:
    """Where the numbers of a chart lie in it."""

    x: tuple[float, float]
    """The numbers at its left and right border."""
    y: tuple[float, float]
    """Those at its lower and upper border."""
    size: Size = SMALL

    def at(self, x: float, y: float) -> Point:
        """Place a point, in units of the chart."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        width, height = self.size
        return _LEFT + across * (width - _LEFT - _RIGHT), height - _BOTTOM - up * (height - _TOP - _BOTTOM)

    def frame(self, xlabel: str, ylabel: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Draw grid, numbers and labels."""
        parts = []
        width, height = self.size
        end = float(width - _RIGHT)
        for value in y_ticks:
            x, y = self.at(self.x[0], value)
            parts.append(tag("line", class_="grid", x1=x, x2=end, y1=y, y2=y))
            parts.append(tag("text", short(value), class_="tick end", x=x - 6, y=y + 4))
        for value in x_ticks:
            x, y = self.at(value, self.y[0])
            parts.append(tag("text", short(value), class_="tick middle", x=x, y=y + 15))
        left, bottom = self.at(self.x[0], self.y[0])
        parts.append(tag("line", class_="axis", x1=left, x2=end, y1=bottom, y2=bottom))
        parts.append(tag("text", xlabel, class_="label middle", x=(left + end) / 2, y=height - 3))
        parts.append(tag("text", ylabel, class_="label", x=4, y=10))
        return Markup("").join(parts)


def short(value: float) -> str:
    """Return a number as a tick shows it."""
    return f"{value:.4g}".replace("e-0", "e-").replace("-", "−")


def drawing(*parts: object, text: str, size: Size = SMALL) -> Markup:
    """Put parts into a picture; `text` says what it shows to those who do not see it."""
    return tag("svg", *parts, viewBox=f"0 0 {size[0]} {size[1]}", class_="chart", role="img", aria_label=text)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low - 0.04 * (high - low), high + 0.06 * (high - low)


def lines(
    series: Sequence[Series],
    *,
    title: str,
    ylabel: str,
    marks: Sequence[Mark] = (),
    ring: Point | None = None,
    xlabel: str = "epoch",
    shown: Callable[[float], str] = short,
) -> Markup:
    """Draw lines over epochs.

    Args:
      series: at least one with a finite value.
      title: what is drawn, for the description.
      ylabel: above the vertical axis.
      marks: vertical lines.
      ring: a point with a ring around it, such as the best epoch.
      xlabel: below.
      shown: how tooltips write a value.
    """
    finite = [(x, y) for one in series for x, y in one.points if math.isfinite(y)]
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    first, last = min(xs), max(xs)
    axes = Axes((first - 0.5, last + 0.5) if first == last else (first, last), _limits(ys))
    whole = [x for x in ticks(*axes.x) if x == int(x)] or [float(round(first))]
    parts = [axes.frame(xlabel, ylabel, [x for x in whole if axes.x[0] <= x <= axes.x[1]], ticks(*axes.y))]
    for mark in marks:
        if axes.x[0] <= mark.x <= axes.x[1]:
            x, top = axes.at(mark.x, axes.y[1])
            bottom = axes.at(mark.x, axes.y[0])[1]
            parts.append(tag("line", class_="mark", x1=x, x2=x, y1=top, y2=bottom))
            parts.append(tag("text", mark.label, class_="tick middle", x=x, y=top - 3))
    for one in series:
        parts.append(_line(one, axes))
        if len(one.points) <= _MOST_MARKED:
            parts += [
                tag("circle", tag("title", f"{one.name}, {xlabel} {short(x)}: {shown(y)}"), class_=f"dot {one.style}",
                    cx=axes.at(x, y)[0], cy=axes.at(x, y)[1], r=2.5)
                for x, y in one.points if math.isfinite(y)
            ]  # fmt: skip
    if ring is not None and math.isfinite(ring[1]):
        x, y = axes.at(*ring)
        parts.append(tag("circle", class_="ring", cx=x, cy=y, r=6))
    return drawing(*parts, text=f"{title} over {xlabel}s. {' '.join(_course(one, shown) for one in series)}")


def _line(one: Series, axes: Axes) -> Markup:
    path, pen_up = [], True
    for x, y in one.points:
        if math.isfinite(y):
            across, down = axes.at(x, y)
            path.append(f"{'M' if pen_up else 'L'}{across:.1f} {down:.1f}")
        pen_up = not math.isfinite(y)
    return tag("path", class_=f"line {one.style}", d="".join(path))


def _course(one: Series, shown: Callable[[float], str]) -> str:
    there = [y for _, y in one.points if math.isfinite(y)]
    if not there:
        return f"{one.name}: never finite."
    first, last, least, most = map(shown, (there[0], there[-1], min(there), max(there)))
    return f"{one.name}: from {first} to {last}, between {least} and {most}."


def interval(low: float, value: float, high: float) -> Markup:
    """Draw a share with its interval as a small bar from 0 to 1; a reader of the table has the numbers beside it."""
    return tag(
        "svg",
        tag("line", class_="grid", x1=0, x2=100, y1=5, y2=5),
        tag("line", class_="bar", x1=100.0 * low, x2=100.0 * high, y1=5, y2=5),
        tag("circle", class_="dot validation", cx=100.0 * value, cy=5, r=3.5),
        viewBox="-4 0 108 10",
        class_="interval",
        aria_hidden="true",
    )
