"""Train and evaluate: `python -m imgcls_jax.main --config FILE.py[:VARIANT] [--workdir DIR] [--config.KEY=VALUE …]`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax import flags, runtime
from imgcls_jax import mesh as meshes
from imgcls_jax.train import train_and_evaluate


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="folder of the run; default: runs/NAME of the config")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start afresh in a used work directory, after moving the old one aside (nothing is deleted)",
    )
    options, config = flags.parse(parser, arguments)
    setup = runtime.setup()
    meshes.start_processes()
    train_and_evaluate(
        config,
        options.workdir or Path("runs") / config.name,
        overwrite=options.overwrite,
        command=shlex.join(["python", "-m", "imgcls_jax.main", *(a for a in sys.argv[1:] if a != "--overwrite")]),
        runtime=setup,
    )


if __name__ == "__main__":
    flags.run(main)
