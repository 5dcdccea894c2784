"""Loss, accuracy and learning rate over the epochs, as one picture."""

from pathlib import Path

from imgcls_jax.writers import Record


def plot(history: list[Record], path: Path, *, title: str) -> None:
    """Write a PNG of three panels to `path`."""
    import matplotlib  # imported late: it takes half a second

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    epochs = [record["epoch"] + 1 for record in history]
    figure, (loss, accuracy, rate) = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for split, style in (("train", "--"), ("validation", "-")):
        if history[0][split]:
            loss.plot(epochs, [record[split]["loss"] for record in history], style, label=split, marker=".")
            accuracy.plot(epochs, [100 * record[split]["top1"] for record in history], style, label=split, marker=".")
    rate.plot(epochs, [record["learning_rate"] for record in history], marker=".", color="tab:green")
    for axes, name in ((loss, "loss"), (accuracy, "top-1 accuracy, %"), (rate, "learning rate at the epoch's end")):
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    loss.legend()
    accuracy.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
