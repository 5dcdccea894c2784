"""Write the results of an ablation: ablation.json, and the same as Markdown, LaTeX and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax.disk import outputs
from imgcls_jax.display import figures, tables
from imgcls_jax.record.json_files import write_json
from imgcls_jax.tune.ablation import factors as marked
from imgcls_jax.tune.ablation import statistics
from imgcls_jax.tune.ablation.factors import Cell
from imgcls_jax.tune.ablation.repeats import Outcome
from imgcls_jax.tune.ablation.statistics import Estimate


def write(
    workdir: Path, title: str, design: str, factors: Sequence[str], outcomes: Mapping[Cell, Mapping[int, Outcome]]
) -> dict[str, Any]:
    """Write all four files; return the content of ablation.json.

    The score is the test accuracy of the best checkpoint; where there is no test split, its validation accuracy.
    """
    split = _split(outcomes)
    scores = {
        cell: {seed: run.result[split]["top1"] for seed, run in runs.items() if run.result is not None}
        for cell, runs in outcomes.items()
    }
    estimates = {cell: statistics.estimate(list(values.values())) for cell, values in scores.items()}
    differences = {cell: statistics.difference(values, scores[()]) for cell, values in scores.items() if cell}
    effects = {f: statistics.main_effect(scores, f) for f in factors} if design == "factorial" else {}
    document = {
        "ablation": title,
        "design": design,
        "factors": list(factors),
        "score": f"{split} top-1 accuracy",
        "cells": {
            marked.name(cell): {
                "on": list(cell),
                "scores": {str(seed): score for seed, score in values.items()},
                "score": _document(estimates[cell]),
                "difference": _document(differences.get(cell)),
                "problems": {str(seed): run.problem for seed, run in outcomes[cell].items() if run.problem},
            }
            for cell, values in scores.items()
        },
        "main_effects": {factor: _document(effect) for factor, effect in effects.items()},
    }
    write_json(workdir / "ablation.json", document)

    header = ("cell", "seeds", f"{split} accuracy, %", "difference to baseline", "95 % interval")
    rows = [
        (marked.name(cell), _count(estimates[cell]), _score(estimates[cell]), *_change(differences.get(cell)))
        for cell in scores
    ]
    effect_header = ("factor", "seeds", "main effect", "95 % interval")
    effect_rows = [(factor, _count(effect), *_change(effect)) for factor, effect in effects.items()]
    notes = _notes(outcomes, estimates, effects)
    text = [f"# Ablation of {title}\n", tables.markdown(header, rows)]
    tex = [tables.latex(header, rows)]
    if effects:
        text += ["Main effects: with the factor less without it, averaged over all combinations of the others.\n"]
        text += [tables.markdown(effect_header, effect_rows)]
        tex += [tables.latex(effect_header, effect_rows)]
    text += [f"{note}\n" for note in notes]
    text += ["![scores](ablation.png)\n"]
    outputs.write_text(workdir / "ablation.md", "\n".join(text))
    outputs.write_text(workdir / "ablation.tex", "\n".join(tex))
    _plot(workdir / "ablation.png", title, f"{split} accuracy, %", scores, estimates)
    return document


def _split(outcomes: Mapping[Cell, Mapping[int, Outcome]]) -> str:
    results = [run.result for runs in outcomes.values() for run in runs.values() if run.result is not None]
    return "test" if all(result["test"] for result in results) else "validation"


def _document(estimate: Estimate | None) -> dict[str, Any] | None:
    return estimate.document() if estimate else None


def _count(estimate: Estimate | None) -> str:
    return str(estimate.count if estimate else 0)


def _score(estimate: Estimate | None) -> str:
    if estimate is None:
        return "failed"
    spread = "" if estimate.std is None else f" ± {100 * estimate.std:.2f}"
    return f"{100 * estimate.mean:.2f}{spread}"


def _change(estimate: Estimate | None) -> tuple[str, str]:
    """Word a difference and its interval, in percentage points."""
    if estimate is None:
        return "", ""
    if estimate.interval is None:
        return _signed(estimate.mean), "none: one seed"
    low, high = estimate.interval
    return _signed(estimate.mean), f"{_signed(low)} … {_signed(high)}"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


def _notes(
    outcomes: Mapping[Cell, Mapping[int, Outcome]],
    estimates: Mapping[Cell, Estimate | None],
    effects: Mapping[str, Estimate | None],
) -> list[str]:
    notes = ["± is the standard deviation between seeds; differences are in percentage points, seed by seed."]
    if max(estimate.count for estimate in estimates.values() if estimate) == 1:
        notes.append("With one seed there is no confidence interval: give --seeds 3 or more.")
    else:
        notes.append("Intervals are Student's t over the paired differences; they are not corrected for many cells.")
    if any(effect is None for effect in effects.values()):
        notes.append("There are no main effects: no seed finished all cells.")
    for cell, runs in outcomes.items():
        notes += [f"{marked.name(cell)}, seed {seed}: {run.problem}" for seed, run in runs.items() if run.problem]
    return notes


def _plot(
    path: Path,
    title: str,
    ylabel: str,
    scores: Mapping[Cell, Mapping[int, float]],
    estimates: Mapping[Cell, Estimate | None],
) -> None:
    """Draw the mean of every cell with its confidence interval, and its seeds as dots."""
    figure = figures.figure(max(5.0, 0.9 * len(scores) + 2), 4.2)
    axes = figure.subplots()
    for x, cell in enumerate(scores):
        estimate = estimates[cell]
        if estimate is None:
            continue
        if estimate.interval:
            low, high = estimate.interval
            axes.plot([x, x], [100 * low, 100 * high], color="tab:blue", linewidth=2)
        axes.plot(x, 100 * estimate.mean, "o", color="tab:blue", markersize=8)
        axes.plot([x] * estimate.count, [100 * score for score in scores[cell].values()], ".", color="black", alpha=0.6)
    baseline = estimates[()]
    if baseline:
        axes.axhline(100 * baseline.mean, color="gray", linestyle=":")
    names = [figures.literal(marked.name(cell)) for cell in scores]
    axes.set_xticks(range(len(scores)), names, rotation=30, ha="right")
    axes.set(title=figures.literal(f"{title}: mean, 95 % interval, seeds"), ylabel=ylabel)
    axes.grid(axis="y", alpha=0.3)
    figures.save(figure, path, dpi=120)
