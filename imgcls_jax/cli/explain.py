"""Show where in images a trained network finds its evidence.

Writes a sheet with a row for each image: the image as the network sees it, the Grad-CAM map of its most probable class
(or of --class) over it, and with --neighbors the training images whose features are nearest. Prints a line for each
image: class, probability, and by how much the class's logit falls when the hottest fifth of the image is blanked, and
when the coldest is. A map that says what mattered has the greater first figure: the last line has both on average.

Any network whose stages are feature maps or tokens can be explained, those of your own too (docs/models.md).

Examples:
  imgcls explain photo.jpg folder/ --workdir runs/photos --out explained.png
  imgcls explain photo.jpg --workdir runs/photos --class cat --neighbors 5
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

_MOST = 64  # rows of a sheet: more than a screen shows, and a picture that every program opens


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="image files, folders or quoted patterns"
    )
    parser.add_argument(
        "--workdir", required=True, metavar="RUN", help="the run's folder, or published weights by name"
    )
    parser.add_argument("--out", type=Path, default=Path("explained.png"), help="the sheet (default: explained.png)")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="explain this class (default: the predicted)"
    )
    parser.add_argument("--neighbors", type=flags.whole(0, 20), default=0, metavar="K", help="nearest training images")
    parser.add_argument("--stage", metavar="NAME", help="whose feature map is taken (default: the last one)")
    options = parser.parse_args(arguments)
    if options.out.suffix.lower() != ".png":
        raise UserError(f"--out {options.out}: the sheet is a PNG, so its name must end in .png")
    if flags.is_folder(Path(options.workdir)):
        flags.saved_config(Path(options.workdir))  # a wrong folder is found before anything slow begins

    from imgcls_jax.cli.predict import find

    files = find(options.images)
    if any(flags.is_file(options.out) and options.out.samefile(file) for file in files):
        raise UserError(f"--out {options.out} is one of the images: give another name, as it would be overwritten")
    if len(files) > _MOST:
        raise UserError(f"these are {len(files)} images, and a sheet has room for {_MOST}: name fewer")

    import numpy as np

    from imgcls_jax.display.console import Console, percent
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.report import explained
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    classifier = Classifier.load(options.workdir)
    with console.wait("explaining"):
        found = classifier.explain(
            files, class_name=options.class_name, stage=options.stage, neighbors=options.neighbors
        )
    assert isinstance(found, list), "several images are explained"
    explained.write(found, options.out)
    for one in found:
        drops = f"logit {-one.hot_drop:+.2f} without the hottest fifth, {-one.cold_drop:+.2f} without the coldest"
        console.line(f"{one.class_name}  {percent(one.probability)}  {drops}  {one.path}")
    hot, cold = (float(np.mean([getattr(one, name) for one in found])) for name in ("hot_drop", "cold_drop"))
    console.line(f"blanking the hottest fifth lowers the logit by {hot:.2f} on average, the coldest by {cold:.2f}")
    console.line(str(options.out))
