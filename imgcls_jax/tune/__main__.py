"""Find settings before a run, by trying training's own steps out.

    python -m imgcls_jax.tune lr …       the learning rate: a range test on a copy of the state
    python -m imgcls_jax.tune batch …    the largest batch that fits, and the fastest

Each has its own --help. docs/tuning.md says how to read what they print.
"""

import sys
from collections.abc import Sequence

from imgcls_jax import flags
from imgcls_jax.errors import UserError
from imgcls_jax.tune import batch, lr

_COMMANDS = {"lr": lr.main, "batch": batch.main}


def main(arguments: Sequence[str] | None = None) -> None:
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(__doc__)
    elif name in _COMMANDS:
        _COMMANDS[name](rest)
    else:
        found = f"not {name!r}" if name else "and nothing was given"
        raise UserError(f"say first what to tune, lr or batch, {found} (see --help)")


if __name__ == "__main__":
    flags.run(main)
