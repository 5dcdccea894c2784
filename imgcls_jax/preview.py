"""Show what the model will see: a contact sheet of original and augmented images for each phase of a run.

    python -m imgcls_jax.preview --config FILE.py[:VARIANT] [--out DIR] [--images N] [--draws N]

Writes DIR/preview_epoch_E.png, E being the first epoch of a phase: originals in the first column, augmented draws
beside them, after undoing the normalisation, with their labels.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import augment, data, flags, runtime
from imgcls_jax import config as c
from imgcls_jax.augment.contact_sheet import contact_sheet
from imgcls_jax.console import Console
from imgcls_jax.validate import validate


def preview(config: c.Config, folder: Path, *, images: int = 8, draws: int = 6) -> list[Path]:
    """Write one contact sheet a phase; return their paths.

    The images are the first `images` of the training split's first epoch, augmented by the training step's own code.
    """
    validate(config, devices=1)
    dataset = data.load(config.data)
    settings = config.data
    rows = data.train_order(dataset.train.labels, settings.sampling, config.seed, 0)[:images]
    canvases, labels = dataset.train.read(rows), dataset.train.labels[rows]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for phase in augment.phases(config.augment, config.epochs):
        function = jax.jit(
            augment.build(
                config.augment,
                epoch=phase.from_epoch,
                image_size=settings.image_size,
                mean=settings.mean,
                std=settings.std,
                num_classes=len(dataset.class_names),
                fit=settings.canvas.fit,
            )
        )
        key = jax.random.key(config.seed)
        drawn = [
            function(
                jax.random.fold_in(key, draw),
                canvases,
                labels,
                dataset.train.aspect[rows],
                jnp.int32(phase.from_epoch + draw),
                rows.astype(np.int32),
            )
            for draw in range(draws)
        ]
        sheet = contact_sheet(
            canvases,
            np.stack([image for image, _ in drawn]),
            labels,
            np.stack([soft for _, soft in drawn]),
            dataset.class_names,
            settings.mean,
            settings.std,
            title=f"{config.name}, epochs {phase.from_epoch + 1} to {phase.until_epoch}",
        )
        paths.append(folder / f"preview_epoch_{phase.from_epoch}.png")
        sheet.save(paths[-1])
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("preview"), help="folder of the pictures (default: preview)")
    parser.add_argument("--images", type=int, default=8, help="number of images")
    parser.add_argument("--draws", type=int, default=6, help="augmented versions of each")
    options, config = flags.parse(parser, arguments)
    runtime.setup()
    for path in preview(config, options.out, images=options.images, draws=options.draws):
        Console().line(str(path))


if __name__ == "__main__":
    flags.run(main)
