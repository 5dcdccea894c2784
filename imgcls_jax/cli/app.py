"""The command `imgcls`: one subcommand per module of this folder, imported only when it is asked for."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import completion, flags, together
from imgcls_jax.errors import UserError, did_you_mean, short

_PUBLISH = "publish a run to a folder or Hugging Face; fetch one"

COMMANDS = {
    "train": "train on your images or by a config, or continue a run",
    "evaluate": "measure a run, or weights from elsewhere, on the test images",
    "predict": "classify image files with a trained run",
    "explain": "show where in images a run finds its evidence",
    "suspects": "list images to look at: top losses, wrong labels, duplicates",
    "calibrate": "fit how far a run's probabilities can be trusted",
    "export": "write a run as one file: ONNX, StableHLO, torch, safetensors",
    "verify": "run an exported file's golden images, and compare",
    "push": _PUBLISH,
    "pull": _PUBLISH,
    "serve": "answer HTTP requests with an exported ONNX file",
    "report": "compare runs: curves, confusion matrices; or one HTML page",
    "doctor": "look for what is wrong with data, config and machine",
    "plan": "compile a config for hardware that is not here: memory, time",
    "preview": "show the augmented images that a config makes",
    "check": "test a model of your own against what training needs",
    "data": "list, download, prepare and verify catalog sets",
    "stats": "compute the mean and standard deviation of a folder's images",
    "probe": "measure what a pretrained network's features are worth",
    "tune": "learning rate (lr), batch, search, grid, all folds (cv)",
    "ablate": "train a config with parts on and off, and compare",
    "corruptions": "measure the accuracy on corrupted test images",
    "parity": "compare a model with its original in torch, layer by layer",
}
"""What each subcommand does; `main(arguments)` of the module of its name runs it. Those that do the same share a line
of the help, which must fit on a screen of 24 lines."""

_HELP = """\
usage: {program} COMMAND [FLAGS]   (COMMAND --help explains one)
{commands}
A first run:   {program} train --config configs/digits_cnn.py
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the subcommand that the first argument names."""
    typed = _program()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if "_ARGCOMPLETE" in os.environ:
        name = completion.complete_command(COMMANDS)
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines: dict[str, list[str]] = {}
        for command, what in COMMANDS.items():
            lines.setdefault(what, []).append(command)
        commands = "\n".join(f"  {', '.join(names):{width}}  {what}" for what, names in lines.items())
        print(_HELP.format(program=typed, commands=commands), end="")
    elif name == "--version":
        from importlib.metadata import version

        print(f"imgcls_jax {version('imgcls_jax')}")
    elif name in COMMANDS:
        run_command(name, rest)
    elif name.startswith("-"):
        raise UserError(f"a command comes first, as in `{typed} train {name} …` (see {typed} --help)")
    else:
        raise UserError(f"there is no command {short(name)}{did_you_mean(name, COMMANDS) or f'; see {typed} --help'}")


def run_command(name: str, arguments: Sequence[str], *, program: str | None = None) -> None:
    """Run a subcommand; `program` is what was typed to call it, where that is not `imgcls NAME`."""
    with flags.called(program or f"{_program()} {name}"):
        if name != "train":
            together.refuse_copies(flags.program())
        importlib.import_module(f"imgcls_jax.cli.{name}").main(arguments)


def run() -> None:
    """The entry point of the script `imgcls`."""
    flags.run(main)


def _program() -> str:
    """How this process was called."""
    path = Path(sys.argv[0])
    return "python -m imgcls_jax" if path.name == "__main__.py" else "imgcls"
