"""The sections of a page on how runs were made: their configs, environments, and what differs between them."""

from collections.abc import Sequence
from typing import Any

from imgcls_jax.config.tree import leaves, to_tree
from imgcls_jax.display.console import percent
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import figures
from imgcls_jax.evaluation.paired import Comparison
from imgcls_jax.record.json_files import read_json
from imgcls_jax.report import write
from imgcls_jax.report.html import training
from imgcls_jax.report.html.material import Material
from imgcls_jax.report.record import RunRecord

_NOT_SET = "(not set)"


def configs(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return every setting of all runs: rows of a path, a value per run, and whether these differ."""
    trees = [{path: _text(value) for path, value in leaves(to_tree(run.config))} for run in runs]
    return _rows(trees)


def environments(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what each run was last started on and with, as rows; what is not noted is "(not set)"."""
    noted = [_environment(run) for run in runs]
    if not any(noted):
        raise UserError("none of the runs has an environment.json")
    return _rows(noted)


def _rows(columns: Sequence[dict[str, str]]) -> dict[str, Any]:
    rows = []
    for path in dict.fromkeys(path for column in columns for path in column):
        values = [column.get(path, _NOT_SET) for column in columns]
        rows.append({"path": path, "values": values, "differs": len(set(values)) > 1})
    return {"rows": rows, "differing": sum(row["differs"] for row in rows)}


def _environment(run: RunRecord) -> dict[str, str]:
    path = run.workdir / "environment.json"
    try:
        starts = read_json(path) if path.exists() else []
        last = dict(starts[-1]) if starts else {}
    except (UserError, TypeError, ValueError):
        return {}
    if not last:
        return {}
    packages, variables = last.pop("packages", {}), last.pop("environment", {})
    found = {name: _text(value) for name, value in last.items()}
    found["starts"] = str(len(starts))
    found |= {f"package {name}": str(value) for name, value in packages.items()}
    return found | {f"${name}": str(value) for name, value in variables.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def headline(run: Material) -> list[tuple[str, str, str]]:
    """Return what a run came to: a name, a figure, and what belongs to it."""
    record, found = run.run, []
    result = record.result
    for split in ("test", "validation"):
        values = result[split] if result else None  # type: ignore[literal-required]
        if not values:
            continue
        name = next((name for name in values if name in ("top1",)), None)
        if name is None:
            name = next((name for name in values if name not in ("loss", "count")), "loss")
        shown = percent(values[name]) if name == "top1" else f"{values[name]:.4g}"
        count = f"{int(values['count']):,} images" if "count" in values else ""
        found.append((f"{split} {training.title(name)}", shown, _interval(run, split) or count))
    if result:
        found.append(("best epoch", f"{result['best_epoch'] + 1}", f"of {result['epochs']}"))
    else:
        found.append(("unfinished", f"{len(record.history)}", f"of {record.config.epochs} epochs"))
    try:
        trained = run.trained
        found.append(("parameters", f"{trained.num_params:,}", f"{trained.num_trained:,} train"))
    except UserError:
        pass
    found.append(("time", training.spent(record), f"{record.history[-1]['images_per_second']:,.0f} images/s"))
    return found


def _interval(run: Material, split: str) -> str:
    """The interval of the accuracy, where these are the predictions that the page shows."""
    try:
        if run.split_name != split or run.run.result is None:
            return ""
        accuracy = run.figures["overall"]["accuracy"]
    except UserError:
        return ""
    same = abs((accuracy["value"] or 0) - run.run.result[split]["top1"]) < 1e-6  # type: ignore[literal-required, index]
    return figures.interval("accuracy", accuracy["low"], accuracy["high"]) if same else ""


def comparison(runs: Sequence[Material]) -> dict[str, Any]:
    """Return a row per run, charts of all, and how each further run differs from the first one."""
    rows = [(run.run.label, [*headline(run)]) for run in runs]
    titles = list(dict.fromkeys(name for _, found in rows for name, *_ in found))
    table = []
    for label, found in rows:
        by_name = {name: (value, detail) for name, value, detail in found}
        table.append((label, [by_name.get(title, ("–", "")) for title in titles]))
    records = [run.run for run in runs]
    differences: list[dict[str, Any]] = []
    used = ""
    if runs[0].asked != "none":
        used, pairs = write.compared(records, runs[0].asked)
        differences = [_difference(*pair) for pair in pairs]
    return {
        "titles": titles,
        "table": table,
        "charts": training.together(records),
        "first": runs[0].run.label,
        "differences": differences,
        "split": used,
    }


def _difference(label: str, found: Comparison | UserError, images: int) -> dict[str, Any]:
    if isinstance(found, UserError):
        return {"label": label, "error": str(found)}
    return {
        "label": label,
        "error": "",
        "images": images,
        "rows": figures.differences(found),
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p": f"{found.p_value:.3g}",
    }
