"""Write what a search has found.

search.md     the best settings, how much each setting mattered, and a table of all trials
trials.csv    a row per trial
search.png    the metric trial by trial, and against each setting
best.py       the config of the best trial
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from imgcls_jax import config as c
from imgcls_jax.config import registry
from imgcls_jax.config import write as configs
from imgcls_jax.disk import outputs
from imgcls_jax.display import figures, tables
from imgcls_jax.tune.search import spaces
from imgcls_jax.tune.search.spaces import Dimension
from imgcls_jax.tune.search.study import PROBLEM, STARTS, SharedStudy

_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "under way", "WAITING": "waiting"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search has come to."""

    best: FrozenTrial | None
    """None where no trial is finished."""
    settings: dict[str, Any]
    """Of the best trial, by path."""
    config: c.Config | None
    """Of the best trial."""
    text: str
    """search.md."""


def write(shared: SharedStudy, config: c.Config) -> Outcome:
    """Write all files into the folder of the search.

    Args:
      shared: the study.
      config: what every trial begins with.
    """
    trials, folder, metric = shared.trials(), shared.folder, config.best.metric
    _write_table(folder / "trials.csv", trials, shared.space, metric)
    found: FrozenTrial | None = None
    settings: dict[str, Any] = {}
    best_config: c.Config | None = None
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        found = shared.study.best_trial
        settings = {dimension.path: found.params[dimension.path] for dimension in shared.space}
        best_config = spaces.put(config, {dimension: settings[dimension.path] for dimension in shared.space})
        # A component that is not of this package has no name in a file that we could write.
        if not registry.foreign_modules(best_config):
            doc = f"The best of {len(trials)} trials of a search: {metric} {found.value:.4f} in trial {found.number}."
            comments = {dimension.path: f"searched: {str(dimension).partition('=')[2]}" for dimension in shared.space}
            outputs.write_text(folder / "best.py", configs.python(best_config, doc, comments))
    _plot(folder / "search.png", shared, trials, config)
    text = _page(shared, trials, config, found, settings)
    outputs.write_text(folder / "search.md", text)
    return Outcome(found, settings, best_config, text)


def shown(value: Any) -> str:
    """Return a value of a setting in a few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def problem(trial: FrozenTrial) -> str:
    """Return why a trial failed or diverged, or an empty text."""
    return trial.user_attrs.get(PROBLEM, "") if trial.state in (TrialState.FAIL, TrialState.PRUNED) else ""


def _state(trial: FrozenTrial) -> str:
    return "diverged" if trial.state == TrialState.PRUNED and problem(trial) else _STATES[trial.state.name]


def _write_table(path: Path, trials: Sequence[FrozenTrial], space: Sequence[Dimension], metric: str) -> None:
    names = [dimension.path for dimension in space]
    rows = []
    for trial in trials:
        seconds = f"{trial.duration.total_seconds():.1f}" if trial.duration else ""
        settings = [trial.params.get(name, "") for name in names]
        value = "" if trial.value is None else trial.value
        epochs = len(trial.intermediate_values)
        starts = trial.user_attrs.get(STARTS, 0)
        rows.append([trial.number, _state(trial), value, epochs, starts, seconds, *settings, problem(trial)])
    outputs.write_csv(path, ["trial", "state", metric, "epochs", "starts", "seconds", *names, "problem"], rows)


def _page(
    shared: SharedStudy,
    trials: Sequence[FrozenTrial],
    config: c.Config,
    found: FrozenTrial | None,
    settings: dict[str, Any],
) -> str:
    counts = [f"{sum(_state(t) == state for t in trials)} {state}" for state in dict.fromkeys(map(_state, trials))]
    lines = [f"# Search of {config.name}\n", f"{len(trials)} trials: {', '.join(counts)}.\n"]
    if found is not None:
        lines.append(f"Best {config.best.metric}: {found.value:.4f}, trial {found.number}:\n")
        lines.append(tables.markdown(("setting", "value"), [(path, shown(value)) for path, value in settings.items()]))
    if importances := _importances(shared.study, trials):
        lines.append(
            "Importance of each setting for getting among the best trials (PED-ANOVA); of few trials, a hint:\n"
        )
        lines.append(tables.markdown(("setting", "share"), [(p, f"{share:.2f}") for p, share in importances.items()]))
    header = ("trial", "state", config.best.metric, "epochs", *(dimension.path for dimension in shared.space))
    rows = [
        (
            str(trial.number),
            _state(trial),
            "" if trial.value is None else f"{trial.value:.4f}",
            str(len(trial.intermediate_values)),
            *(shown(trial.params.get(dimension.path, "")) for dimension in shared.space),
        )
        for trial in trials
    ]
    lines.append(tables.markdown(header, rows, left=2))
    lines += [f"trial {trial.number}: {problem(trial)}\n" for trial in trials if problem(trial)]
    return "\n".join([*lines, "![trials](search.png)\n"])


def _importances(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """The share of each setting in the metric; nothing where that says nothing."""
    values = {trial.value for trial in trials if trial.state == TrialState.COMPLETE}
    if len(values) < 4:
        return {}
    try:
        return optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):  # such as of a setting that has the same value in all trials
        return {}


def _plot(path: Path, shared: SharedStudy, trials: Sequence[FrozenTrial], config: c.Config) -> None:
    """Draw the metric trial by trial, with the best so far, and against each setting."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.value is not None]
    figure = figures.figure(4.0 * (1 + len(shared.space)), 3.6)
    history, *slices = figure.subplots(1, 1 + len(shared.space), sharey=True, squeeze=False)[0]
    better = max if shared.study.direction == optuna.study.StudyDirection.MAXIMIZE else min
    reached: list[float] = []
    for trial in complete:
        assert trial.value is not None
        reached.append(better(reached[-1], trial.value) if reached else trial.value)
    history.step([trial.number for trial in complete], reached, where="post", color="tab:orange", label="best so far")
    for kind, marker, label in ((complete, "o", "finished"), (pruned, "x", "pruned")):
        history.plot([t.number for t in kind], [t.value for t in kind], marker, color="tab:blue", label=label)
    history.set(
        title=figures.literal(f"{config.name}: {len(trials)} trials"), xlabel="trial", ylabel=config.best.metric
    )
    history.legend()
    for axes, dimension in zip(slices, shared.space, strict=True):
        for kind, marker in ((complete, "o"), (pruned, "x")):
            values = [t.params[dimension.path] for t in kind]
            places = [dimension.choices.index(v) for v in values] if dimension.limits is None else values
            axes.plot(places, [t.value for t in kind], marker, color="tab:blue")
        if dimension.limits is None:
            axes.set_xticks(range(len(dimension.choices)), [figures.literal(choice) for choice in dimension.choices])
        elif dimension.kind in ("log", "logint"):
            axes.set_xscale("log")
        axes.set(xlabel=figures.literal(dimension.path))
    for axes in (history, *slices):
        axes.grid(alpha=0.3)
    figures.save(figure, path, dpi=120)
