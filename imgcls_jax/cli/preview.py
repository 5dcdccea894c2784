"""Show what the model will see: a contact sheet of original and augmented images for each phase of a run.

Writes DIR/preview_epoch_E.png, E being the first epoch of a phase: originals in the first column, augmented draws
beside them, as the model sees them but for the normalization, with their labels.

Example:
  imgcls preview --config configs/digits_cnn.py --out runs/preview
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("preview"), help="folder of the pictures (default: preview)")
    parser.add_argument("--images", type=flags.whole(1, 1000), default=8, help="number of images (default: 8)")
    parser.add_argument("--draws", type=flags.whole(1, 1000), default=6, help="augmented versions of each (default: 6)")
    options = parser.parse_args(arguments)
    config = flags.config_of(options)

    from imgcls_jax.display.console import Console
    from imgcls_jax.doctor.preview import preview
    from imgcls_jax.training.validate import validate
    from imgcls_jax.xla import runtime

    runtime.setup()
    validate(config, devices=1)
    console = Console()
    with console.wait("drawing the augmented images"):
        paths = preview(config, options.out, images=options.images, draws=options.draws)
    for path in paths:
        console.line(str(path))
