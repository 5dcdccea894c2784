"""Evaluate a trained run, or weights from elsewhere, exactly as training would.

    python -m imgcls_jax.evaluate --workdir DIR [--views KIND]
    python -m imgcls_jax.evaluate --config FILE.py[:VARIANT] --weights FILE|NAME [--workdir DIR] [--views KIND]

The first form evaluates the best checkpoint of a run; the second one a torch or safetensors file, or a published
checkpoint, with the data, preprocessing and model of a config. Both print the metrics and write DIR/evaluation.json
(the second form DIR/result.json; without --workdir it only prints).

Without --views the validation images are seen at their centre and the test images as `test_views` says, as at the end
of training; with it, both are seen in that way: "centre", "flip", "flip_shift", "five_crop" or "ten_crop".
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from imgcls_jax import config as c
from imgcls_jax import data, flags, runtime
from imgcls_jax import mesh as meshes
from imgcls_jax.config import files
from imgcls_jax.config.tree import Views
from imgcls_jax.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.report import summary
from imgcls_jax.run import Run
from imgcls_jax.validate import validate
from imgcls_jax.workdir import write_json


def evaluate(config: c.Config, *, views: Views | Literal["centre"] | None = None) -> dict[str, Any]:
    """The metrics of the validation and test splits for the weights that `config.transfer.init_from` names.

    Args:
      config: the experiment.
      views: "centre" or a kind of `Config.test_views`, for both splits; None: what training does.

    Returns:
      {"validation": {…} or None, "test": {"top1", "top5", "loss", "count", "views"} or None}.
    """
    if views:
        config = dataclasses.replace(config, test_views=None if views == "centre" else views)
    mesh = meshes.make(config.mesh)
    validate(config, mesh.size)
    run = Run(config, data.load(config.data), mesh)
    for note in run.notes:
        Console().line(f"note: {note}")
    initial = run.plan.merge(*run.model.create(jax.random.key(0)))
    variables = meshes.put(initial, meshes.replicated(mesh))
    splits = {
        "validation": (run.dataset.validation, config.test_views if views else None),
        "test": (run.dataset.test, config.test_views),
    }
    result: dict[str, Any] = {}
    for name, (split, kind) in splits.items():
        evaluation = run.evaluation(split, kind)
        result[name] = evaluation(variables) | {"views": kind or "centre"} if evaluation else None
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="a run's folder; with --weights, where result.json goes")
    parser.add_argument("--weights", help="torch or safetensors file, or a published name (docs/models.md)")
    parser.add_argument("--views", choices=("centre", *get_args(Views)), help="average several views of each image")
    options, config = flags.parse(parser, arguments, config_required=False)
    runtime.setup()
    if options.weights:
        if config is None:
            raise UserError("--weights needs --config: it says which model the weights are for, and which data")
        name = "result.json"
        transfer = c.Transfer(init_from=options.weights)
    elif options.workdir:
        if config is not None:
            raise UserError("--workdir brings its own config: leave --config out, or give --weights too")
        name = "evaluation.json"
        config = files.restore(options.workdir / "config.json")
        transfer = c.Transfer(init_from=str(options.workdir))
    else:
        raise UserError("give --workdir DIR of a run, or --config with --weights")
    result = evaluate(dataclasses.replace(config, transfer=transfer), views=options.views)
    if options.workdir:
        options.workdir.mkdir(parents=True, exist_ok=True)
        write_json(options.workdir / name, result)
    rows = {
        split if figures["views"] == "centre" else f"{split}, {figures['views']} averaged": summary.metrics(figures)
        for split, figures in result.items()
        if figures
    }
    Console().table("evaluation", rows)


if __name__ == "__main__":
    flags.run(main)
