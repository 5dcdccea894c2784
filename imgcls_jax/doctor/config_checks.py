"""Checks of the settings that are allowed and yet cannot do what they are there for.

What contradicts itself is refused before: `training.validate`, `augment.checks`, `optim.checks`, `weights.plan`.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax.augment.affine import Rotation
from imgcls_jax.augment.flips import AlternatingFlip, HorizontalFlip, VerticalFlip
from imgcls_jax.augment.policy import name_of
from imgcls_jax.data import pixels
from imgcls_jax.doctor.findings import Finding, Subject, check, error, some, warning
from imgcls_jax.evaluation import metrics
from imgcls_jax.optim import plateau, schedules
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.xla import onednn

_IMAGES, _DRAWS = 16, 8  # on which an operation must show an effect
_COMPARED = 2000  # images among which nearest ones are sought
_FEWEST = 5  # images of a class by which it is judged
_TELLS = 0.7  # share of a class's images whose nearest one is of the class: similarity then says something of the label
_LOST = 0.4  # by which that share falls where an operation changes the label
_SMALL_PART = 8  # images over which BatchNorm's statistics are mostly noise
_FAR_RATE = 3.0  # times above the range test's rate; and ten times that below it


@check(needs=("config", "dataset"))
def augmentation_without_effect(subject: Subject) -> Iterator[Finding]:
    """Operations that leave real images as they are."""
    train, config = subject.dataset.train, subject.config
    rows = np.arange(min(_IMAGES, len(train))) * len(train) // min(_IMAGES, len(train))
    images, labels, aspect = map(jnp.asarray, (train.read(rows), train.labels[rows], train.aspect[rows]))

    def run(policy: c.Policy, epoch: int) -> list[tuple[np.ndarray, ...]]:
        function = augment.build(
            policy,
            epoch=epoch,
            image_size=config.data.image_size,
            mean=config.data.mean,
            std=config.data.std,
            num_classes=len(subject.dataset.class_names),
            fit=config.data.canvas.fit,
        )
        keys = jax.random.split(jax.random.key(0), _DRAWS)
        index = jnp.asarray(rows, jnp.int32)
        one = jax.jit(lambda key: function(key, images, labels, aspect, jnp.int32(epoch), index))
        return [jax.tree.map(np.asarray, one(key)) for key in keys]

    for place, op in enumerate(config.augment):
        plain, changed = run((), op.from_epoch)[0], run((op,), op.from_epoch)
        if all(np.allclose(a, b, atol=1e-4) for drawn in changed for a, b in zip(drawn, plain, strict=True)):
            yield warning(
                f"{name_of(place, op)} changes nothing",
                evidence=f"{_DRAWS} draws of {len(rows)} training images are what they were",
                fix=f"remove it from augment, or raise its strength ({_settings(op)})",
            )


@check(needs=("config", "dataset"), of_classes=True)
def augmentation_against_labels(subject: Subject) -> Iterator[Finding]:
    """Flips and turns after which an image looks like one of another class, as a mirrored arrow does."""
    dataset, names = subject.dataset, subject.dataset.class_names
    for place, op in enumerate(subject.config.augment):
        if isinstance(op, HorizontalFlip | AlternatingFlip):
            what, change = "mirrored", lambda x: x[:, :, ::-1]
        elif isinstance(op, VerticalFlip):
            what, change = "upside down", lambda x: x[:, ::-1]
        elif isinstance(op, Rotation) and op.degrees > 135:
            what, change = "turned by 180 degrees", lambda x: x[:, ::-1, ::-1]
        else:
            continue
        count = min(_COMPARED, len(dataset.train))
        rows = np.arange(count) * len(dataset.train) // count
        small, labels = pixels.thumbnails(dataset.train, rows), dataset.train.labels[rows]
        before, after = (pixels.nearest_labels(x, small, labels) for x in (small, change(small)))
        for k, name in enumerate(names):
            own = labels == k
            if own.sum() < _FEWEST:
                continue
            right, still = (before[own] == k).mean(), (after[own] == k).mean()
            if right >= _TELLS and still <= right - _LOST:
                other = int(np.bincount(after[own & (after != k)]).argmax())
                yield warning(
                    f'{name_of(place, op)} changes what images of the class "{name}" show',
                    evidence=f'{right:.0%} of them look most like others of "{name}", but {what} only {still:.0%}, and '
                    f'then often like "{names[other]}"',
                    fix=f"remove {name_of(place, op)} from augment",
                )


@check(needs=("config", "dataset"), quick=True)
def mirrored_names(subject: Subject) -> Iterator[Finding]:
    """Mirror images where class names say left and right."""
    flips = [
        name_of(place, op)
        for place, op in enumerate(subject.config.augment)
        if isinstance(op, HorizontalFlip | AlternatingFlip)
    ]
    known = {name.lower(): name for name in subject.dataset.class_names}
    pairs = []
    for name in known:
        other = re.sub(r"(?<![a-z])left(?![a-z])", "right", name)
        if other != name and other in known:
            pairs.append(f"{known[name]} and {known[other]}")
    if flips and pairs:
        yield warning(
            f"{flips[0]} turns left into right, and classes differ by that",
            evidence=some(pairs),
            fix=f"remove {flips[0]} from augment",
        )


@check(needs=("config", "dataset"), quick=True)
def phases_that_never_come(subject: Subject) -> Iterator[Finding]:
    """Settings whose time is after the end of training."""
    config, steps = subject.config, subject.steps_per_epoch
    total = config.epochs * steps if config.max_steps is None else min(config.max_steps, config.epochs * steps)
    epochs = math.ceil(total / steps)
    schedule = schedules.fit(config.optim.schedule, config.epochs)
    shape, after = schedule.shape, epochs - schedule.warmup_epochs
    late: list[tuple[str, int, int, str]] = [  # (setting, its time, the end, unit)
        (f"{name_of(place, op)}.from_epoch", op.from_epoch, epochs - 1, "epoch")
        for place, op in enumerate(config.augment)
    ]
    late += [(f"transfer.unfreeze {u.pattern}", u.from_epoch, epochs - 1, "epoch") for u in config.transfer.unfreeze]
    if config.optim.swa is not None:
        late.append(("optim.swa.from_epoch", config.optim.swa.from_epoch, epochs - 1, "epoch"))
    if isinstance(shape, schedules.MultiStep):
        late += [("optim.schedule.shape.at", at, after - 1, "epoch after the warm-up") for at in shape.at]
    if isinstance(shape, schedules.Step):
        late.append(("optim.schedule.shape.every", shape.every, after - 1, "epoch after the warm-up"))
    if isinstance(shape, plateau.ReduceOnPlateau):
        late.append(("optim.schedule.shape.patience", shape.patience, after - 2, "epoch after the warm-up"))
    if config.early_stopping is not None:
        late.append(("early_stopping.patience", config.early_stopping.patience, epochs - 1, "epoch"))
    for name in ("save_every_steps", "evaluate_every_steps", "log_every_steps"):
        if (every := getattr(config, name)) is not None:
            late.append((name, every, total, "step"))
    for name, time, end, unit in late:
        if time > end:
            yield warning(
                f"{name} = {time} never takes effect",
                evidence=f"the last {unit} in which it could is {max(end, 0)} of {epochs} epochs of {steps} steps",
                fix="lower it, remove it, or train longer (epochs, max_steps)",
            )


@check(needs=("plan",), quick=True)
def frozen_random(subject: Subject) -> Iterator[Finding]:
    """Parameters that stay at random values; without `allow_frozen_random` they are refused."""
    never = [row for row in subject.plan.rows if row.source in ("random", "replaced") and row.trains_from is None]
    if never:
        count = sum(row.size for row in never)
        yield warning(
            f"{len(never)} tensors ({count:,} parameters) are frozen at random values",
            evidence=some([row.path for row in never]),
            fix="load them (transfer.init_from), or let them train (transfer.freeze, train_last)",
            items=[row.path for row in never],
        )


@check(needs=("config",), quick=True)
def cycle_cut_off(subject: Subject) -> Iterator[Finding]:
    """Cosines that do not end at their foot, so that training ends at a high learning rate."""
    config = subject.config
    schedule = schedules.fit(config.optim.schedule, config.epochs)
    shape, length = schedule.shape, config.epochs - schedule.warmup_epochs
    if isinstance(shape, schedules.CosineRestarts):
        cycle, end = shape.first, shape.first
        before = 0
        while end < length:
            cycle *= shape.multiply
            before, end = end, end + cycle
        ends = [e for e in (before, end) if e > 0]
    elif isinstance(shape, schedules.Cosine) and shape.epochs is not None:
        end, ends = shape.epochs, [shape.epochs]
    else:
        return
    if end != length:
        rates = schedules.build(config.optim.schedule, steps_per_epoch=100, epochs=config.epochs).table
        choices = " or ".join(f"--config.epochs={schedule.warmup_epochs + e}" for e in ends)
        yield warning(
            f"training ends in the middle of a cycle of {type(shape).__name__}",
            evidence=f"the last learning rate is {rates[-1]:.2g}, of a peak of {schedule.peak:.2g}",
            fix=choices,
        )


@check(needs=("config",), quick=True)
def long_warmup(subject: Subject) -> Iterator[Finding]:
    """A warm-up that takes most of training."""
    config = subject.config
    warmup = config.optim.schedule.warmup_epochs
    steps = None if subject.dataset is None else subject.steps_per_epoch
    if warmup >= config.epochs:
        if subject.quick:
            return  # the run says by how much it is shortened
        evidence = f"optim.schedule.warmup_epochs = {warmup}, epochs = {config.epochs}: it is shortened"
    elif config.max_steps is not None and steps is not None and warmup * steps >= config.max_steps:
        evidence = f"{warmup} epochs of warm-up are {warmup * steps} steps, max_steps = {config.max_steps}"
    elif 2 * warmup > config.epochs:
        evidence = f"optim.schedule.warmup_epochs = {warmup} of {config.epochs} epochs"
    else:
        return
    yield warning(
        "the warm-up takes most of training",
        evidence=evidence,
        fix=f"--config.optim.schedule.warmup_epochs={min(config.epochs // 10, warmup)}",
    )


@check(needs=("config", "recommended_rate"))
def learning_rate(subject: Subject) -> Iterator[Finding]:
    """A peak that is far from what the range test recommends."""
    peak, best = subject.config.optim.schedule.peak, subject.recommended_rate
    if best / (10 * _FAR_RATE) <= peak <= best * _FAR_RATE:
        return
    yield warning(
        f"the learning rate is {peak / best:.2g} times what the range test recommends",
        evidence=f"optim.schedule.peak = {peak:.2g}, range test {best:.2g}",
        fix=f"--config.optim.schedule.peak={best:.1e} (imgcls tune lr shows the curve)",
    )


@check(needs=("config", "plan", "mesh"), quick=True)
def small_batch_norm(subject: Subject) -> Iterator[Finding]:
    """BatchNorm over so few images that its statistics are noise."""
    config = subject.config
    groups = meshes.batch_groups(config.bn_group, subject.mesh.size)
    part = config.batch_size // config.optim.accumulate // groups
    grouped = f", bn_group = {config.bn_group} of {subject.mesh.size} devices" if groups > 1 else ""
    if subject.plan.statistics and config.transfer.batch_norm.normalize_by == "batch" and part < _SMALL_PART:
        yield warning(
            f"BatchNorm normalizes over {part} image{'s' * (part > 1)} at a time",
            evidence=f"batch_size = {config.batch_size}, optim.accumulate = {config.optim.accumulate}{grouped}; "
            f"{len(subject.plan.statistics) // 2} BatchNorm layers",
            fix=f"a batch_size of at least {_SMALL_PART * config.optim.accumulate * groups}, or"
            f"{' a larger bn_group, or' if groups > 1 else ''}, with loaded weights, "
            "--config.transfer.batch_norm.normalize_by=running",
        )


@check(needs=("config", "mesh"), quick=True)
def precision(subject: Subject) -> Iterator[Finding]:
    """Arithmetic that the device does not have."""
    device, wanted = subject.mesh.devices.flat[0], subject.config.precision
    fix = "--config.precision=bf16, or fp32"
    if device.platform == "cpu":
        fix = "--config.precision=fp32"
        if onednn.missing(wanted, subject.mesh.size) is None:
            if subject.config.cpu_convolutions == "onednn":
                return
            fix += ", or --config.cpu_convolutions=onednn"
    if problem := lacks(device.platform, getattr(device, "compute_capability", None), wanted):
        yield warning(f"{device.device_kind} {problem}", evidence=f"precision = {wanted} on {device.platform}", fix=fix)


def lacks(platform: str, capability: str | None, wanted: str) -> str | None:
    """Say what a device lacks for a precision; None: nothing.

    Args:
      platform: "cpu", "gpu" or "tpu".
      capability: of an NVIDIA GPU, such as "7.5".
      wanted: "fp32", "bf16" or "fp16".
    """
    if wanted == "fp32":
        return None
    if platform == "cpu":
        return f"computes {wanted} by way of fp32, which is slower than fp32 itself"
    if platform == "tpu" and wanted == "fp16":
        return "has no fp16 arithmetic; its own half precision is bf16"
    if platform in ("gpu", "cuda") and capability is not None:
        needed = 8.0 if wanted == "bf16" else 7.0
        if re.fullmatch(r"\d+\.\d+", capability) and float(capability) < needed:
            return f"(compute capability {capability}) has no {wanted} matrix units, which need {needed}"
    return None


@check(needs=("config", "dataset"), quick=True)
def metric_that_cannot_move(subject: Subject) -> Iterator[Finding]:
    """A deciding metric that is the same after every epoch."""
    config, classes = subject.config, len(subject.dataset.class_names)
    outputs = config.model.output_classes(classes)
    watched = {"best.metric": config.best.metric}
    if (name := config.optim.schedule.shape.watched()) is not None:
        watched[f"optim.schedule.shape ({type(config.optim.schedule.shape).__name__})"] = name
    for where, name in watched.items():
        if metrics.always_right(name, outputs):
            yield error(
                f'{where} is "{name}", which is 100 % for any network',
                evidence=f"the data has {classes} classes, so that the right one is always among so many",
                fix="--config.best.metric=top1, or loss"
                if where == "best.metric"
                else "--config.optim.schedule.shape.metric=loss",
            )


def _settings(op: c.Augmentation) -> str:
    fields = [f.name for f in dataclasses.fields(op) if f.name not in ("from_epoch", "until_epoch")]  # type: ignore[arg-type]
    return ", ".join(f"{name}={getattr(op, name)!r}" for name in fields) or "it has no settings"
