"""Draw contact sheets of original and augmented images, one for each phase of a run."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from imgcls_jax import augment, data
from imgcls_jax import config as c
from imgcls_jax.augment.contact_sheet import contact_sheet
from imgcls_jax.disk import outputs
from imgcls_jax.evaluation import tasks


def preview(config: c.Config, folder: Path, *, images: int = 8, draws: int = 6) -> list[Path]:
    """Write a contact sheet for each phase of the augmentation; return their paths.

    Args:
      config: the experiment; check it first (`training.validate`).
      folder: where preview_epoch_E.png are written, E being the first epoch of a phase; made if missing.
      images: number of images: the first ones of the training split's first epoch.
      draws: augmented versions of each, made by the training step's own code.

    Raises:
      UserError: something in the data is wrong.
    """
    tasks.need_classes(config.loss.task, "the preview")
    outputs.make_folder(folder)
    paths = []
    for phase, sheet in sheets(config, data.load(config.data), images=images, draws=draws):
        paths.append(folder / f"preview_epoch_{phase.from_epoch}.png")
        with outputs.writing(paths[-1], binary=True) as file:
            sheet.save(file, "PNG")
    return paths


def sheets(
    config: c.Config, dataset: data.Dataset, *, images: int, draws: int
) -> Iterator[tuple[augment.Phase, Image.Image]]:
    """Draw a contact sheet for each phase of the augmentation; arguments as for `preview`, with the data."""
    settings = config.data
    rows = data.train_order(dataset.train.labels, settings.sampling, config.seed, 0)[:images]
    canvases, labels = dataset.train.read(rows), dataset.train.labels[rows]
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
        yield (
            phase,
            contact_sheet(
                canvases,
                np.stack([image for image, _ in drawn]),
                labels,
                np.stack([soft for _, soft in drawn]),
                dataset.class_names,
                settings.mean,
                settings.std,
                title=f"{config.name}, epochs {phase.from_epoch + 1} to {phase.until_epoch}",
            ),
        )
