"""Impossible combinations of settings, found before any data is read."""

from imgcls_jax import augment
from imgcls_jax import config as c
from imgcls_jax import data as images
from imgcls_jax.augment import test_time
from imgcls_jax.config.registry import components
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import metrics, tasks
from imgcls_jax.optim import checks
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import evaluators
from imgcls_jax.training.callbacks import loggers

_LOSSES = {"classes": "CrossEntropy", "labels": "MultiLabel", "numbers": "MSE or Huber"}


def validate(config: c.Config, devices: int) -> None:
    """Raise UserError for the first setting that contradicts another one or the number of devices."""
    sigmoid = getattr(getattr(config.model, "head", None), "sigmoid", False)
    _batches(config, devices)
    _mixing(config)
    _loss(config, sigmoid)
    _task(config, sigmoid)
    images.check(config.data)
    test_time.check(config.data, config.test_views)
    checks.check(config.optim, config.epochs)
    metrics.check(config)
    evaluators.check(config)
    loggers.check(config.logging)
    augment.check(
        config.augment,
        epochs=config.epochs,
        canvas=(config.data.canvas.height, config.data.canvas.width),
        image_size=config.data.image_size,
        channels=config.data.canvas.channels,
        depth=config.data.canvas.depth,
        sigmoid=sigmoid,
    )


def _batches(config: c.Config, devices: int) -> None:
    sizes = {"batch_size": config.batch_size}
    if config.eval_batch_size is not None:
        sizes["eval_batch_size"] = config.eval_batch_size
    for name, size in sizes.items():
        if size % devices:
            raise UserError(
                f"{name} = {size} cannot be shared equally by {devices} devices: "
                f"take {max(size // devices, 1) * devices} or {(size // devices + 1) * devices}"
            )
    parts = config.optim.accumulate
    if config.batch_size % (parts * devices):
        raise UserError(
            f"batch_size = {config.batch_size} cannot be split into optim.accumulate = {parts} equal parts "
            f"on {devices} device(s): take a multiple of {parts * devices}"
        )
    meshes.batch_groups(config.bn_group, devices)


def _mixing(config: c.Config) -> None:
    """Mixup and CutMix take an image's partner from the images that are computed together."""
    together = config.batch_size // config.optim.accumulate
    mixing = [type(part).__name__ for part in components(config.augment) if isinstance(part, c.Mixup | c.CutMix)]
    if mixing and together == 1:
        raise UserError(
            f"{mixing[0]} mixes the images of a batch, and {_parts(config)}: raise it, or leave {mixing[0]} out"
        )


def _parts(config: c.Config) -> str:
    parts = config.optim.accumulate
    return f"batch_size = {config.batch_size}" + (f" in optim.accumulate = {parts} parts" if parts > 1 else "")


def _loss(config: c.Config, sigmoid: bool) -> None:
    if sigmoid and not config.loss.sigmoid:
        raise UserError(
            f"model.head.sigmoid gives one logit, which {type(config.loss).__name__} cannot use: "
            f"set loss to BinaryCrossEntropy, or head.sigmoid to False"
        )
    if config.data.sampling == "balanced" and config.loss.balances_classes():
        raise UserError(
            'data.sampling and loss.class_weights are both "balanced", which would raise rare classes twice: '
            'set data.sampling to "shuffle", or loss.class_weights to "none"'
        )


def _task(config: c.Config, sigmoid: bool) -> None:
    """Parts that make no sense for several labels per image, or for numbers."""
    task, loss = config.loss.task, type(config.loss).__name__
    if task == "classes":
        return
    if sigmoid:
        raise UserError(
            f"model.head.sigmoid is one output for two classes, and {loss} needs one for each of its {task}: set it "
            "to False"
        )
    if config.data.sampling == "balanced":
        raise UserError(
            f'data.sampling = "balanced" draws equally many images of each class, but with {loss} an image has '
            f'{task}: set it to "shuffle"'
        )
    cut = [part for part in components(config.augment) if isinstance(part, c.CutMix | c.MixupOrCutMix)]
    if cut and task == "numbers":
        raise UserError(
            f"{type(cut[0]).__name__} shares labels by area, which numbers to predict ({loss}) do not follow: take "
            "Mixup, or leave it out"
        )


def _labels(config: c.Config, dataset: images.Dataset) -> None:
    """The data's labels are what the loss compares with, and each of several is there."""
    task, loss = config.loss.task, type(config.loss).__name__
    found = tasks.of_labels(dataset.train.labels)
    if found != task:
        raise UserError(
            f"the data have {tasks.NAMES[found]}, but {loss} is a loss for {tasks.NAMES[task]}: set loss to "
            f"{_LOSSES[found]}, or give other labels (docs/tasks.md)"
        )
    outputs = config.model.output_classes(len(dataset.class_names))
    if task != "classes" and outputs != len(dataset.class_names):
        raise UserError(
            f"model.num_outputs = {outputs}, but {loss} needs {len(dataset.class_names)}, one for each of the "
            f"{task}: leave it out"
        )
    if task == "labels":
        counts = dataset.train.class_counts(outputs)
        for count, why in ((0, "no"), (len(dataset.train), "every")):
            if (counts == count).any():
                name = dataset.class_names[int((counts == count).argmax())]
                raise UserError(f'{why} training image has the label "{name}": there is nothing to learn, remove it')


def validate_data(config: c.Config, dataset: images.Dataset) -> None:
    """Raise UserError for the first setting that the data, once read, contradicts."""
    if len(dataset.train) < config.batch_size:
        raise UserError(
            f"batch_size = {config.batch_size} is larger than the training set of {len(dataset.train)} images: lower it"
        )
    if config.test_views and dataset.test is None:
        raise UserError("test_views needs test images: set data.test_share, or do without it")
    _labels(config, dataset)
    if config.loss.task == "classes":
        _classes(dataset)
    classes = len(dataset.class_names)
    if (outputs := config.model.output_classes(classes)) < classes:
        raise UserError(f"model.num_outputs = {outputs}, but the data has {classes} classes: raise it or leave it out")
    _always_right(config, outputs)
    if dataset.validation is None:
        needs = {"early_stopping": config.early_stopping is not None and "/" not in config.best.metric}
        needs["evaluate_every_steps"] = config.evaluate_every_steps is not None
        shape = config.optim.schedule.shape
        needs[type(shape).__name__] = shape.watched() is not None
        for name in (name for name, needed in needs.items() if needed):
            raise UserError(f"{name} needs validation images: set data.validation_share, or do without it")


def _classes(dataset: images.Dataset) -> None:
    """Two classes at least; of classes that are numbers, every one."""
    names, counts = dataset.class_names, dataset.train.class_counts(len(dataset.class_names))
    if (counts > 0).sum() < 2:
        only = names[int(counts.argmax())]
        raise UserError(f'all training images are of one class, "{only}": there is nothing to tell it from')
    numbered = all(name == str(number) for number, name in enumerate(names))
    if numbered and (missing := [name for name, count in zip(names, counts.tolist(), strict=True) if not count]):
        raise UserError(
            f"no training image has the label {missing[0]}, but there are labels up to {len(names) - 1}: number the "
            "classes 0, 1, 2, … without gaps, or name them all by label_names"
        )


def _always_right(config: c.Config, outputs: int) -> None:
    """Refuse to choose by the share of images whose class is among the first k where there are no more than k."""
    chosen = {"best.metric": config.best.metric, "optim.schedule.shape": config.optim.schedule.shape.watched() or ""}
    for where, name in chosen.items():
        if metrics.always_right(name, outputs):
            raise UserError(
                f'{where} is "{name}", which is 100 % in every epoch where there are {max(outputs, 2)} classes: take '
                '"top1" or "loss"'
            )
