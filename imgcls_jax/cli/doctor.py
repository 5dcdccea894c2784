"""Look for what is wrong with the data, the config and the machine, before the first step.

Each finding says what is wrong, by what it was seen, and what to do about it. The quick checks among them are made
before every training; this command makes all of them: it reads every image, compiles the step and takes a few steps.
The exit status is 1 if one of the findings is an error.

Examples:
  imgcls doctor photos
  imgcls doctor --config configs/digits_cnn.py
  imgcls doctor --config configs/digits_cnn.py --range-test --json
  imgcls doctor photos --labels runs/photos
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.display import tables
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax import config as c
    from imgcls_jax.display.console import Console
    from imgcls_jax.doctor.findings import Finding
    from imgcls_jax.evaluation.predictions import Predictions


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = flags.parser(__doc__)
    parser.add_argument("folder", nargs="?", metavar="DATA", help="folder of images, one sub-folder per class")
    parser.add_argument("--workdir", type=Path, help="where the run will be (default: runs/NAME of the config)")
    parser.add_argument("--quick", action="store_true", help="only what is also checked before each training")
    parser.add_argument("--range-test", action="store_true", help="compare the learning rate with a range test's")
    parser.add_argument(
        "--labels", type=Path, metavar="RUN", help="look for wrong labels by what a run in this folder predicted"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document, with all files concerned")
    options = parser.parse_args(arguments)
    config = flags.config_of(options) if options.config or options.overrides else None
    if (config is None) == (options.folder is None):
        raise UserError("say what to examine: imgcls doctor DATA, or imgcls doctor --config FILE.py")
    if config is None and (options.range_test or options.workdir):
        raise UserError("--range-test and --workdir need --config FILE.py")

    kept = _predictions(options.labels) if options.labels else ()

    from imgcls_jax.display.console import Console
    from imgcls_jax.doctor import data_statistics, examination
    from imgcls_jax.doctor.findings import Subject
    from imgcls_jax.training import checkup
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console(silent=options.json)
    with console.wait("reading the data") as wait:
        if config is None:
            settings = data_statistics.of_folder(options.folder, size=224, channels=3)
            subject = Subject(settings, quick=options.quick, on_progress=wait.on_progress)
        else:
            subject = Subject(config.data, config, quick=options.quick, on_progress=wait.on_progress)
            subject = dataclasses.replace(subject, workdir=options.workdir or Path("runs") / config.name)
        if kept:
            subject = dataclasses.replace(subject, predictions=kept)
        test = functools.partial(_recommended_rate, config) if config and options.range_test else None
        findings, made = checkup.checkup(subject, range_test=test)
    if options.json:
        print(json.dumps(examination.document(findings, made), indent=1))
    else:
        _show(findings, made, console)
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


def _predictions(workdir: Path) -> "tuple[Predictions, ...]":
    """What a run, a probe or a cross-validation predicted of images that it was not trained on."""
    from imgcls_jax.evaluation import predictions as keep

    if not flags.is_folder(workdir):
        flags.saved_config(workdir)  # names a run whose name is near
    found = tuple(keep.load(path) for path in keep.kept(workdir))
    if not found:
        raise UserError(f"{workdir} has no predictions: `imgcls evaluate --workdir {workdir}` keeps them")
    return found


def _recommended_rate(config: "c.Config") -> float | None:
    from imgcls_jax.tune import lr

    suggestion = lr.suggest(lr.find(config))
    return suggestion.recommended if suggestion else None


def _show(findings: Sequence["Finding"], made: Sequence[str], console: "Console") -> None:
    for finding in findings:
        console.line(f"{finding.level}: {finding.what}", style="bold red" if finding.level == "error" else "yellow")
        console.line(tables.pairs({"seen": finding.evidence, "fix": finding.fix}, width=console.width))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    console.line(f"{len(made)} checks: {errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
