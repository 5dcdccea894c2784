"""Fit how far a run's probabilities can be trusted: a temperature, prediction sets, and when to say "unknown".

Takes the predictions of the validation images that the run, or `imgcls evaluate`, has kept in DIR; neither the data nor
a device is needed. Writes DIR/calibration.json, which `imgcls predict` applies with --calibrated, --sets and --unknown,
and DIR/reliability.png. From then on it is part of the model card, in what `imgcls push` and `imgcls export` write too.
What is fitted on the validation images is measured on the test images, if there are any.

Example:
  imgcls calibrate --workdir runs/digits_cnn
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

_SHOWN = (0.8, 0.9, 0.95, 0.99)  # coverages of sets


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--known",
        type=flags.number(0, exclusive=True),
        default=0.95,
        metavar="SHARE",
        help='share of the validation images that must not be called "unknown" (default: 0.95)',
    )
    options = parser.parse_args(arguments)
    if options.known >= 1:
        raise UserError(f"--known is {options.known:g}, but must be a share below 1, such as 0.95")
    config = flags.saved_config(options.workdir)
    if not flags.is_folder(options.workdir / "checkpoints"):
        raise UserError(
            f"{options.workdir} is a published run, whose files do not change: calibrate the run that it comes "
            "from, and push it again"
        )

    from imgcls_jax.display import tables
    from imgcls_jax.display.console import Console
    from imgcls_jax.evaluation import calibration, figures
    from imgcls_jax.evaluation import predictions as keep
    from imgcls_jax.report import reliability

    validation = keep.load(keep.path_of(options.workdir, "validation"))
    fitted = calibration.fit(validation, known=options.known)
    measured = validation
    if (path := keep.path_of(options.workdir, "test")).exists():
        test = keep.load(path)
        test.check_finite()
        # Other views have other logits.
        measured = test if test.views == validation.views else validation
    found = calibration.measure(fitted, measured, _SHOWN)
    calibration.save(fitted, options.workdir)
    picture, title = options.workdir / calibration.PICTURE, f"{config.name}, {measured.split} images"
    reliability.plot({"before": found.before, "after": found.after}, measured.labels, picture, title=title)

    console = Console()
    energy = "no threshold: a sigmoid head and averaged views have no energy"
    if fitted.least_energy is not None:
        energy = f"energy below {fitted.least_energy:.4g}, which {1 - fitted.known:.0%} of these images have"
    rows = {
        "fitted on": f"{fitted.images:,} validation images",
        "temperature": f"{fitted.temperature:.4f}",
        "unknown": energy,
        "files": f"{options.workdir}/: {calibration.FILE}, {calibration.PICTURE}",
    }
    console.table("calibration", rows)
    figure_rows = [
        (figures.TITLES[name], *(figures.shown(name, value) for value in pair)) for name, pair in found.figures.items()
    ]
    header = ("", "before", "after")
    console.section(
        f"{measured.split}: {len(measured):,} images", tables.plain(header, figure_rows, right=[1, 2], indent="  ")
    )
    set_rows = [(f"{c:.0%}", f"{100 * share:.1f} %", f"{size:.2f}") for c, (share, size) in found.sets.items()]
    header = ("coverage", "holds the class", "classes per set")
    console.section("prediction sets", tables.plain(header, set_rows, right=[0, 1, 2], indent="  "))
