"""Curves of several runs: side by side, and all on one plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from imgcls_jax.writers import Record

Histories = Mapping[str, Sequence[list[Record]]]
"""Label → the histories of its runs, one a seed."""

_COLUMNS = 4
_SPLITS = {"train": "--", "validation": "-"}


def side_by_side(runs: Histories, path: Path, *, title: str, targets: Mapping[str, float] | None = None) -> None:
    """Write a PNG with one panel a label: accuracy over the epochs, training dashed, validation solid, a line a seed.

    Args:
      runs: what to show; every history has an epoch or more.
      path: the file.
      title: above all panels.
      targets: label → accuracy in [0, 1] that a dotted line marks.
    """
    columns = min(_COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure = _figure(4.2 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, (label, histories) in zip(panels.flat, runs.items(), strict=False):
        for seed, history in enumerate(histories):
            for (split, style), colour in zip(_SPLITS.items(), ("tab:blue", "tab:orange"), strict=True):
                if history[0][split]:
                    name = split if seed == 0 else None
                    values = 100 * _values(history, split, "top1")
                    axes.plot(_epochs(history), values, style, color=colour, label=name, marker=".", markersize=4)
        if targets and label in targets:
            axes.axhline(100 * targets[label], color="black", linestyle=":", label="reported")
        _dress(axes, label, "top-1 accuracy, %")
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def together(runs: Histories, path: Path, *, title: str) -> None:
    """Write a PNG with the loss and the accuracy of all labels: the mean over a label's seeds, and a band from its
    least to its greatest seed. The split is validation, or training for a label without validation."""
    figure = _figure(12, 4.4)
    loss, accuracy = figure.subplots(1, 2)
    for label, histories in runs.items():
        split = "validation" if histories[0][0]["validation"] else "train"
        name = label if split == "validation" else f"{label} (train)"
        shortest = min(len(history) for history in histories)  # beyond it there is no mean over all seeds
        for axes, metric, factor in ((loss, "loss", 1), (accuracy, "top1", 100)):
            values = factor * np.stack([_values(history, split, metric)[:shortest] for history in histories])
            epochs = _epochs(histories[0])[:shortest]
            (line,) = axes.plot(epochs, values.mean(0), label=name, marker=".", markersize=4)
            if len(histories) > 1:
                axes.fill_between(epochs, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    _dress(loss, "validation loss", "loss")
    _dress(accuracy, "validation accuracy", "top-1 accuracy, %")
    accuracy.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _figure(width: float, height: float) -> Any:
    # Without pyplot: it would keep every figure, and choose a window system. Imported late: it takes half a second.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _dress(axes: Any, title: str, ylabel: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def _epochs(history: list[Record]) -> list[int]:
    return [record["epoch"] + 1 for record in history]


def _values(history: list[Record], split: str, metric: str) -> Float[np.ndarray, "epochs"]:
    return np.array([record[split][metric] for record in history])
