"""Run the experiments of five coursework reports, and compare the results with what the reports state.

    python -m reproduction [ROW…] [--budget-minutes M] [--seeds K] [--workdir DIR] [--config.KEY=VALUE …]
    python -m reproduction [ROW…] --list

ROW is a row's name (C1), the beginning of several (E2), or a report's letter (C); without any, all rows whose data is
on this machine. `--list` shows every row with its config, and whether its data and weights are here. Runs are written
to DIR/ROW/seed_S; DIR/reproduction.md and .json describe all runs in DIR, so that calls for different rows add up. The
same command continues what was interrupted; finished runs are not trained again. The exit status is 0 only if every
row is finished.

With a budget, rows that would not fit are trained in fewer epochs, and everything that is counted in epochs keeps its
share of the training (docs/reproduction.md); each changed setting is listed. A row that was begun keeps its epochs.
Run from the root of the repository, where configs/ is.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError
from reproduction import listing, rows
from reproduction.runner import Reproduction


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = _parse(given)
    chosen = rows.select(options.rows)
    if options.list:
        listing.show(chosen, overrides)
        return
    command = shlex.join(["python", "-m", "reproduction", *given])
    seconds = None if options.budget_minutes is None else 60 * options.budget_minutes
    reproduction = Reproduction(options.workdir, options.seeds, overrides, command)
    unfinished = reproduction.run(chosen, seconds, skip_missing=not options.rows)
    report = options.workdir / "reproduction.md"
    Console().line(f"written: {report}")
    if unfinished:
        raise UserError(f"{', '.join(unfinished)} not finished: {report} says why; the same command tries again")


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the settings that `--config.KEY=VALUE` changes in every row."""
    with flags.called("python -m reproduction"):
        parser = flags.parser(__doc__, config=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows; default: all")
    parser.add_argument(
        "--budget-minutes", type=flags.number(0, exclusive=True), metavar="M", help="minutes of training for all rows"
    )
    parser.add_argument("--seeds", type=flags.whole(1), default=1, metavar="K", help="runs of each row (default: 1)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/reproduction"), help="default: runs/reproduction")
    parser.add_argument("--list", action="store_true", help="show the rows, and train nothing")
    parser.add_argument(
        "--config.KEY", metavar="VALUE", dest="_", help="change one setting in every row, as in --config.KEY=VALUE"
    )
    parser.takes_config = True  # the rows' own, so that there is no --config
    options = parser.parse_args(arguments)
    return options, options.overrides


if __name__ == "__main__":
    flags.run(main)
