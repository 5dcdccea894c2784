"""Compare finished runs: curves, first kernels, confusion matrices, parameters.

Writes DIR/report.md with a table of all runs, and the pictures that it links: the score's evolution side by side and on
one plot, and of each run the kernels of its first convolution (min-max normalized) and its confusion matrix, whose
counts are in a CSV file too. The confusion matrix takes a pass over the split, so it needs the run's data; without
--confusion it is the test split's, or the validation split's where there is no test.

Of several runs each is compared with the first one, image by image: the difference of every figure with its paired
bootstrap 95 % interval, and McNemar's test. That takes the predictions that `imgcls evaluate` keeps for both.

Example:
  imgcls report runs/digits_cnn runs/short --out runs/report
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    parser.add_argument("--confusion", choices=("test", "validation", "none"), help="split of the confusion matrices")
    options = parser.parse_args(arguments)

    from imgcls_jax.display.console import Console
    from imgcls_jax.report.write import report
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    with console.wait("writing the report"):
        path = report(options.workdirs, options.out, split=options.confusion)
    console.line(str(path))
