"""Compare finished runs: curves, first kernels, confusion matrices, parameters.

Writes DIR/report.md with a table of all runs, and the pictures that it links: the score's evolution side by side and on
one plot, and of each run the kernels of its first convolution (min-max normalized) and its confusion matrix, whose
counts are in a CSV file too. The confusion matrix takes a pass over the split, so it needs the run's data; without
--confusion it is the test split's, or the validation split's where there is no test.

Of several runs each is compared with the first one, image by image: the difference of every figure with its paired
bootstrap 95 % interval, and McNemar's test. That takes the predictions that `imgcls evaluate` keeps for both.

--html FILE writes one page in place of the folder (with --out: beside it), which needs no other file and no network:
curves, figures with intervals, the confusion matrix with the images behind its cells, classes, top losses with maps of
where the network looked, label candidates, duplicates, reliability, the data, and every setting with what differs
between the runs. It is made of what the runs have kept; what is missing is said.

Examples:
  imgcls report runs/digits_cnn runs/short --out runs/report
  imgcls report runs/digits_cnn --html report.html
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    parser.add_argument("--out", type=Path, help="folder of the report (default: report)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page, which needs nothing else")
    parser.add_argument("--confusion", choices=("test", "validation", "none"), help="split of the confusion matrices")
    options = parser.parse_args(arguments)
    if options.html and options.html.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--html {options.html}: the file is a page, so its name must end in .html")
    folder = options.out or (None if options.html else Path("report"))

    from imgcls_jax.display.console import Console
    from imgcls_jax.report.write import report
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    written = []
    with console.wait("writing the report"):
        if folder:
            written.append(report(options.workdirs, folder, split=options.confusion))
        if options.html:
            from imgcls_jax.report.html import page  # Jinja2 is for the page alone

            page.write(options.workdirs, options.html, split=options.confusion)
            written.append(options.html)
    for path in written:
        console.line(str(path))
