"""Draw the curves of several runs: side by side, and all on one plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from imgcls_jax.display import figures
from imgcls_jax.record.history import Record

Histories = Mapping[str, Sequence[Sequence[Record]]]
"""Label → the histories of its runs, one per seed."""

_COLUMNS = 4
_SPLITS = {"train": "--", "validation": "-"}


def side_by_side(runs: Histories, path: Path, *, title: str, targets: Mapping[str, float] | None = None) -> None:
    """Write a PNG with one panel per label: the accuracy over the epochs, training dashed and validation solid, with
    one line per seed.

    Args:
      runs: what to show; every history has at least one epoch.
      path: the file.
      title: above all panels.
      targets: label → accuracy in [0, 1] that a dotted line marks.
    """
    columns = min(_COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure = figures.figure(4.2 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, (label, histories) in zip(panels.flat, runs.items(), strict=False):
        for seed, history in enumerate(histories):
            for (split, style), color in zip(_SPLITS.items(), ("tab:blue", "tab:orange"), strict=True):
                if history[0][split]:
                    name = split if seed == 0 else None
                    values = 100 * _values(history, split, "top1")
                    axes.plot(_epochs(history), values, style, color=color, label=name, marker=".", markersize=4)
        if targets and label in targets:
            axes.axhline(100 * targets[label], color="black", linestyle=":", label="reported")
        figures.label_epochs(axes, title=figures.literal(label), ylabel="top-1 accuracy, %")
        axes.legend()
    figure.suptitle(figures.literal(title))
    figures.save(figure, path, dpi=110)


def together(runs: Histories, path: Path, *, title: str) -> None:
    """Write a PNG with the loss and the accuracy of all labels: the mean over the seeds of a label, and a band from the
    lowest to the highest of them.

    The split is validation, or training for a label without validation. Arguments as for `side_by_side`.
    """
    figure = figures.figure(12.0, 4.4)
    loss, accuracy = figure.subplots(1, 2)
    for label, histories in runs.items():
        split = "validation" if histories[0][0]["validation"] else "train"
        name = figures.literal(label if split == "validation" else f"{label} (train)")
        shortest = min(len(history) for history in histories)  # beyond it there is no mean over all seeds
        for axes, metric, factor in ((loss, "loss", 1), (accuracy, "top1", 100)):
            values = factor * np.stack([_values(history, split, metric)[:shortest] for history in histories])
            epochs = _epochs(histories[0])[:shortest]
            (line,) = axes.plot(epochs, values.mean(0), label=name, marker=".", markersize=4)
            if len(histories) > 1:
                axes.fill_between(epochs, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    figures.label_epochs(loss, title="validation loss", ylabel="loss")
    figures.label_epochs(accuracy, title="validation accuracy", ylabel="top-1 accuracy, %")
    accuracy.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(figures.literal(title))
    figures.save(figure, path, dpi=110)


def _epochs(history: Sequence[Record]) -> list[int]:
    return [record["epoch"] + 1 for record in history]


def _values(history: Sequence[Record], split: str, metric: str) -> Float[np.ndarray, "epochs"]:
    return np.array([record[split][metric] for record in history], np.float64)
