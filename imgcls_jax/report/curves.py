"""Draw the loss, the accuracy and the learning rate of a run over its epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.display import figures
from imgcls_jax.record.history import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = {"train": ("--", "tab:blue"), "validation": ("-", "tab:orange")}


def draw(history: Sequence[Record], *, title: str, best: int | None = None) -> "Figure":
    """Draw the curves as a matplotlib figure, which a notebook shows.

    Args:
      history: one record per epoch, at least one.
      title: above the panels.
      best: index of the best epoch in `history`, which is marked with its accuracy; None: nothing is marked.
    """
    figure = figures.figure(11.0, 4.0)
    loss, accuracy, rate = figure.subplots(1, 3, width_ratios=(3, 3, 1.4))
    epochs = [record["epoch"] + 1 for record in history]
    second, percents = _second(history[0])
    for split, (style, color) in _STYLES.items():
        for axes, metric, factor in ((loss, "loss", 1), (accuracy, second, percents)):
            if metric not in (history[0][split] or {}):
                continue
            values = [factor * record[split][metric] for record in history]
            axes.plot(epochs, values, style, color=color, label=split, marker=".", markersize=4)
    rate.plot(epochs, [record["learning_rate"] for record in history], color="tab:green", marker=".", markersize=4)
    figures.label_epochs(loss, title="loss", ylabel="loss")
    of_classes = second == "top1"
    figures.label_epochs(
        accuracy, title="accuracy" if of_classes else second, ylabel="top-1 accuracy, %" if of_classes else second
    )
    figures.label_epochs(rate, title="", ylabel="learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    rate.tick_params(labelsize=8)
    if best is not None:
        _mark(loss, accuracy, history[best])
    loss.legend()
    if accuracy.lines:
        accuracy.legend()
    figure.suptitle(figures.literal(title))
    figures.use_fonts(figure)
    return figure


def _second(record: Record) -> tuple[str, int]:
    """The figure that is drawn beside the loss, and the factor that it is drawn with: of other tasks than one class per
    image the first of the validation images."""
    if "top1" in record["train"]:
        return "top1", 100
    return next((name for name in record["validation"] or {} if name not in ("loss", "count")), ""), 1


def _mark(loss: "Axes", accuracy: "Axes", record: Record) -> None:
    """Mark the best epoch: a line through both panels, a ring around its accuracy, and that as a number."""
    split = "validation" if record["validation"] else "train"
    metric, factor = _second(record)
    epoch, value = record["epoch"] + 1, factor * record[split][metric]
    for axes in (loss, accuracy):
        axes.axvline(epoch, color="gray", linestyle=":", linewidth=1, zorder=0)
    label = f"best: epoch {epoch}, " + (f"{value:.2f} %" if metric == "top1" else f"{value:.4g}")
    accuracy.plot(epoch, value, "o", color=_STYLES[split][1], markersize=9, markerfacecolor="none", label=label)


def plot(history: Sequence[Record], path: Path, *, title: str, best: int | None = None) -> None:
    """Write the curves as a PNG to `path`; arguments as for `draw`."""
    figures.save(draw(history, title=title, best=best), path, dpi=120)
