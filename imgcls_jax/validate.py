"""Impossible combinations of settings, found before any data is read."""

from imgcls_jax import augment, models
from imgcls_jax import config as c
from imgcls_jax import data as images
from imgcls_jax.errors import UserError
from imgcls_jax.optim import schedules


def validate(config: c.Config, devices: int) -> None:
    """Raise UserError for the first setting that contradicts another one or the number of devices."""
    _batches(config, devices)
    _images(config.data)
    _splits(config)
    _test_views(config)
    sigmoid = getattr(getattr(config.model, "head", None), "sigmoid", False)
    _loss(config, sigmoid)
    schedules.check(config.optim, config.epochs)
    augment.check(
        config.augment,
        epochs=config.epochs,
        canvas=(config.data.canvas.height, config.data.canvas.width),
        image_size=config.data.image_size,
        channels=config.data.canvas.channels,
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


def _images(data: c.Data) -> None:
    channels = data.canvas.channels
    for name, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != channels:
            raise UserError(f"data.{name} has {len(values)} values, but data.canvas has {channels} channel(s)")
    if any(not 0 <= m <= 1 for m in data.mean):
        raise UserError(f"data.mean = {data.mean} must lie in [0, 1], where 0 is black and 1 is white")
    if any(s > 1 for s in data.std):
        raise UserError(f"data.std = {data.std} must lie in (0, 1], on the scale where 0 is black and 1 is white")
    for name, canvas in (("canvas", data.canvas), ("eval_canvas", data.eval_canvas)):
        if canvas is None:
            continue
        if canvas.channels != channels:
            raise UserError(f"data.{name} has {canvas.channels} channel(s) and data.canvas has {channels}")
        height, width = data.image_size
        if height > canvas.height or width > canvas.width:
            raise UserError(
                f"data.image_size = {height}×{width} is larger than data.{name} = {canvas.height}×{canvas.width}: "
                f"make the canvas at least as large"
            )


def _splits(config: c.Config) -> None:
    source, data = config.data.source, config.data
    if isinstance(source, c.TFDS):
        if source.validation and data.validation_share:
            raise UserError(
                f"data.source.validation = {source.validation!r} and data.validation_share = {data.validation_share} "
                f"both name validation images: set one of them to None or 0"
            )
        if source.test and data.test_share:
            raise UserError(
                f"data.source.test = {source.test!r} and data.test_share = {data.test_share} "
                f"both name test images: set one of them to None or 0"
            )


def _test_views(config: c.Config) -> None:
    canvas, size = config.data.eval_canvas or config.data.canvas, config.data.image_size
    if config.test_views in ("five_crop", "ten_crop") and (canvas.height, canvas.width) == size:
        raise UserError(
            f"test_views = {config.test_views!r} would cut the same {size[0]}×{size[1]} pixels five times, because "
            f"test canvases are no larger: set a larger data.eval_canvas, or test_views to 'flip'"
        )


def _loss(config: c.Config, sigmoid: bool) -> None:
    if sigmoid and not isinstance(config.loss, c.BinaryCrossEntropy):
        raise UserError(
            f"model.head.sigmoid gives one logit, which {type(config.loss).__name__} cannot use: "
            f"set loss to BinaryCrossEntropy, or head.sigmoid to False"
        )
    if config.data.sampling == "balanced" and getattr(config.loss, "class_weights", "none") == "balanced":
        raise UserError(
            'data.sampling and loss.class_weights are both "balanced", which would raise rare classes twice: '
            'set data.sampling to "shuffle", or loss.class_weights to "none"'
        )


def validate_data(config: c.Config, dataset: images.Dataset) -> None:
    """Raise UserError for the first setting that the data, once read, contradicts."""
    if len(dataset.train) < config.batch_size:
        raise UserError(
            f"batch_size = {config.batch_size} is larger than the training set of {len(dataset.train)} images: lower it"
        )
    if config.test_views and dataset.test is None:
        raise UserError("test_views needs test images: set data.test_share, or do without it")
    classes = len(dataset.class_names)
    if (outputs := models.num_outputs(config.model, classes)) < classes:
        raise UserError(f"model.num_outputs = {outputs}, but the data has {classes} classes: raise it or leave it out")
    if dataset.validation is None:
        needs = {"early_stopping": config.early_stopping is not None}
        needs["ReduceOnPlateau"] = isinstance(config.optim.schedule.shape, c.ReduceOnPlateau)
        for name in (name for name, needed in needs.items() if needed):
            raise UserError(f"{name} needs validation images: set data.validation_share, or do without it")
