"""Cross-validation: train a config once for each fold of its training images, and report the mean accuracy."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.disk import outputs
from imgcls_jax.display import tables
from imgcls_jax.display.console import percent
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import predictions, tasks
from imgcls_jax.record.json_files import write_json
from imgcls_jax.tune.ablation import repeats, statistics


def of_fold(config: c.Config, which: int, count: int) -> c.Config:
    """Return the config that trains on all folds but one, which validates it."""
    divided = dataclasses.replace(config.data, fold=(which, count), validation_share=0.0)
    return dataclasses.replace(config, name=f"{config.name}_fold{which}", data=divided)


def cross_validate(
    config: c.Config,
    workdir: Path,
    *,
    folds: int = 5,
    arrays: Mapping[str, np.ndarray] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Train every fold, each in a folder of its own, and write WORKDIR/cv.json and cv.md.

    A fold's accuracy is that of the last epoch on the images held out, which chose nothing in it; the best epoch's
    would be a little too good. Called again, it goes on where it stopped.

    Where the runs keep their predictions and none failed, WORKDIR/predictions_train.npz has those of every image by the
    run that it was held out of, at its best epoch.

    Args:
      config: the training; its validation images are the folds.
      workdir: the folder of all runs.
      folds: number of folds, 2 or more. Groups (`Data.group_pattern`, `Table.group`) are never divided.
      arrays: the images, where the source is `Arrays()` without a path.
      command: how the user called it.

    Returns:
      What is written to cv.json.

    Raises:
      UserError: the data cannot be divided so, or not one fold could be trained.
    """
    tasks.need_classes(config.loss.task, "imgcls tune cv")
    # What is wrong with the data is said once, before any training.
    data.load(of_fold(config, 0, folds).data, arrays=arrays)
    outcomes = [
        repeats.train(of_fold(config, k, folds), workdir / f"fold{k}", arrays=arrays, command=command)
        for k in range(folds)
    ]
    results = {k: outcome.result for k, outcome in enumerate(outcomes) if outcome.result is not None}
    problems = {k: outcome.problem for k, outcome in enumerate(outcomes) if outcome.problem}
    if not results:
        raise UserError(f"not one of {folds} folds could be trained: {problems[0]}")
    last = {k: result["history"][-1]["validation"] for k, result in results.items()}
    estimate = statistics.estimate([figures["top1"] for figures in last.values()])
    assert estimate is not None
    document = {
        "config": config.name,
        "score": "validation top-1 accuracy of the last epoch",
        "folds": {str(k): {name: figures[name] for name in ("top1", "loss", "count")} for k, figures in last.items()},
        "mean": estimate.mean,
        "std": estimate.std,
        "interval_95": estimate.interval,
        "problems": {str(k): problem for k, problem in problems.items()},
    }
    outputs.make_folder(workdir)
    write_json(workdir / "cv.json", document)
    joined = predictions.path_of(workdir, "train")
    joined.unlink(missing_ok=True)
    kept = [predictions.path_of(outcomes[k].workdir, "validation") for k in results]
    if not problems and all(path.exists() for path in kept):
        predictions.save(predictions.out_of_fold([predictions.load(path) for path in kept]), joined)
    outputs.write_text(workdir / "cv.md", _page(config.name, last, estimate, problems, folds))
    return document


def _page(
    name: str,
    last: Mapping[int, Mapping[str, Any]],
    estimate: statistics.Estimate,
    problems: Mapping[int, str | None],
    folds: int,
) -> str:
    rows = [(str(k), percent(f["top1"]), f"{f['loss']:.4f}", str(f["count"])) for k, f in last.items()]
    spread = ""
    if estimate.interval is not None:
        half = 100 * (estimate.interval[1] - estimate.interval[0]) / 2
        spread = f" ± {half:.1f} (95 % interval by Student's t; folds share training images, so that it is approximate)"
    lines = [
        f"# Cross-validation of {name}, {folds} folds\n",
        tables.markdown(("fold", "top-1 of the last epoch", "loss", "images"), rows),
        f"mean {percent(estimate.mean)}{spread}\n",
        *(f"fold {k} failed: {problem}\n" for k, problem in problems.items()),
    ]
    return "\n".join(lines)
