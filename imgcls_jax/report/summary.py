"""The words and tables around a run: what will be trained, how an epoch went, what came out."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from imgcls_jax import feed
from imgcls_jax.console import Console, Speed, duration, percent, size
from imgcls_jax.metrics import Metrics
from imgcls_jax.run import Run
from imgcls_jax.runtime import Runtime
from imgcls_jax.state import TrainState
from imgcls_jax.writers import Record

# Classes whose counts the data table lists one by one.
_MOST_CLASSES = 12


def start(
    console: Console,
    run: Run,
    train_state: TrainState,
    step: jax.stages.Compiled | None,
    workdir: Path,
    runtime: Runtime | None,
) -> None:
    """Model, data, devices, precision and memory; the model's table also goes to WORKDIR/parameters.txt."""
    table = run.plan.table()
    if jax.process_index() == 0:
        (workdir / "parameters.txt").write_text(table + "\n")
    console.line(table)
    for note in run.notes:
        console.line(f"note: {note}")
    console.table("data", _data(run))
    console.table("run", _devices(run, train_state, step) | _runtime(runtime))


def _data(run: Run) -> dict[str, str]:
    dataset = run.dataset
    names = dataset.class_names
    rows = {}
    for split in dataset.splits:
        counts = split.class_counts(len(names))
        if len(names) <= _MOST_CLASSES:
            per_class = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        else:
            per_class = f"{len(names)} classes of {counts.min()} to {counts.max()}"
        rows[split.name] = f"{len(split):,} images: {per_class}"
    rows["split hash"] = dataset.split_hash
    if dataset.bad:
        rows["set aside"] = f"{len(dataset.bad)} unreadable images, listed in bad_images.csv"
    if run.resident:
        rows["feeding"] = "resident: all images on the device"
    else:
        rows["feeding"] = f"streamed from the host; training images {dataset.train.storage}"
    return rows


def _devices(run: Run, train_state: TrainState, step: jax.stages.Compiled | None) -> dict[str, str]:
    devices = list(run.mesh.devices.flat)
    shape = " × ".join(f"{name} {count}" for name, count in run.mesh.shape.items())
    rows = {
        "devices": f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform}), mesh {shape}",
        "precision": run.config.precision,
        "steps": f"{run.steps_per_epoch} an epoch of {run.config.batch_size} images, {run.config.epochs} epochs",
        "optimiser": f"state of {size(_bytes(train_state.opt_state))}, parameters {size(_bytes(train_state.params))}",
    }
    decayed = run.decayed()
    if any(decayed.values()):
        rows["weight decay"] = f"on {sum(decayed.values())} of {len(decayed)} trained tensors (kernels unless told)"
    analysis = step.memory_analysis() if step else None
    if analysis is not None:
        need = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
        rows["memory"] = (
            f"about {size(need)} a device (state and data {size(analysis.argument_size_in_bytes)}, "
            f"activations {size(analysis.temp_size_in_bytes)}) of {size(feed.device_memory(run.mesh))}"
        )
    return rows


def _runtime(runtime: Runtime | None) -> dict[str, str]:
    if runtime is None:
        return {}
    return {"compile cache": runtime.compile_cache, "XLA flags": runtime.xla_flags or "none"}


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def progress(run: Run, so_far: Metrics, epoch: int, step: int, rates: np.ndarray, speed: Speed) -> str:
    """The figures beside the progress bar."""
    now = so_far.result()
    rate = speed.images_per_second(step)
    left = ((run.config.epochs - epoch) * run.steps_per_epoch - step) * run.config.batch_size / max(rate, 1e-9)
    text = f"loss {now['loss']:.3f} acc {percent(now['top1'])} lr {rates[step - 1]:.1e} {rate:,.0f} img/s"
    text += f" {duration(left)} left"
    if not run.resident:
        text += f" waiting for data {percent(speed.share(run.training.waited))}"
    return text


def epoch(record: Record, epochs: int) -> str:
    """One epoch in one line."""
    train, validation = record["train"], record["validation"]
    text = f"epoch {record['epoch'] + 1:>{len(str(epochs))}}/{epochs}"
    text += f"  train loss {train['loss']:.4f} acc {percent(train['top1'])}"
    if validation:
        text += f"  validation loss {validation['loss']:.4f} acc {percent(validation['top1'])}"
    text += (
        f"  lr {record['learning_rate']:.2e}  {record['images_per_second']:,.0f} img/s  {duration(record['seconds'])}"
    )
    if "skipped_steps" in record:
        text += f"  loss scale {record['loss_scale']:g}, {record['skipped_steps']} steps skipped"
    return text


def metrics(figures: dict[str, Any]) -> str:
    """The metrics of a split in words."""
    return (
        f"top-1 {percent(figures['top1'])}, top-5 {percent(figures['top5'])}, loss {figures['loss']:.4f} "
        f"({figures['count']:,} images)"
    )


def finish(console: Console, result: dict[str, Any], workdir: Path, command: str | None) -> None:
    """The final figures, where the files are, and how to go on."""
    rows = {}
    for split in ("validation", "test"):
        if result[split]:
            rows[split] = metrics(result[split])
    rows["best epoch"] = f"{result['best_epoch'] + 1} of {result['epochs']}"
    rows["time"] = duration(result["seconds"])
    rows["files"] = f"{workdir}/: result.json, metrics.jsonl, curves.png, parameters.txt, checkpoints/"
    rows["run again or go on"] = command or "call train_and_evaluate with the same config and work directory"
    console.table("result", rows)
