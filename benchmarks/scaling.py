"""How cost grows: time and memory against data set, classes, image size, batch and depth.

    python -m benchmarks.scaling [PART…] [--out FILE.json] [--plot FILE.webp]

Parts: index, folder, ends, classes, size, batch, depth; none: all. Each point is measured in a process of its own and
written at once; one that FILE has already is not measured again, unless --again is given. The last lines are the
tables of docs/performance.md.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import environment, growth
from benchmarks.process import Answer, CannotRun, Side

Points = dict[str, dict[str, Answer]]
"""The measurements of each series by the size, as text."""

_FITTED, _COLUMNS = 3, 4
STEP = {"size": 32, "batch": 64, "classes": 10, "depth": 3, "channels": 32, "steps": 8}
"""The step whose settings are changed one at a time."""


@dataclass(frozen=True)
class Series:
    """One cost at several sizes."""

    part: str
    title: str
    program: str
    """A function of `benchmarks.growth`."""
    along: str
    """Its keyword that grows."""
    sizes: tuple[int, ...]
    settings: dict[str, Any]
    per: str = ""
    """A keyword by which seconds are divided: those of one image."""


def _index(what: str, title: str) -> Series:
    return Series("index", title, "index", "entries", (10**3, 10**4, 10**5, 10**6, 10**7), {"what": what})


def _steps(part: str, sizes: Sequence[int], title: str, **settings: int) -> Series:
    changed = {name: value for name, value in (STEP | settings).items() if name != part}
    return Series(part, title, "steps", part, tuple(sizes), changed, per="batch")


SERIES = {
    "order": _index("order", "order of an epoch"),
    "balanced": _index("balanced", "balanced order"),
    "split": _index("split", "held-out split"),
    "hash": _index("hash", "hash of the split"),
    "cache": _index("cache", "canvas cache opened"),
    "evaluation": _index("evaluation", "figures of ten classes"),
    "folder": Series("folder", "folder", "folder", "files", (10**3, 10**4, 10**5, 10**6), {}),
    "ends": Series(
        "ends",
        "table and confusion matrix at a run's end",
        "classes_evaluated",
        "classes",
        (10, 100, 1000, 10_000),
        {"images": 10_000},
    ),
    "classes": _steps("classes", (2, 10, 100, 1000, 10_000), "classes"),
    "size": _steps("size", (32, 64, 96, 160, 224, 320), "image side, pixels", batch=16),
    "batch": _steps("batch", (1, 4, 16, 64, 256, 1024), "batch"),
    "depth": _steps("depth", (2, 4, 8, 16, 32), "convolutions"),
}
"""By name, in the order in which they are measured."""
PARTS = tuple(dict.fromkeys(series.part for series in SERIES.values()))
STAGES = ("listing", "split", "first load", "load", "start")
"""Of a folder."""


class Fit(NamedTuple):
    """cost = scale · size^exponent, over a range of sizes."""

    exponent: float
    scale: float
    first: float
    last: float


def fit(sizes: Sequence[float], costs: Sequence[float], points: int = _FITTED) -> Fit:
    """Fit a power law by least squares of logarithms, to the greatest sizes: smaller ones show what is always paid.

    Args:
      sizes: ascending.
      costs: above 0.
      points: how many of the greatest sizes.

    Raises:
      ValueError: there are fewer than two sizes, or a cost is not above 0.
    """
    x, y = (np.asarray(values, float)[-points:] for values in (sizes, costs))
    if len(x) < 2 or len(x) != len(y) or not (y > 0).all():
        raise ValueError("a power law needs two sizes, each with a cost above 0")
    exponent, level = np.polyfit(np.log(x), np.log(y), 1)
    return Fit(float(exponent), math.exp(level), float(x[0]), float(x[-1]))


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(name: str, size: int) -> Answer:
    """Measure one point of a series, by its name in `SERIES`.

    Raises:
      CannotRun: it cannot be measured here.
    """
    series = SERIES[name]
    if series.program == "folder":
        return _of_folder(size)
    settings = series.settings | {series.along: size}
    with Side(f"growth:{series.program}", settings, {}) as side:
        answer = side.ask()
    if series.per:
        answer["seconds"] /= settings[series.per]
    return answer


def _of_folder(files: int) -> Answer:
    with tempfile.TemporaryDirectory() as made:
        images, cache = Path(made) / "images", Path(made) / "cache"
        images.mkdir()
        growth.make_folder(images, files)
        paths = {"path": str(images), "cache": str(cache)}
        with Side("growth:listed", paths, {}) as side:
            stages = dict(zip(STAGES, (side.ask() for _ in range(4)), strict=False))
        with Side("growth:started", paths, {}) as side:
            answer = side.ask()
            stages["start"] = answer | {"seconds": answer["since_start"]}
    return {"files": stages["listing"]["files"], "classes": stages["listing"]["classes"], "stages": stages}


def curves(points: Points) -> Iterator[tuple[str, str, list[int], list[Answer]]]:
    """Give part, title, sizes and measurements of every curve: a folder has one for each of its stages."""
    for name, series in SERIES.items():
        found = {size: points[name][str(size)] for size in series.sizes if str(size) in points.get(name, {})}
        if not found:
            continue
        if series.program == "folder":
            for stage in STAGES:
                yield series.part, stage, list(found), [answer["stages"][stage] for answer in found.values()]
        else:
            yield series.part, series.title, list(found), list(found.values())


# ---- showing --------------------------------------------------------------------------------------------------------


def table(points: Points) -> str:
    """Return a Markdown table of each curve's cost at its greatest size, and of the exponents."""
    lines = ["| | at | seconds | of a processor | exponent | memory | exponent |", "|---|---|---|---|---|---|---|"]
    for part, title, sizes, found in curves(points):
        name = title if part in ("index", "folder", "ends") else f"a step, per image: {title}"
        cost, last = _time(found), found[-1]
        cells = [name, f"{sizes[-1]:,}", f"{last['seconds']:.3g}", f"{last[cost]:.3g}" if cost != "seconds" else "–"]
        cells += [_exponent(sizes, found, cost)]
        cells += [_size(last["bytes"]), _exponent(sizes, found, "bytes")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _time(found: Sequence[Answer]) -> str:
    """The processor's time where it was measured, which other programs disturb less than the clock's."""
    return "cpu_seconds" if all("cpu_seconds" in answer for answer in found) else "seconds"


def _exponent(sizes: Sequence[int], found: Sequence[Answer], cost: str) -> str:
    try:
        made = fit(sizes, [answer[cost] for answer in found])
    except ValueError:
        return "–"
    return f"{made.exponent:.2f}"


def _size(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.3g} MiB"


def plot(points: Points, path: Path) -> None:
    """Draw seconds and bytes of every part, on logarithmic axes, into one picture."""
    from imgcls_jax.display import figures

    parts = list(dict.fromkeys(part for part, *_ in curves(points)))
    columns = min(len(parts), _COLUMNS)
    figure = figures.figure(2.6 * columns, 4.2 * -(-len(parts) // columns))
    grid = figure.subplots(2 * -(-len(parts) // columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for place, part in enumerate(parts):
        for row in range(2):
            axes = grid[2 * (place // columns) + row, place % columns]
            axes.set_visible(True)
            for own, title, sizes, found in curves(points):
                cost = "bytes" if row else _time(found)
                if own == part and all(answer[cost] > 0 for answer in found):
                    label = f"{title} ({_exponent(sizes, found, cost)})"
                    axes.loglog(sizes, [answer[cost] for answer in found], ".-", lw=1, ms=4, label=label)
            axes.legend(fontsize=5.5, frameon=False)
            axes.tick_params(labelsize=6, which="both")
            axes.grid(alpha=0.3, lw=0.5)
            per = "s of an image" if part in STEP else "s"
            axes.set_title(f"{part}: {'bytes' if row else per}", fontsize=8)
    figures.save(figure, path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling.json"), help="where the figures go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw all that --out holds")
    parser.add_argument("--most", type=int, default=10**9, metavar="SIZE", help="leave out greater sizes")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]}: choose from {', '.join(PARTS)}")

    document: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"points": {}}
    points: Points = document["points"]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for name, series in SERIES.items():
        for size in [size for size in series.sizes if size <= given.most and series.part in (given.parts or PARTS)]:
            known = points.setdefault(name, {})
            if str(size) in known and not given.again:
                continue
            started = time.perf_counter()
            document["environment"] = environment.describe()
            try:
                known[str(size)] = measure(name, size) | {"load": os.getloadavg()[0]}
            except CannotRun as error:
                print(f"{name} at {size:,} skipped: {error}", flush=True)
                continue
            given.out.write_text(json.dumps(document, indent=1) + "\n")  # an interruption loses nothing
            print(f"{name} at {size:,}: {time.perf_counter() - started:.0f} s in all", flush=True)
    print(table(points))
    if given.plot:
        plot(points, given.plot)


if __name__ == "__main__":
    main()
