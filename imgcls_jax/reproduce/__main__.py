"""Run the reports' experiments for which the data is here, and compare with what the reports state.

    python -m imgcls_jax.reproduce [ROW…] [--budget-minutes M] [--seeds K] [--workdir DIR] [--config.KEY=VALUE …]
    python -m imgcls_jax.reproduce [ROW…] --list

ROW is a row's name (C1), the beginning of several (E2), or a report's letter (C); without any, all rows. `--list` shows
every row with its config, and whether its data and weights are here. Runs lie in DIR/ROW/seed_S; DIR/reproduction.md
and .json tell of all that DIR holds, so that calls for different rows add up. The same command continues what was
interrupted; finished runs are not trained again.

With a budget, rows that would not fit are trained in fewer epochs, everything that is counted in epochs keeping its
share of the training (docs/reproduction.md); each changed setting is listed. A row that was begun keeps its epochs.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax import flags
from imgcls_jax.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.reproduce import listing, rows
from imgcls_jax.reproduce.reproduction import Reproduction


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = _parse(given)
    chosen = rows.select(options.rows)
    if options.list:
        listing.show(chosen, overrides)
        return
    command = shlex.join(["python", "-m", "imgcls_jax.reproduce", *given])
    seconds = None if options.budget_minutes is None else 60 * options.budget_minutes
    Reproduction(options.workdir, options.seeds, overrides, command).run(chosen, seconds)
    Console().line(f"written: {options.workdir / 'reproduction.md'}")


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the settings that `--config.KEY=VALUE` changes in every row."""
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows; default: all")
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="minutes of training for all rows together")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="runs of each row (default: 1)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/reproduction"), help="default: runs/reproduction")
    parser.add_argument("--list", action="store_true", help="show the rows, and train nothing")
    parser.add_argument(
        "--config.KEY", metavar="VALUE", dest="_", help="change one setting in every row, as in --config.KEY=VALUE"
    )
    overrides = [argument.removeprefix("--config.") for argument in arguments if argument.startswith("--config.")]
    options = parser.parse_args([argument for argument in arguments if not argument.startswith("--config.")])
    if options.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {options.seeds}")
    if options.budget_minutes is not None and options.budget_minutes <= 0:
        raise UserError(f"--budget-minutes must be above 0, not {options.budget_minutes:g}")
    return options, overrides


if __name__ == "__main__":
    flags.run(main)
