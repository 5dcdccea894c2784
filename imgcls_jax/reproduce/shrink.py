"""The same experiment in fewer epochs: everything that is counted in epochs keeps its share of the training.

The rules, with f = the fewer epochs / the config's:

- warm-up, the lengths of Cosine, Polynomial and CosineRestarts' first cycle, MultiStep's epochs, the patience of early
  stopping and of ReduceOnPlateau, and the epochs at which an augmentation begins or ends, layers thaw or SWA starts,
  are multiplied by f and rounded, to one epoch at least where they were not zero;
- Step keeps its total decay: where its interval cannot be f times as long exactly, its factor makes up for it;
- Exponential keeps its total decay: its factor is raised to the power 1/f;
- everything else stays: the learning rate, the batch, the augmentation's strength, the data.
"""

import dataclasses

from imgcls_jax import config as c
from imgcls_jax.config.augment import Operation


def to_epochs(config: c.Config, epochs: int) -> c.Config:
    """`config` in `epochs` epochs (1 to the config's own) by the module's rules."""
    if epochs == config.epochs:
        return config
    share = epochs / config.epochs
    optim, stopping = config.optim, config.early_stopping
    if optim.swa:
        optim = dataclasses.replace(optim, swa=c.SWA(min(round(optim.swa.from_epoch * share), epochs - 1)))
    return dataclasses.replace(
        config,
        epochs=epochs,
        augment=tuple(_operation(operation, share, epochs) for operation in config.augment),
        optim=dataclasses.replace(optim, schedule=_schedule(optim.schedule, share, epochs)),
        transfer=dataclasses.replace(
            config.transfer,
            unfreeze=tuple(
                dataclasses.replace(entry, from_epoch=_length(entry.from_epoch, share))
                for entry in config.transfer.unfreeze
            ),
        ),
        early_stopping=stopping and dataclasses.replace(stopping, patience=_length(stopping.patience, share)),
    )


def _length(length: int, share: float) -> int:
    return max(1, round(length * share))


def _schedule(schedule: c.Schedule, share: float, epochs: int) -> c.Schedule:
    # A warm-up leaves an epoch for the shape: in a single epoch there is none.
    warmup = min(_length(schedule.warmup_epochs, share), epochs - 1) if schedule.warmup_epochs else 0
    shape = schedule.shape
    match shape:
        case c.Step():
            every = _length(shape.every, share)
            shape = dataclasses.replace(shape, every=every, factor=shape.factor ** (every / (shape.every * share)))
        case c.Exponential():
            shape = dataclasses.replace(shape, factor=shape.factor ** (1 / share))
        case c.MultiStep():
            at: list[int] = []
            for epoch in shape.at:  # two changes never fall together: the later one waits for the next epoch
                at.append(max(_length(epoch, share), at[-1] + 1 if at else 1))
            shape = dataclasses.replace(shape, at=tuple(at))
        case c.Cosine() | c.Polynomial():
            shape = dataclasses.replace(shape, epochs=shape.epochs and _length(shape.epochs, share))
        case c.CosineRestarts():
            shape = dataclasses.replace(shape, first=_length(shape.first, share))
        case c.ReduceOnPlateau():
            shape = dataclasses.replace(shape, patience=round(shape.patience * share))
    return dataclasses.replace(schedule, warmup_epochs=warmup, shape=shape)


def _operation(operation: Operation, share: float, epochs: int) -> Operation:
    """The operation in its share of the training; it runs in one epoch at least."""
    start = min(round(operation.from_epoch * share), epochs - 1)
    until = operation.until_epoch
    if until is not None:
        until = max(start + 1, round(until * share))
    return dataclasses.replace(operation, from_epoch=start, until_epoch=until)
