"""The sections of a page on the data: splits, classes, duplicates, and the map of the features."""

from collections import defaultdict
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from imgcls_jax.data import pixels
from imgcls_jax.data.split import sizes
from imgcls_jax.errors import UserError
from imgcls_jax.report.html import svg
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.html.pictures import Album

_MOST_CLASSES = 300
_MOST_DUPLICATES = 30
_MOST_COMPARED = 20_000  # images of all splits whose canvases are read for those that are nearly the same
_MAPPED = 512
"""Images of the map of features: a point each, and a forward pass."""
_SHAPES = 6
_NAMED = 20  # classes that have a color, a shape and a name in the map


def summary(run: Material) -> dict[str, Any]:
    """Return sizes and class counts of the splits, or of data that are gone the sizes that the run has noted."""
    data = run.run.config.data
    values: dict[str, Any] = {"source": str(data.source), "split_hash": run.trained.card["split_hash"]}
    try:
        dataset = run.dataset
    except UserError as error:
        return values | {"note": f"{error}.", "splits": _noted(run), "classes": [], "notes": [], "bad": None}
    names = dataset.class_names
    counts = {split.name: split.class_counts(len(names)).tolist() for split in dataset.splits}
    most = max(max(column) for column in counts.values())
    return values | {
        "note": "",
        "splits": [(split.name, f"{len(split):,}",
                    f"{split.canvas.height} × {split.canvas.width} × {split.canvas.channels}")
                   for split in dataset.splits],
        "columns": list(counts),
        "classes": [
            {"name": name, "counts": [(column[label], 100 * column[label] / most if most else 0)
                                      for column in counts.values()]}
            for label, name in enumerate(names[:_MOST_CLASSES])
        ],
        "all": len(names),
        "bad": len(dataset.bad),
        "notes": list(dataset.notes),
        "same": dataset.split_hash == run.trained.card["split_hash"],
        "now": dataset.split_hash,
    }  # fmt: skip


def _noted(run: Material) -> list[tuple[str, int, str]]:
    return [(name, count, "") for name, count in sizes(run.run.workdir).items()]


def duplicates(run: Material, album: Album) -> dict[str, Any]:
    """Return images whose files are the same, byte for byte, and pairs that are nearly so, within and across splits."""
    dataset = run.dataset
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, split in enumerate(dataset.splits):
        for row, content in enumerate(split.content.tolist()):
            groups[content].append((number, row))
    found = [group for group in groups.values() if len(group) > 1]
    # Those that matter most first: an image of another split, then one of another class.
    splits = dataset.splits

    def labels(group: list[tuple[int, int]]) -> list[str]:
        return [str(splits[number].labels[row].tolist()) for number, row in group]

    found.sort(key=lambda group: (len({number for number, _ in group}) == 1, len(set(labels(group))) == 1))
    shown = []
    for group in found[:_MOST_DUPLICATES]:
        number, row = group[0]
        shown.append({
            "picture": album.add(splits[number].read(np.array([row]))[0]),
            "across": len({number for number, _ in group}) > 1,
            "differ": len(set(labels(group))) > 1,
            "images": [(splits[n].name, splits[n].ids[r], _class(dataset, splits[n].labels[r])) for n, r in group[:6]],
            "more": max(0, len(group) - 6),
        })  # fmt: skip
    return {
        "groups": shown,
        "count": len(found),
        "across": sum(len({number for number, _ in group}) > 1 for group in found),
        "near": _near(run, album, found),
        "workdir": run.run.workdir,
    }


def _near(run: Material, album: Album, same: list[list[pixels.Place]]) -> dict[str, Any]:
    """Return the pairs of images that are nearly the same; or why they are not looked for."""
    dataset, splits = run.dataset, run.dataset.splits
    if not pixels.can_be_compared(splits):
        return {"missing": f"images below {pixels.THUMBNAIL} pixels are compared byte for byte only"}
    if (images := sum(map(len, splits))) > _MOST_COMPARED:
        return {"missing": f"of more than {_MOST_COMPARED:,} images (here are {images:,}) it would take long"}
    pairs = pixels.near_places(splits, [pixels.scan(split) for split in splits], same)
    across = [pair[0][0] != pair[1][0] for pair in pairs]
    differ = [len({str(splits[n].labels[r].tolist()) for n, r in pair}) > 1 for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda i: (not across[i], not differ[i]))[:_MOST_DUPLICATES]
    return {
        "missing": "",
        "count": len(pairs),
        "across": sum(across),
        "pairs": [
            {
                "pictures": [album.add(splits[n].read(np.array([r]))[0]) for n, r in pairs[i]],
                "across": across[i],
                "differ": differ[i],
                "images": [
                    (splits[n].name, splits[n].ids[r], _class(dataset, splits[n].labels[r])) for n, r in pairs[i]
                ],
            }
            for i in order
        ],
    }


def _class(dataset: Any, label: Any) -> str:
    return dataset.class_names[int(label)] if np.ndim(label) == 0 else ""


def features(run: Material) -> dict[str, Any]:
    """Return a map of the images by the features that the network computes of them: their first two principal
    components."""
    made = run.predictions
    rows = np.arange(min(len(made), _MAPPED)) * len(made) // min(len(made), _MAPPED)
    if len(rows) < 3:
        raise UserError("there are too few images for a map")
    points, share = principal(run.classifier.features(run.images(rows)))
    labels, predicted = made.labels[rows].tolist(), made.predicted[rows].tolist()
    names = made.class_names
    order = [label for label, _ in sorted(_counts(labels).items(), key=lambda pair: (-pair[1], pair[0]))]
    place = {label: number for number, label in enumerate(sorted(order[:_NAMED]))}
    return {
        "svg": _map(points, labels, predicted, names, place),
        "legend": [(names[label], place[label] % 8, _mark(place[label], 6, 6)) for label in place],
        "others": len(order) - len(place),
        "shares": [f"{100 * part:.0f} %" for part in share],
        "images": len(rows),
        "of": len(made),
        "split": made.split,
    }


def _counts(labels: list[int]) -> dict[int, int]:
    return {label: labels.count(label) for label in set(labels)}


def principal(
    values: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "n 2"], tuple[float, float]]:
    """Project features onto their first two principal components; each is turned so that its largest weight is
    positive.

    Args:
      values: of at least two images and one number each.

    Returns:
      The coordinates, and the share of the variance that each component has.
    """
    centered = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    if len(directions) < 2:
        directions, sizes = np.pad(directions, ((0, 1), (0, 0))), np.pad(sizes, (0, 1))
    directions *= np.sign(directions[np.arange(2), np.abs(directions).argmax(1)])[:, None]
    variance = sizes**2
    total = float(variance.sum()) or 1.0
    return centered @ directions.T, (float(variance[0]) / total, float(variance[1]) / total)


def _map(
    points: np.ndarray, labels: list[int], predicted: list[int], names: tuple[str, ...], place: dict[int, int]
) -> Markup:
    low, high = points.min(0), points.max(0)
    room = 0.05 * np.maximum(high - low, 1e-9)
    (left, below), (right, above) = (low - room).tolist(), (high + room).tolist()
    axes = svg.Axes((left, right), (below, above), svg.LARGE)
    parts = [axes.frame("first principal component", "second principal component", (), ())]
    for (x, y), label, guess in zip(points.tolist(), labels, predicted, strict=True):
        across, down = axes.at(x, y)
        told = names[label] if guess == label else f"{names[label]}, predicted {names[guess]}"
        kind = f"kind{place[label] % 8}" if label in place else "other"
        wrong = " mistake" if guess != label else ""
        parts.append(svg.tag("g", svg.tag("title", told), _mark(place.get(label, 0), across, down),
                             class_=f"point {kind}{wrong}"))  # fmt: skip
    parts += _names(axes, points, np.array(labels), names, place)
    wrong_ones = sum(label != guess for label, guess in zip(labels, predicted, strict=True))
    text = (
        f"Map of {len(labels)} images by the first two principal components of their features; {len(place)} classes "
        f"have a mark and their name; {wrong_ones} images are predicted wrong."
    )
    return svg.drawing(*parts, text=text, size=svg.LARGE)


def _names(
    axes: svg.Axes, points: np.ndarray, labels: np.ndarray, names: tuple[str, ...], place: dict[int, int]
) -> list[Markup]:
    """The name of each class at the middle of its images, moved up or down where it would lie on another one; where
    there is no room, the legend alone has it."""
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []  # x, y and half the width of a name
    for label in place:
        x, y = axes.at(*np.median(points[labels == label], 0).tolist())
        name = names[label] if len(names[label]) <= 16 else f"{names[label][:15]}…"
        half = 3.6 * len(name)
        for move in (0, -14, 14, -28, 28, -42, 42):
            if all(abs(y + move - other) >= 13 or abs(x - beside) >= half + width for beside, other, width in taken):
                taken.append((x, y + move, half))
                parts.append(svg.tag("text", name, class_="name middle", x=x, y=y + move + 4))
                break
    return parts


def _mark(number: int, x: float, y: float) -> Markup:
    """One of six shapes around a place, so that classes are told apart by more than their color."""
    r = 3.0
    paths = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {2 * r + 1}h{-2 * r - 2}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
        f"M{x:.1f} {y + r + 1:.1f}l{r + 1} {-2 * r - 1}h{-2 * r - 2}z",
        f"M{x - 1:.1f} {y - r - 1:.1f}h2v{r}h{r}v2h{-r}v{r}h-2v{-r}h{-r}v-2h{r}z",
    )
    return svg.tag("path", d=paths[number % _SHAPES])
