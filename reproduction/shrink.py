"""Shorten an experiment to fewer epochs, so that everything counted in epochs keeps its share of the training.

The rules, with f = fewer epochs / the config's epochs:

- warm-up, CosineRestarts' first cycle, MultiStep's epochs, the patience of early stopping and of ReduceOnPlateau, and
  the epochs at which an augmentation begins or ends, layers thaw or SWA starts are multiplied by f and rounded, to at
  least 1 where they were not 0;
- Cosine and Polynomial end at f times the epoch at which they ended, rounded;
- what begins later than the first epoch begins in the last epoch at the latest, and two changes of MultiStep stay
  apart; a training of one epoch has no warm-up, and what begins in its second epoch begins at once, or, in the case of
  layers that thaw, never;
- Step keeps its total decay: where its interval cannot be f times as long exactly, its factor makes up for it;
- Exponential keeps its total decay: its factor is raised to the power 1/f;
- everything else stays: the learning rate, the batch size, the augmentation's strength, the data.
"""

import dataclasses

from imgcls_jax import config as c
from imgcls_jax.config.augment import Augmentation as Operation


def to_epochs(config: c.Config, epochs: int) -> c.Config:
    """Return `config` with `epochs` epochs, 1 to its own number, by the module's rules."""
    if epochs == config.epochs:
        return config
    share = epochs / config.epochs
    optim, stopping = config.optim, config.early_stopping
    if optim.swa:
        optim = dataclasses.replace(optim, swa=c.SWA(_start(optim.swa.from_epoch, share, epochs)))
    return dataclasses.replace(
        config,
        epochs=epochs,
        augment=tuple(_operation(operation, share, epochs) for operation in config.augment),
        optim=dataclasses.replace(optim, schedule=_schedule(optim.schedule, share, epochs)),
        transfer=dataclasses.replace(
            config.transfer,
            unfreeze=tuple(
                dataclasses.replace(entry, from_epoch=max(1, _start(entry.from_epoch, share, epochs)))
                for entry in config.transfer.unfreeze
            ),
        ),
        early_stopping=stopping and dataclasses.replace(stopping, patience=_length(stopping.patience, share)),
    )


def _length(length: int, share: float) -> int:
    """The share of a number of epochs; 0 stays 0."""
    return max(1, round(length * share)) if length else 0


def _start(epoch: int, share: float, epochs: int) -> int:
    """The epoch, counted from 0, at which something begins; it is in effect for one epoch at least."""
    return min(_length(epoch, share), epochs - 1)


def _schedule(schedule: c.Schedule, share: float, epochs: int) -> c.Schedule:
    # A warm-up leaves an epoch for the shape: in a single epoch there is none.
    warmup = _start(schedule.warmup_epochs, share, epochs)
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
            if shape.epochs:
                # The end is rounded, not the length: one that ended with the training still does.
                end = round((schedule.warmup_epochs + shape.epochs) * share)
                shape = dataclasses.replace(shape, epochs=max(1, end - warmup))
        case c.CosineRestarts():
            shape = dataclasses.replace(shape, first=_length(shape.first, share))
        case c.ReduceOnPlateau():
            shape = dataclasses.replace(shape, patience=_length(shape.patience, share))
    return dataclasses.replace(schedule, warmup_epochs=warmup, shape=shape)


def _operation(operation: Operation, share: float, epochs: int) -> Operation:
    """The operation in its share of the training; it runs in one epoch at least."""
    start = _start(operation.from_epoch, share, epochs)
    until = operation.until_epoch
    if until is not None:
        until = max(start + 1, _length(until, share))
    return dataclasses.replace(operation, from_epoch=start, until_epoch=until)
