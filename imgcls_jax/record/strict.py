"""Keep JSON strict: a figure that is not finite is null in a file, and NaN again once it is read."""

import math
from collections.abc import Mapping
from typing import Any

# Fields of a record or a result that hold figures by name, and those that are figures themselves.
_FIGURES = ("train", "validation", "test")
_NUMBERS = ("loss", "gradient_norm", "parameter_norm", "update_ratio")


def encode(document: Any) -> Any:
    """Return a document with null in place of every number that is NaN or infinite, which JSON does not have."""
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, Mapping):
        return {key: encode(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [encode(value) for value in document]
    return document


def decode(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, or a result, as it was before `encode`, with NaN for every figure that is null."""
    numbers = {name: _number(record[name]) for name in _NUMBERS if name in record}
    figures = {name: _figures(record[name]) for name in _FIGURES if name in record}
    others = record.get("evaluators")
    named = {"evaluators": {name: _figures(one) for name, one in others.items()}} if isinstance(others, dict) else {}
    own = {}
    if isinstance(history := record.get("history"), list):
        own = {"history": [decode(epoch) if isinstance(epoch, dict) else epoch for epoch in history]}
    return record | numbers | figures | named | own


def _figures(figures: Any) -> Any:
    return {name: _number(value) for name, value in figures.items()} if isinstance(figures, dict) else figures


def _number(value: Any) -> Any:
    return math.nan if value is None else value
