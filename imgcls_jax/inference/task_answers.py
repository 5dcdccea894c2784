"""What is said about each image as a row of a table, by models of several labels per image and of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgcls_jax.inference.answers import Row, unreadable
from imgcls_jax.inference.prediction import Estimate, Prediction, Unreadable


@dataclass(frozen=True)
class LabelAnswers:
    """Makes the rows of a model of several labels per image."""

    class_names: Sequence[str]
    everything: bool = False
    """Whether there is a column for the probability of every label."""

    def columns(self, outputs: int) -> list[str]:
        """Return the names of the columns, in order."""
        return ["file", "labels", "status", *([f"p({name})" for name in self.class_names] if self.everything else [])]

    def row(self, result: Prediction | Unreadable) -> Row:
        """Return the row of an image; a prediction must have all its probabilities."""
        if isinstance(result, Unreadable):
            return unreadable(result)
        assert result.labels is not None and result.probabilities is not None
        row: Row = {
            "file": str(result.path),
            "labels": [choice.class_name for choice in result.labels],
            "status": "ok",
        }
        if self.everything:
            shares = zip(self.class_names, result.probabilities.tolist(), strict=True)
            row |= {f"p({name})": share for name, share in shares}
        return row

    def line(self, row: Row) -> str:
        """Return what is shown of a row."""
        return f"{', '.join(row['labels']) or '(no label)'}  {row['file']}"


@dataclass(frozen=True)
class NumberAnswers:
    """Makes the rows of a model of numbers."""

    names: Sequence[str]

    def columns(self, outputs: int) -> list[str]:
        """Return the names of the columns, in order."""
        return ["file", "status", *self.names]

    def row(self, result: Estimate | Unreadable) -> Row:
        """Return the row of an image."""
        if isinstance(result, Unreadable):
            return unreadable(result)
        return {"file": str(result.path), "status": "ok", **result.values}

    def line(self, row: Row) -> str:
        """Return what is shown of a row."""
        return f"{', '.join(f'{name} {row[name]:.6g}' for name in self.names)}  {row['file']}"
