"""The model card of a published run: README.md, whose front matter Hugging Face reads."""

import json
import math
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from imgcls_jax import config as c
from imgcls_jax.evaluation import calibration
from imgcls_jax.export.program import Program, license_of
from imgcls_jax.record.documents import Figures, Result

_TITLES = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "loss": "loss"}
_TYPES = {"top1": "accuracy", "top5": "top_5_accuracy"}
# Licenses that are nothing but themselves, as Hugging Face writes them.
_LICENSES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause"}
_MOST_CLASSES = 200
_COVERAGE = 0.95  # of prediction sets, of which one is shown


def text(program: Program, result: Result | None, *, source: str, onnx: str | None, license: str | None) -> str:
    """Write the model card.

    Args:
      program: the model.
      result: its figures; None: there are none.
      source: what `Classifier.load` takes.
      onnx: name of the ONNX file; None: there is none.
      license: identifier in the list of Hugging Face; None: what is known of the weights.
    """
    return (
        "---\n"
        + "".join(_yaml(front_matter(program, result, license)))
        + "---\n\n"
        + _body(program, result, source, onnx, license)
    )


def front_matter(program: Program, result: Result | None, license: str | None = None) -> dict[str, Any]:
    """Return the fields of the model card that programs read; arguments as of `text`."""
    fields: dict[str, Any] = {
        "library_name": "imgcls_jax",
        "pipeline_tag": "image-classification",
        "license": license or _LICENSES.get(license_of(program.config), "other"),
        "tags": ["image-classification", "jax", "flax", "imgcls_jax"],
    }
    results = [
        {
            "task": {"type": "image-classification", "name": "Image classification"},
            "dataset": {
                "type": re.sub(r"[^\w./-]+", "-", dataset_name(program.config), flags=re.ASCII).lower(),
                "name": dataset_name(program.config),
                "split": split,
                "args": {"images": int(figures["count"]), "views": views},
            },
            "metrics": [
                {"type": _TYPES.get(name, name), "name": _TITLES.get(name, name), "value": value}
                for name, value in _metrics(figures).items()
            ],
        }
        for split, figures, views in _splits(program, result)
        if _metrics(figures)
    ]
    if results:
        fields["model-index"] = [{"name": program.config.name, "results": results}]
    return fields


def dataset_name(config: c.Config) -> str:
    """Return what a data source is called, without where it lies on this machine."""
    source = config.data.source
    name = getattr(source, "name", None)
    path = str(getattr(source, "path", None) or "")
    if not name and path:
        name = path if isinstance(source, c.HFDataset) and re.fullmatch(r"[\w-]+/[\w.-]+", path) else Path(path).stem
    return str(name or type(source).__name__)


def _splits(program: Program, result: Result | None) -> list[tuple[str, Figures, str]]:
    """Each split that was measured, with its figures and how its images were seen."""
    if result is None:
        return []
    views = program.config.test_views or "center"
    found = (("test", result["test"], views), ("validation", result["validation"], "center"))
    return [(split, figures, seen) for split, figures, seen in found if figures]


def _metrics(figures: Figures) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != "count" and math.isfinite(value)}


def _body(program: Program, result: Result | None, source: str, onnx: str | None, license: str | None) -> str:
    config = program.config
    names = program.class_names
    count = sum(array.size for array in program.params.values())
    what = {"labels": "labels, of which an image may have any number,", "classes": "classes"}[config.loss.task]
    started = config.transfer.init_from
    lines = [
        f"# {_plain(config.name)}",
        "",
        f"A {_plain(type(config.model).__name__)} of {count:,} parameters that tells {len(names):,} {what} apart, "
        f"trained with imgcls_jax {metadata.version('imgcls_jax')}"
        + (f" from the weights {_plain(started)}." if started else "."),
        "",
        "## Use",
        "",
        "```python",
        "from imgcls_jax import Classifier",
        "",
        f"classifier = Classifier.load({json.dumps(source)})",
        'print(classifier.predict("photo.jpg").class_name)',
        "```",
        "",
    ]
    if onnx:
        height, width, channels = program.shape
        lines += [
            f"`{onnx}` needs onnxruntime alone: `image`, uint8 [n, {height}, {width}, {channels}] → `probabilities`, "
            "`logits`.",
            "",
        ]
    if splits := _splits(program, result):
        lines += ["## Figures", "", "| split | images | views | metric | value |", "|---|---|---|---|---|"]
        for split, figures, views in splits:
            lines += [
                f"| {split} | {int(figures['count']):,} | {views} | {_plain(_TITLES.get(name, name))} | {value:.6g} |"
                for name, value in _metrics(figures).items()
            ]
        lines += ["", f"Of the data set {_plain(dataset_name(config))}; accuracies are shares in [0, 1].", ""]
    lines += [*_confidence(program), "## Preprocessing", ""]
    lines += [f"- {name.replace('_', ' ')}: {_value(value)}" for name, value in program.card["preprocessing"].items()]
    lines += ["", "## Classes", ""]
    lines += [f"    {label:>5}  {json.dumps(name, ensure_ascii=False)}" for label, name in _some(names)]
    if len(names) > _MOST_CLASSES:
        lines += ["", f"The names of all {len(names):,} are in the weights' file."]
    known = license_of(config)
    lines += [
        "",
        "## License",
        "",
        (f"{_plain(license)}. " if license else "") + f"What is known of the weights: {known}.",
        "",
    ]
    return _encodable("\n".join(lines))


def _confidence(program: Program) -> list[str]:
    """What `imgcls calibrate` has fitted, as far as there is such."""
    if "calibration" not in program.card:
        return []
    fitted = calibration.of_card(program.card, program.config.name)
    energy = (
        [
            f"an image is unknown where log Σ exp of its logits is below {fitted.least_energy:.6g}, which is so of "
            f"{1 - fitted.known:.0%} of these images"
        ]
        if fitted.least_energy is not None
        else []
    )
    lines = [
        f"the temperature, by which logits are divided: {fitted.temperature:.6g}",
        f"sets of classes that hold the right one with a probability of {_COVERAGE:.0%}: every class whose probability "
        f"at this temperature is at least {fitted.threshold(_COVERAGE):.6g}, and the most probable one",
        *energy,
    ]
    return [
        "## Confidence",
        "",
        f"Fitted on {fitted.images:,} validation images, seen as {fitted.views}; `imgcls predict` applies it.",
        "",
        *(f"- {line}" for line in lines),
        "",
    ]


def _some(names: tuple[str, ...]) -> list[tuple[int, str]]:
    return list(enumerate(names))[:_MOST_CLASSES]


def _value(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: str) -> str:
    """A text in which Markdown and HTML mean nothing, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~])", r"\\\1", " ".join(value.split()))


def _encodable(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _yaml(value: Any, indent: str = "") -> list[str]:
    """The lines of a YAML block of dicts, lists and scalars that are not empty."""
    lines: list[str] = []
    items = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in items:
        start = f"{indent}- " if key is None else f"{indent}{key}:"
        if not isinstance(item, Mapping | list):
            lines.append(f"{start.rstrip()} {_scalar(item)}\n")
        elif key is None:
            first, *others = _yaml(item, f"{indent}  ")
            lines += [f"{indent}- {first[len(indent) + 2 :]}", *others]
        else:
            lines += [f"{start}\n", *_yaml(item, f"{indent}  " if isinstance(item, Mapping) else indent)]
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        # YAML 1.1 takes 1e-05 for a text.
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    if isinstance(value, int):
        return str(value)
    if re.fullmatch(r"[A-Za-z][\w-]*( [\w-]+)*", value, re.ASCII) and value.lower() not in _WORDS:
        return value
    quoted = json.dumps(_encodable(value), ensure_ascii=False)
    return "".join(x if x.isprintable() else f"\\U{ord(x):08x}" for x in quoted)


# What YAML 1.1 reads as something else than a text.
_WORDS = {"y", "yes", "n", "no", "true", "false", "on", "off", "null"}
