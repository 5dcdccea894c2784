"""Evaluate a model on data whose classes or images are not exactly those it was trained on."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64

from imgcls_jax.config.optim import Task
from imgcls_jax.data import Dataset, Split
from imgcls_jax.errors import UserError, did_you_mean
from imgcls_jax.evaluation import tasks


def evaluated(dataset: Dataset, trained: Sequence[str], task: Task) -> Dataset:
    """Return the data set that a model is evaluated on, with the labels of the trained classes of the same names.

    Args:
      dataset: see `matched`.
      trained: see `matched`.
      task: what the model was trained for.

    Raises:
      UserError: the labels are of another kind or class, or there is nothing to evaluate.
    """
    if (found := tasks.of_labels(dataset.train.labels)) != task:
        raise UserError(f"the data have {tasks.NAMES[found]}, but the model was trained on {tasks.NAMES[task]}")
    dataset = matched(dataset, trained)
    if dataset.validation is None and dataset.test is None:
        raise UserError(
            "there are neither validation nor test images to evaluate: put images into a folder test/CLASS beside "
            "train/CLASS, or hold some out with data.validation_share or data.test_share"
        )
    return dataset


def matched(dataset: Dataset, trained: Sequence[str]) -> Dataset:
    """Return the data set with the labels of the trained classes of the same names.

    Where either side has only numbers for names, as arrays without names do, the numbers are the classes.

    Args:
      dataset: the images, of all or some of the trained classes in any order.
      trained: the model's class names, by label.

    Raises:
      UserError: an image's class is none of the model's.
    """
    found = dataset.class_names
    if tuple(trained) == found:
        return dataset
    if dataset.train.labels.ndim == 2:
        raise UserError(
            f"the data have the labels {', '.join(found[:10])}, but the model was trained on "
            f"{', '.join(trained[:10])}: give the same ones in the same order"
        )
    if _is_numbered(found) or _is_numbered(trained):
        if len(found) > len(trained):
            raise UserError(f"the data have {len(found)} classes, but the model was trained on {len(trained)}")
        labels = np.arange(len(found), dtype=np.int32)
    else:
        labels = np.array(_labels(found, trained), np.int32)
    splits = {
        name: None if split is None else _relabeled(split, labels)
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, class_names=tuple(trained), **splits)  # type: ignore[arg-type]


def notes(
    dataset: Dataset, split_hash: str | None, trained: UInt64[np.ndarray, " k"] | None, *, held_out: bool
) -> list[str]:
    """Return a sentence where evaluated images are, or may be, among those that the model was trained on.

    Args:
      dataset: what is evaluated.
      split_hash: of the run's own data; None for weights from elsewhere.
      trained: hash of the content of each image that it was trained on, where that is known.
      held_out: whether validation images are a share of the training images.
    """
    if split_hash == dataset.split_hash:
        return []
    if trained is not None:
        return [
            f"the model was trained on {len(found)} of the {len(split)} {split.name} images, such as {found[0]}: the "
            f"figures of that split are better than those of images that are new to it"
            for split in dataset.splits[1:]
            if (found := split.among(trained))
        ]
    if split_hash is None or dataset.validation is None or not held_out:
        return []
    return [
        f"the images are not those of the run (split {split_hash} there, {dataset.split_hash} here): another share of "
        "them is held out, so that images it was trained on may be among these validation images"
    ]


def _is_numbered(names: Sequence[str]) -> bool:
    return all(name == str(number) for number, name in enumerate(names))


def _labels(names: Sequence[str], trained: Sequence[str]) -> list[int]:
    numbers = {name: number for number, name in enumerate(trained)}
    if (unknown := next((name for name in names if name not in numbers), None)) is not None:
        known = f"{', '.join(trained[:10])}{', …' if len(trained) > 10 else ''}"
        raise UserError(
            f'the data have the class "{unknown}", which the model was not trained on{did_you_mean(unknown, trained)}: '
            f"its classes are {known}"
        )
    return [numbers[name] for name in names]


def _relabeled(split: Split, labels: np.ndarray) -> Split:
    relabeled = copy.copy(split)
    relabeled.labels = labels[split.labels]
    return relabeled
