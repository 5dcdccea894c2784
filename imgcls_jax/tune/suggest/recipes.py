"""The two recipes of training: published weights that are fine-tuned, and a small network from random values."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import jax

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.errors import UserError, did_you_mean, short
from imgcls_jax.inference.source import published_config
from imgcls_jax.models import network
from imgcls_jax.tune.suggest.look import Seen
from imgcls_jax.weights import paths, plan

SMALL = "small"
"""The name of the network of our own that starts at random."""
LITE0 = "efficientnet_lite/lite0"
_DROPOUT = 0.2
LARGEST = 128
"""Largest side of images for the small network, pixels."""


def entry_of(name: str) -> weights.Entry:
    """Return the published weights of a name.

    Raises:
      UserError: there are none.
    """
    known = weights.published()
    if name not in known:
        raise UserError(
            f"there are no published weights {short(name)}{did_you_mean(name, [*known, SMALL])}: see docs/models.md"
        )
    return known[name]


def name_of(source: c.Source) -> str:
    """Name a run after its images."""
    text = getattr(source, "folder", None) or getattr(source, "path", None) or getattr(source, "name", None) or "arrays"
    return re.sub(r"[^\w.-]+", "_", Path(text).stem) or "images"


def pretrained(source: c.Source, name: str, side: int | None = None, *, title: str) -> c.Config:
    """Make the config of published weights on other images, with the preprocessing that the weights were made for.

    Args:
      source: where the images come from.
      name: of the weights.
      side: what enters the network, pixels; None: as the weights were made for.
      title: the config's name.

    Raises:
      UserError: there are no weights of that name.
    """
    config = published_config(entry_of(name))
    canvas, crop = config.data.canvas, config.data.image_size[0]
    if side is not None:
        whole = round(canvas.height * side / crop)
        canvas, crop = dataclasses.replace(canvas, height=whole, width=whole), side
    data = dataclasses.replace(config.data, source=source, canvas=canvas, image_size=(crop, crop))
    return dataclasses.replace(
        config, name=title, data=data, transfer=c.Transfer(init_from=name), mesh=c.Mesh(devices=1)
    )


def fine_tuning(seen: Seen, entry: weights.Entry, size: int | None) -> c.Config:
    """Train the last third of a pretrained network's stages, and a new head.

    Args:
      seen: the images.
      entry: the weights.
      size: side of what enters the network, pixels; None: as the weights were made for.
    """
    config = pretrained(seen.source, entry.name, size, title=name_of(seen.source))
    batch = _batch(len(seen.splits.train), 32)
    head, model = f"{config.model.head_prefix}*", config.model
    if isinstance(plain := getattr(model, "head", None), c.Head):
        changed: dict[str, Any] = {"head": dataclasses.replace(plain, dropout=_DROPOUT)}
        model = dataclasses.replace(model, **changed)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, canvas=_read_reduced(seen, config.data.canvas)),
        model=model,
        augment=(c.RandomCrop(),) if seen.is_gray else (c.RandomCrop(), c.HorizontalFlip()),
        transfer=c.Transfer(
            init_from=entry.name,
            replace=(head,),
            freeze=_first_stages(config),
            groups=(c.Group(head, learning_rate_scale=10),),
            batch_norm=c.BatchNormMode(normalize_by="running", update_running=False),
        ),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9, nesterov=True, weight_decay=1e-4),
            schedule=c.Schedule(peak=round(3e-3 * batch / 32, 6), warmup_epochs=1, shape=c.Cosine()),
        ),
        batch_size=batch,
    )


def from_scratch(seen: Seen, size: int | None) -> c.Config:
    """Train three to five convolutions from random values.

    Args:
      seen: the images.
      size: side of what enters the network, pixels; None: the short side of the images, at most `LARGEST`.
    """
    side = size or max(8, min(LARGEST, round(seen.short_side / 4) * 4))
    channels = 1 if seen.is_gray else 3
    halvings = max(2, min(4, round(math.log2(side / 4))))
    convs = tuple(
        c.Conv(32 * 2 ** min(i, 3), 3, padding=1, norm="batch", pool=2 if i else 1) for i in range(halvings + 1)
    )
    augment: tuple[c.Augmentation, ...] = (c.PadCrop(max(1, side // 8)),)
    return c.Config(
        name=name_of(seen.source),
        data=c.Data(
            source=seen.source,
            canvas=_read_reduced(seen, c.Canvas(side, side, channels)),
            image_size=(side, side),
            mean=seen.mean[:channels],
            std=seen.std[:channels],
        ),
        augment=augment if seen.is_gray else (*augment, c.HorizontalFlip()),
        model=c.CNN(convs=convs, aggregate="average", head=c.Head(dropout=_DROPOUT)),
        loss=c.CrossEntropy(label_smoothing=0.1),
        optim=c.Optim(
            optimizer=c.AdamW(weight_decay=0.05), schedule=c.Schedule(peak=3e-3, warmup_epochs=1, shape=c.Cosine())
        ),
        batch_size=_batch(len(seen.splits.train), 64),
        epochs=1,
        precision="fp32",
        seed=0,
        mesh=c.Mesh(devices=1),
    )


def _read_reduced(seen: Seen, canvas: c.Canvas) -> c.Canvas:
    """Decode JPEGs at half their size or less where they have far more pixels than the canvas."""
    if seen.short_side < 2 * canvas.height:
        return canvas
    return dataclasses.replace(canvas, jpeg_decoding="reduced")


def _first_stages(config: c.Config) -> tuple[str, ...]:
    """Patterns of the first two thirds of a network's stages."""
    params, _ = jax.eval_shape(network.of_config(config, 2).create, jax.random.key(0))
    ordered = config.model.torch_order(list(paths.flatten(params)))
    stages = plan.stages(config.model, ordered)
    trained = max(1, round((max(stages.values()) - 1) / 3))  # the stem is a stage by itself, and counts as none
    frozen = [path for path in ordered if stages[path] > trained]
    mixed = {path.partition(".")[0] for path in ordered if stages[path] <= trained}
    return tuple(dict.fromkeys(_whole(path, 2 if path.partition(".")[0] in mixed else 1) for path in frozen))


def _whole(path: str, depth: int) -> str:
    """The pattern of what a parameter belongs to: "layer1.*", or at depth 2 an item of a list, "blocks.3.*"."""
    parts = path.split(".")
    return ".".join(parts[:depth]) + ".*" * (len(parts) > depth)


def _batch(images: int, most: int) -> int:
    """The batch: a power of two of which an epoch has four or more, where there are enough images."""
    return max(2, min(most, 2 ** int(math.log2(max(images // 4, 2)))))
