"""Train a classifier, evaluate it every epoch, and test the best epoch once: on your own images, or from a config.

DATA is a folder of images (CLASS/…, or train/CLASS/… and val/CLASS/…), a table of files and classes (.csv, .tsv,
.jsonl, .parquet), an .npz file of arrays, a folder that `datasets` of Hugging Face saved, or the name of a tfds
set. The config is chosen by looking at the images, and written with a reason for each choice to
WORKDIR/config.py. With --config FILE.py, the file says everything.

A used work directory is continued: an interrupted run goes on exactly where it stopped.

Examples:
  imgcls train photos
  imgcls train photos --csv labels.csv --budget 10m
  imgcls train --config configs/digits_cnn.py
  imgcls train --config configs/digits_cnn.py --config.epochs=5 --workdir runs/short
  imgcls train --config configs/digits_cnn.py --config.help=optim
"""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags, together
from imgcls_jax.errors import UserError, short
from imgcls_jax.training import interruption

if TYPE_CHECKING:
    from imgcls_jax.config import Config
    from imgcls_jax.display.console import Console as Display

# Flags that steer the choice of a config, and the setting that says the same in one that is given.
_STEERING = {
    "model": None,
    "epochs": "epochs",
    "size": None,
    "lr": "optim.schedule.peak",
    "csv": None,
    "budget": None,
}
_UNITS = {"h": 3600, "m": 60, "s": 1}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    with interruption.of_command():
        _check(parser, options)
        config = flags.config_of(options) if options.data is None else None

        from imgcls_jax.parallel import processes
        from imgcls_jax.training.callbacks.console import Console
        from imgcls_jax.training.callbacks.profile import Profile
        from imgcls_jax.training.loop import train
        from imgcls_jax.xla import runtime

        place = together.cluster_of(options)
        runtime.setup(several_processes=place is not None)
        processes.start(place, together.leave, timeout=options.join_timeout)
        console = Console(command=flags.typed(arguments, without=["--overwrite"]))
        workdir, overwrite = options.workdir, options.overwrite
        if config is None:
            config, workdir = _chosen(options, console.display, flags.typed(arguments))
            overwrite = False  # moved aside already
        train(
            config,
            workdir,
            callbacks=[Profile(options.profile)] if options.profile else [],
            overwrite=overwrite,
            console=console,
        )


def _parser() -> flags.Parser:
    parser = flags.parser(__doc__)
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="images to choose a config for: a folder, table, .npz or tfds name"
    )
    parser.add_argument("--csv", type=Path, metavar="TABLE", help="names the classes of the images in the folder DATA")
    parser.add_argument("--model", help='published weights to start from (docs/models.md), or "small" for none')
    parser.add_argument("--epochs", type=flags.whole(1, 1_000_000), help="passes over the training images of DATA")
    parser.add_argument(
        "--size", type=flags.whole(8, 2048), metavar="PIXELS", help="side of what the network sees of DATA"
    )
    parser.add_argument("--lr", type=flags.number(0, exclusive=True), help="greatest learning rate, for DATA")
    parser.add_argument("--budget", type=_seconds, metavar="TIME", help="as many epochs as fit: 10m, 1h30m")
    parser.add_argument("--workdir", type=Path, help="folder of the run (default: runs/NAME of the config)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start afresh in a used work directory, after moving the old one aside (nothing is deleted)",
    )
    parser.add_argument(
        "--profile",
        type=flags.whole(1),
        nargs="?",
        const=10,
        metavar="STEPS",
        help="record STEPS steps (default: 10) into WORKDIR/profile, for TensorBoard or Perfetto",
    )
    together.add_arguments(parser)
    return parser


def _check(parser: flags.Parser, options: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    if options.data is None:
        for name, setting in _STEERING.items():
            if (value := getattr(options, name)) is None:
                continue
            if setting:
                raise UserError(f"--{name} is a setting of the config: write --config.{setting}={value:g}")
            raise UserError(f"--{name} is for images without a config: give DATA, such as a folder of images")
        if options.config is None:
            raise UserError(
                "--config is missing: give a config file, such as --config configs/digits_cnn.py, or DATA, such as the "
                "folder of your images"
            )
    elif options.config is not None:
        raise UserError(f"DATA ({short(options.data)}) and --config were given: the config says where its images are")
    elif not options.data.strip():
        raise UserError('DATA is empty: was it written with a variable that is not set? "." is the current folder')
    elif re.search(r"\.py(:.*)?$", options.data) or flags.is_file(Path(options.data) / "config.json"):
        parser.refuse_word(options.data)
    if options.model is not None and not options.model.strip():
        raise UserError('--model is empty: was it written with a variable that is not set? "small" is none')
    if options.budget and options.epochs:
        raise UserError("--budget and --epochs both say how long to train: leave one out")


def _chosen(options: argparse.Namespace, display: "Display", command: str) -> tuple["Config", Path]:
    """Choose the config of a run on DATA, or take that of the run which is there; record it in the work directory."""
    from imgcls_jax.config import io
    from imgcls_jax.data.bad_rows import BadRows
    from imgcls_jax.parallel import mesh as meshes
    from imgcls_jax.tune import suggest
    from imgcls_jax.tune.suggest import budget, record

    if meshes.is_multi_process():
        raise UserError(
            "several processes cannot choose a config together: run this in one with --epochs 1, and then all of them "
            "with --config WORKDIR/config.py"
        )
    with display.wait("opening the data") as wait:
        source = suggest.source_of(options.data, options.csv, on_progress=wait.on_progress)
    workdir = options.workdir or Path("runs") / suggest.name_of(source)
    record.refuse_own_data(workdir, options.data)
    before = None if options.overwrite else record.recorded(workdir)
    if before is not None:
        record.refuse_other_data(workdir, before, source)
        if not options.overrides and all(getattr(options, name) is None for name in _STEERING):
            display.line(f"going on with {workdir / record.FILE}")
            record.begin(workdir, before, None, overwrite=False)
            return before, workdir
    with display.wait("looking at the images") as wait:
        try:
            seen = suggest.look(source, on_progress=wait.on_progress)
        except BadRows as error:
            raise UserError(error.listed_in(workdir)) from error
        suggestion = suggest.suggest(
            seen, model=options.model, epochs=options.epochs, size=options.size, learning_rate=options.lr
        )
        config, reasons = io.override(suggestion.config, options.overrides), dict(suggestion.reasons)
        flags.describe_if_asked(config, options)
        reasons |= {override.partition("=")[0]: "as asked" for override in options.overrides}
        if options.budget and before is not None:
            config = dataclasses.replace(config, epochs=before.epochs)
            reasons["epochs"] = "as many as were chosen for the budget when the run began"
        elif options.budget:
            config, reasons["epochs"] = budget.fit(config, options.budget, on_progress=wait.on_progress)
    suggestion = dataclasses.replace(suggestion, config=config, reasons=reasons)
    said = record.begin(workdir, config, suggestion.python(command), overwrite=options.overwrite)
    display.table("seen", seen.table)
    display.table("chosen", suggestion.table | {"written to": f"{workdir / record.FILE}"})
    if said:
        display.table("note", {"": said})
    return config, workdir


def _seconds(text: str) -> float:
    """Read a time such as 10m, 90s or 1h30m."""
    found = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", text)
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True)) if found else 0
    )
    if not seconds:
        raise argparse.ArgumentTypeError(f"must be a time such as 10m, 90s or 1h30m, not {short(text)}")
    return seconds
