"""Accuracies over corruptions and severities, as figures, a table and a picture."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from imgcls_jax.display import figures, tables
from imgcls_jax.display.console import percent
from imgcls_jax.evaluation.corruptions import BENCHMARK, SEVERITIES


@dataclasses.dataclass(frozen=True)
class Score:
    """Accuracies, and what they were measured on."""

    accuracy: Mapping[str, Float[np.ndarray, "5"]]
    """Share of correct predictions for each corruption, at severities 1 to 5."""
    source: str
    """Where the corrupted images come from, in words."""
    images: int
    """Number of images of each corruption and severity that were used."""
    of: int
    """Number of images that there are."""
    clean: float | None = None
    """Accuracy on the same images uncorrupted, at the same size."""
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Remarks on corruptions, by their names."""

    @property
    def mean(self) -> float:
        """Mean accuracy over all corruptions and severities: the out-of-distribution score."""
        return float(np.mean(list(self.accuracy.values())))

    @property
    def benchmark_error(self) -> float | None:
        """Mean corruption error over the benchmark's 15, in which each counts the same; None if one is missing.

        Not divided by another model's errors, as is usual on CIFAR.
        """
        if not set(BENCHMARK) <= set(self.accuracy):
            return None
        return 1 - float(np.mean([self.accuracy[name] for name in BENCHMARK]))

    @property
    def is_comparable(self) -> bool:
        """Whether `benchmark_error` is of the published corruptions, all of them."""
        return self.benchmark_error is not None and not self.remarks.keys() & set(BENCHMARK)

    def document(self) -> dict[str, Any]:
        """Return everything as plain values, for a JSON file."""
        return {
            "source": self.source,
            "images": self.images,
            "of": self.of,
            "clean_accuracy": self.clean,
            "mean_accuracy": self.mean,
            "mean_corruption_error": 1 - self.mean,
            "mean_corruption_error_of_the_15": self.benchmark_error,
            "comparable": self.is_comparable,
            "corruptions": {
                name: {"accuracy": values.tolist(), "mean": float(values.mean())}
                | ({"remark": self.remarks[name]} if name in self.remarks else {})
                for name, values in self.accuracy.items()
            },
        }

    def summary(self) -> dict[str, str]:
        """Return the main figures in words, by their names."""
        rows = {"images": self.source}
        if self.images < self.of:
            rows["LIMITED"] = f"to {self.images:,} of {self.of:,} images of each corruption and severity"
        if self.clean is not None:
            rows["uncorrupted"] = percent(self.clean)
        rows["mean accuracy"] = f"{percent(self.mean)} over {len(self.accuracy)} corruptions × {len(SEVERITIES)}"
        rows["mean corruption error"] = percent(1 - self.mean)
        if self.benchmark_error is not None:
            kind = "the mean error, as published for CIFAR-10-C" if self.is_comparable else "not comparable"
            rows["of the benchmark's 15"] = f"{percent(self.benchmark_error)}, {kind}"
        return rows | {f"note on {name}": remark for name, remark in self.remarks.items()}

    def markdown(self) -> str:
        """Return the summary and the table of all accuracies, in percent, as Markdown."""

        def row(name: str, values: Float[np.ndarray, "5"]) -> list[str]:
            return [name, *(f"{100 * value:.2f}" for value in (*values, values.mean()))]

        rows = [row(f"{name} *" if name in self.remarks else name, values) for name, values in self.accuracy.items()]
        rows.append(row("**mean**", np.mean(list(self.accuracy.values()), axis=0)))
        summary = "".join(f"- {name}: {text}\n" for name, text in self.summary().items())
        return f"{summary}\n{tables.markdown(('corruption', *map(str, SEVERITIES), 'mean'), rows)}"

    def plot(self, path: Path, *, title: str) -> None:
        """Write the table as a PNG in which colors are accuracies."""
        table = 100 * np.stack([(*values, values.mean()) for values in self.accuracy.values()])
        figure = figures.figure(7.0, 1.5 + 0.3 * len(table))
        axes = figure.subplots()
        shown = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(table):
            axes.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                color="black" if value > 60 else "white",
                fontsize=8,
            )
        axes.set_xticks(range(6), [*(f"severity {s}" for s in SEVERITIES), "mean"], fontsize=8)
        names = [name + " *" * (name in self.remarks) for name in self.accuracy]
        axes.set_yticks(range(len(table)), [figures.literal(name) for name in names], fontsize=8)
        figure.colorbar(shown, label="accuracy, %")
        limited = f", {self.images:,} of {self.of:,} images" if self.images < self.of else ""
        remarks = "".join(f"\n* {name}: {remark}" for name, remark in self.remarks.items())
        axes.set_title(figures.literal(f"{title}: mean {percent(self.mean)}{limited}{remarks}"), fontsize=9)
        figures.save(figure, path, dpi=120)
