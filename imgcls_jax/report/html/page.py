"""Write a report on runs as one HTML page, which asks for nothing else.

The page has its own style, script and pictures; its Content-Security-Policy admits these two texts by their hashes,
pictures only as data: addresses, and nothing from anywhere.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from imgcls_jax.disk import outputs
from imgcls_jax.display.console import size
from imgcls_jax.errors import UserError
from imgcls_jax.report import record
from imgcls_jax.report.html import data, figures, images, settings, training
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.html.pictures import Album
from imgcls_jax.report.record import RunRecord

LIMIT = 5_000_000
"""Bytes of a page at most."""
_PICTURES = 3_600_000  # of these, the pictures of all runs together
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    """That of its template."""
    id: str
    title: str
    values: dict[str, Any] | None
    """What the template shows; None where there is nothing to show."""
    missing: str
    """Why there is nothing to show, as a sentence."""


def write(workdirs: Sequence[Path], path: Path, *, split: str | None = None) -> None:
    """Write the page.

    Args:
      workdirs: folders of runs of which at least one epoch is finished.
      path: the file.
      split: whose predictions are shown: "test", "validation" or "none"; None: the test split's where they are kept, or
        else the validation split's.

    Raises:
      UserError: a folder holds no run, or one without a finished epoch; or the page would be too large.
    """
    runs = record.read_all(workdirs)
    with outputs.writing(path) as file:
        text = page(runs, split=split)
        if (length := len(text.encode("utf-8", "surrogateescape"))) > LIMIT:
            raise UserError(
                f"the page on {len(runs)} runs would have {size(length)}, and {size(LIMIT)} are the most that every "
                "browser and mailbox takes well: report fewer runs at once"
            )
        file.write(text)


def page(runs: Sequence[RunRecord], *, split: str | None = None) -> str:
    """Return the page as text; arguments as for `write`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["swatch"] = training.swatch
    environment.filters["code"] = _code
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    materials = [Material(run, split) for run in runs]
    several = []
    if len(runs) > 1:
        several.append(_section("comparison", "comparison", "Side by side", lambda: settings.comparison(materials)))
    about = [_about(run, f"run{number}", Album(_PICTURES // len(runs))) for number, run in enumerate(materials)]
    made = [
        _section("settings", "settings", "All settings", lambda: settings.configs(runs)),
        _section("environment", "environment", "Environment", lambda: settings.environments(runs)),
    ]
    return environment.get_template("page.html").render(
        title=f"{runs[0].label}: report" if len(runs) == 1 else f"{len(runs)} runs: report",
        labels=[run.label for run in runs],
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        several=several,
        runs=about,
        made=made,
    )


def _code(sentence: str) -> Markup:
    """Return a sentence with what stands between `backticks` as code."""
    parts = sentence.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 and number < len(parts) - 1 else escape(part)
        for number, part in enumerate(parts)
    )


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy of a page with this style and this script."""
    return (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _about(run: Material, prefix: str, album: Album) -> dict[str, Any]:
    """What the page says of a run, and what it leaves out: titles by reason."""
    sections = _sections(run, prefix, album)
    missing: dict[str, list[str]] = {}
    for section in sections:
        if section.values is None:
            missing.setdefault(section.missing, []).append(section.title)
    return {
        "label": run.run.label,
        "workdir": run.run.workdir,
        "id": prefix,
        "headline": settings.headline(run),
        "sections": [section for section in sections if section.values is not None],
        "missing": [(titles, reason) for reason, titles in missing.items()],
    }


def _sections(run: Material, prefix: str, album: Album) -> list[Section]:
    """The sections on a run, in the order of the page; those that matter most take their pictures first."""
    builders: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        "curves": ("Training", lambda: training.curves(run.run)),
        "figures": ("Figures", lambda: figures.overall(run)),
        "losses": ("Top losses", lambda: images.top_losses(run, album)),
        "matrix": ("Confusion", lambda: images.matrix(run, album, prefix)),
        "classes": ("Classes", lambda: figures.classes(run)),
        "confidence": ("Confidence", lambda: figures.confidence(run)),
        "labels": ("Label candidates", lambda: images.label_candidates(run, album)),
        "duplicates": ("Duplicates", lambda: data.duplicates(run, album)),
        "features": ("Map of features", lambda: data.features(run)),
        "corruptions": ("Corruptions", lambda: figures.corruptions(run)),
        "data": ("Data", lambda: data.summary(run)),
    }
    first = ("losses", "labels", "duplicates")
    made = {
        name: _section(name, f"{prefix}-{name}", *builders[name])
        for name in (*first, *(name for name in builders if name not in first))
    }
    shown = ("curves", "figures", "matrix", "classes", "losses", "confidence", "features", "corruptions", "labels",
             "duplicates", "data")  # fmt: skip
    return [made[name] for name in shown]


def _section(name: str, identifier: str, title: str, build: Callable[[], dict[str, Any]]) -> Section:
    try:
        return Section(name, identifier, title, build(), "")
    except UserError as error:
        return Section(name, identifier, title, None, str(error))
