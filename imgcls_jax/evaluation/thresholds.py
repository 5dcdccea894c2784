"""The probability from which on each of several labels is predicted: tuned on a run's validation images, and kept.

thresholds.json in a work directory: {"schema", "tuned_on": number of validation images, "labels": names, "thresholds"}.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import tasks
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.record.json_files import read_json, write_json

FILE = "thresholds.json"
_SCHEMA = 1


def of(made: Mapping[str, Predictions]) -> list[float] | None:
    """Tune the thresholds on the validation images among predictions by split; None of another task, or without any
    that are finite."""
    validation = made.get("validation")
    if validation is None or validation.task != "labels" or not validation.is_finite:
        return None
    return tasks.tune(tasks.sigmoid(validation.logits), validation.labels.astype(bool))


def figures(made: Predictions, thresholds: Sequence[float]) -> dict[str, float]:
    """Compute "f1_micro_tuned", "f1_macro_tuned" and "exact_match_tuned" of a split; none where an output is not
    finite."""
    if not made.is_finite:
        return {}
    found = tasks.at(tasks.sigmoid(made.logits), made.labels.astype(bool), thresholds)
    return {f"{name}_tuned": value for name, value in found.items()}


def save(workdir: Path, validation: Predictions, thresholds: Sequence[float]) -> None:
    """Write thresholds.json into a work directory."""
    document = {
        "schema": _SCHEMA,
        "tuned_on": len(validation),
        "labels": list(validation.class_names),
        "thresholds": [float(value) for value in thresholds],
    }
    write_json(workdir / FILE, document)


def load(workdir: Path, class_names: Sequence[str]) -> list[float] | None:
    """Read the thresholds of a run; None where none are kept.

    Raises:
      UserError: the file is damaged or of other labels.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    found = read_json(path)
    values = found.get("thresholds") if isinstance(found, dict) else None
    numbers = [float(value) for value in values or [] if isinstance(value, int | float)]
    if len(numbers) != len(class_names) or found.get("labels") != list(class_names):
        raise UserError(f"{path} is damaged or of other labels: remove it, and each label is predicted from 0.5 on")
    return numbers
