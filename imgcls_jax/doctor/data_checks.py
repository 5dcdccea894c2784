"""Checks of the data: what is unreadable, duplicated, rare, empty, or other than the settings say."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax import data
from imgcls_jax.data import pixels
from imgcls_jax.data.decode import UnreadableImageError, original_size
from imgcls_jax.data.split import trained_on
from imgcls_jax.doctor.findings import Finding, Subject, check, error, some, warning
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import suspects
from imgcls_jax.record import checkpoint

_FEW = 20  # training images of a class, below which it is hardly learned from scratch
_IMBALANCE = 10  # images of the most frequent class per image of the rarest one
_MAGNIFIED = 4  # times, from which on an image is a blur
_FAR_MEAN = 0.5  # of a normalized channel, which should be 0
_FAR_STD = 3.0  # times too large or too small, of a normalized channel
_SAMPLED_STORED, _SAMPLED_DECODED = 256, 16  # images that a quick look reads
_SAMPLED_BYTES = 2**24


@check(needs=("dataset",), quick=True)
def unreadable(subject: Subject) -> Iterator[Finding]:
    """Images that cannot be decoded."""
    if bad := subject.dataset.bad:
        yield warning(
            f"{len(bad)} image{'s' * (len(bad) > 1)} cannot be read: left out",
            evidence=some([f"{image.path} ({image.reason})" for image in bad]),
            fix="repair or remove the files",
            items=[image.path for image in bad],
        )


@check(needs=("dataset",))
def exact_duplicates(subject: Subject) -> Iterator[Finding]:
    """Images with the same content: twice in a split, under two labels, or in two splits."""
    yield from _duplicates(subject.dataset, subject.same_content, "byte for byte the same", leak=error)


@check(needs=("dataset",))
def near_duplicates(subject: Subject) -> Iterator[Finding]:
    """Images that are nearly the same, such as one photograph saved in two qualities."""
    if not pixels.can_be_compared(subject.dataset.splits):
        return
    # Those of the same content are said already.
    pairs = pixels.near_places(subject.dataset.splits, subject.scans, subject.same_content)
    yield from _duplicates(subject.dataset, pairs, "nearly the same", leak=warning)


@check(needs=("dataset",))
def constant(subject: Subject) -> Iterator[Finding]:
    """Images of one color."""
    for split, scan in zip(subject.dataset.splits, subject.scans, strict=True):
        rows = np.flatnonzero(scan.constant).tolist()
        if rows:
            names = [split.ids[row] for row in rows]
            yield warning(
                f"{len(rows)} {split.name} image{'s have' if len(rows) > 1 else ' has'} the same value in every pixel",
                evidence=some(names),
                fix="look at them; remove those that are empty",
                items=names,
            )


@check(needs=("dataset",))
def tiny(subject: Subject) -> Iterator[Finding]:
    """Images that are much smaller than what the model sees."""
    for split in subject.dataset.splits:
        sides = (split.canvas.height, split.canvas.width)
        names = []
        for row in range(len(split)):
            try:
                height, width = original_size(split.read_original(np.array([row]))[0])
            except UnreadableImageError:
                continue
            if height * _MAGNIFIED < sides[0] or width * _MAGNIFIED < sides[1]:
                names.append(f"{split.ids[row]} ({height}×{width})")
        if names:
            yield warning(
                f"{len(names)} of the {split.name} images become {_MAGNIFIED} times as large, {sides[0]}×{sides[1]}",
                evidence=some(names),
                fix="remove thumbnails and icons, or set a smaller data.canvas and data.image_size",
                items=names,
            )


@check(needs=("dataset",), quick=True, of_classes=True)
def few_images(subject: Subject) -> Iterator[Finding]:
    """Classes of few training images, and classes that an evaluation lacks."""
    names = subject.dataset.class_names
    counts = subject.dataset.train.class_counts(len(names))
    rare = [f"{names[k]} ({counts[k]})" for k in np.argsort(counts, kind="stable") if counts[k] < _FEW]
    if rare:
        yield warning(
            f"{len(rare)} of {len(names)} classes have fewer than {_FEW} training images",
            evidence=some(rare),
            fix="add images, start from published weights (transfer.init_from), or merge classes",
            items=rare,
        )
    for split in subject.dataset.splits[1:]:
        absent = [names[k] for k in np.flatnonzero(split.class_counts(len(names)) == 0)]
        if absent:
            yield warning(
                f"the {split.name} split lacks {len(absent)} of {len(names)} classes: its figures say nothing of them",
                evidence=some(absent),
                fix=f"add images of them, or leave the {split.name} split out and set data.{split.name}_share",
                items=absent,
            )


@check(needs=("dataset",), quick=True, of_classes=True)
def imbalance(subject: Subject) -> Iterator[Finding]:
    """Classes of very different size, where nothing makes up for it."""
    config, names = subject.config, subject.dataset.class_names
    if subject.settings.sampling == "balanced" or (config is not None and config.loss.balances_classes()):
        return
    counts = subject.dataset.train.class_counts(len(names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] >= _IMBALANCE * max(counts[least], 1):
        yield warning(
            f"the largest class has {counts[most] / max(counts[least], 1):.0f} times the images of the smallest",
            evidence=f"{names[most]} {counts[most]}, {names[least]} {counts[least]}",
            fix='--config.data.sampling=balanced, or a loss with class_weights="balanced"; and judge by '
            "BalancedAccuracy in metrics",
        )


@check(needs=("config", "dataset"), quick=True)
def normalization(subject: Subject) -> Iterator[Finding]:
    """Mean and standard deviation that are not those of the images."""
    if subject.config.transfer.init_from is not None:
        return  # then those of the weights are right
    split, settings = subject.dataset.train, subject.settings
    if subject.quick:
        mean, std = _sample_statistics(split)
    else:
        mean, std = data.channel_statistics(split)
    shift = (mean - np.array(settings.mean)) / np.array(settings.std)
    factor = std / np.array(settings.std)
    if (abs(shift) > _FAR_MEAN).any() or (factor > _FAR_STD).any() or (factor * _FAR_STD < 1).any():
        right = f"mean={_tuple(mean)}, std={_tuple(np.where(std > 0, std, 1))}"  # a std must be above 0
        yield warning(
            "data.mean and data.std are far from those of the images, so that the network does not see values around 0 "
            "with a spread around 1",
            evidence=f"settings mean={_tuple(settings.mean)}, std={_tuple(settings.std)}; images {right}",
            fix=f"set {right} in c.Data (imgcls stats computes them)",
        )


@check(needs=("config", "dataset", "plan"))
def class_order(subject: Subject) -> Iterator[Finding]:
    """An output layer that is loaded from a run whose classes are others, or in another order."""
    source, prefix = subject.config.transfer.init_from, subject.config.model.head_prefix
    loaded = any(row.path.startswith(prefix) and row.source == "loaded" for row in subject.plan.rows)
    if source is None or not loaded or not (Path(source) / "config.json").is_file():
        return
    with checkpoint.of_run(Path(source)) as checkpoints:
        document = checkpoints.newest_sound(checkpoints.run, lambda _: None)  # damage is said where the run is loaded
    assert document is not None, "there is a checkpoint"
    theirs = document["card"]["class_names"]
    ours = list(subject.dataset.class_names)
    wrong = [f"output {i} is {a} there, {b} here" for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
    if wrong:
        same = sorted(theirs) == sorted(ours)
        yield error(
            f"the loaded output layer is that of {'the same classes in another order' if same else 'other classes'}",
            evidence=some(wrong),
            fix=f"--config.transfer.replace='(\"{prefix}*\",)' gives the classes new outputs",
            items=wrong,
        )


@check(needs=("config", "dataset"), quick=True)
def trained_before(subject: Subject) -> Iterator[Finding]:
    """Validation or test images that the run whose weights are loaded was trained on."""
    source = subject.config.transfer.init_from
    trained = trained_on(Path(source)) if source is not None else None
    if trained is None:
        return
    for part in subject.dataset.splits[1:]:
        if found := part.among(trained):
            yield warning(
                f"the run whose weights are loaded was trained on {len(found)} of the {len(part)} {part.name} images",
                evidence=some(found),
                fix="hold out the images that it held out (the same data, data.validation_share and data.split_seed), "
                "or others: of images that are known the figures are too good",
                items=found,
            )


@check(needs=("predictions", "dataset"), quick=True, of_classes=True)
def wrong_labels(subject: Subject) -> Iterator[Finding]:
    """Images whose label is probably wrong, by confident learning on what a run predicted."""
    known = {id for split in subject.dataset.splits for id in split.ids}
    for made in subject.predictions:
        if gone := [name for name in made.names if name not in known]:
            yield warning(
                f"{len(gone)} of the {len(made)} {made.split} images that were predicted are not among the data",
                evidence=some(gone),
                fix="give the run of these data to --labels, or predict them anew by imgcls evaluate",
                items=gone,
            )
        found = [one for one in suspects.wrong_labels(made) if one.name in known] if made.is_finite else []
        if found:
            items = [f"{one.name} ({one.class_name}, rather {one.suggested})" for one in found]
            yield warning(
                f"{len(found)} of {len(made)} {made.split} images probably have a wrong label",
                evidence=some(items),
                fix="look at them, and correct the labels that are wrong; imgcls suspects --csv lists them all",
                items=items,
            )


def _duplicates(
    dataset: data.Dataset, groups: list[list[pixels.Place]], alike: str, leak: Callable[..., Finding]
) -> Iterator[Finding]:
    """Make the findings of groups of images that are alike; `leak` makes that of images in several splits."""
    splits = dataset.splits

    def name(place: pixels.Place) -> str:
        split, row = splits[place[0]], place[1]
        return f"{split.name}:{split.ids[row]}"

    across, mislabeled, within = [], [], []
    for group in groups:
        labels = {splits[number].labels[row].tobytes() for number, row in group}
        if len({number for number, _ in group}) > 1:
            across.append(group)
        if len(labels) > 1:
            mislabeled.append(group)
        if group not in (across[-1:] + mislabeled[-1:]):
            within.append(group)
    for kind, make, what, fix in (
        (across, leak, "in several splits", "keep one of each: what a model was trained on tells nothing in a test"),
        (mislabeled, warning, "under several labels", "keep the one with the right label"),
        (within, warning, "several times in a split", "keep one of each"),
    ):
        if kind:
            items = [" = ".join(map(name, group)) for group in kind]
            times = f"{len(kind)} image{'s are' if len(kind) > 1 else ' is'}"
            yield make(f"{times} {what}, {alike}", evidence=some(items), fix=fix, items=items)


def _sample_statistics(split: data.Split) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over a few images, evenly spread over the split."""
    stored = split.storage != "decoded in every epoch"
    canvas = split.canvas
    most = max(1, _SAMPLED_BYTES // canvas.nbytes)
    count = min(len(split), _SAMPLED_STORED if stored else _SAMPLED_DECODED, most)
    try:
        images = split.read(np.arange(count) * len(split) // count).reshape(-1, canvas.channels) / canvas.white
    except UserError:  # an image that no longer is readable ends the run where it is needed
        return np.zeros(canvas.channels), np.ones(canvas.channels)
    return images.mean(0), images.std(0)


def _tuple(values: Sequence[float] | np.ndarray) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)}{',' if len(values) == 1 else ''})"
