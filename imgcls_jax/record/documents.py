"""The documents that a run writes: their fields, and the version of their layout.

Each is a JSON object with "schema", the version. A reader calls `check` first, so that a file of another version ends
in one sentence.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError

SCHEMA = 1
"""Version of all documents; raised whenever a field changes its name or meaning."""

Figures = dict[str, float]
"""The metrics of one split: "loss", "top1", "top5" (shares of correct predictions in [0, 1]), those of
`Config.metrics`, and "count", the number of examples. Not finite, it is null in a file (`record.strict`)."""


class EpochRecord(TypedDict):
    """One epoch: a line of metrics.jsonl, and an entry of a run's history."""

    schema: int
    kind: Literal["epoch"]
    epoch: int
    """Counted from 0."""
    step: int
    """Optimizer steps taken since the start of the run."""
    learning_rate: float
    """Of the last step."""
    train: Figures
    """Over the epoch's batches as they were trained on, augmented and under the parameters of the moment."""
    validation: Figures | None
    """None without validation images."""
    evaluators: dict[str, Figures]
    """Of the named evaluators that were due."""
    images_per_second: float
    waited_for_data: float
    """Share of the epoch's time in which the device waited for images."""
    seconds: float
    """Time spent training since the start of the run, over all its interruptions."""
    loss_scale: NotRequired[float]
    """Under fp16."""
    skipped_steps: NotRequired[int]
    """Under fp16: steps skipped because gradients overflowed, since the start."""
    figures: NotRequired[dict[str, Any]]
    """What callbacks added."""


class EvaluationRecord(TypedDict):
    """An evaluation inside an epoch: a line of metrics.jsonl."""

    schema: int
    kind: Literal["evaluation"]
    epoch: int
    step: int
    validation: Figures | None
    evaluators: dict[str, Figures]


class StepRecord(TypedDict):
    """The figures of one step: a line of metrics.jsonl."""

    schema: int
    kind: Literal["step"]
    epoch: int
    step: int
    """Steps taken since the start, this one included."""
    learning_rate: float
    loss: float
    """Mean over the epoch so far."""
    top1: NotRequired[float]
    """Mean over the epoch so far, where each image has one class."""
    gradient_norm: float
    """Euclidean norm of the gradient of all trained parameters, before clipping."""
    parameter_norm: float
    """Euclidean norm of all trained parameters, before the step."""
    update_ratio: float
    """Norm of the change of the parameters by the step, over `parameter_norm`."""


class Result(TypedDict):
    """What a run came to: result.json, and what `train` returns."""

    schema: int
    workdir: str
    validation: Figures | None
    """Of the best epoch."""
    test: Figures | None
    """Of the best epoch's parameters; None without test images."""
    evaluators: dict[str, Figures]
    """Of the best epoch's parameters, by every named evaluator."""
    epochs: int
    """Epochs trained, the last one perhaps in part."""
    best_epoch: int
    """Counted from 0."""
    seconds: float
    """Time spent training."""
    stopped: str | None
    """Why the run ended before its last epoch; None if it did not."""
    history: list[EpochRecord]


class Evaluation(TypedDict):
    """The figures of a trained model on the splits of its data, or of other data: evaluation.json."""

    schema: int
    validation: Figures | None
    """None without validation images."""
    test: Figures | None
    """None without test images."""
    views: dict[str, str]
    """How each split was seen: "center", or a kind of `Config.test_views`."""
    notes: NotRequired[list[str]]
    """Sentences on what these figures do not tell."""


class Preprocessing(TypedDict):
    """What an image goes through before the model sees it in evaluation."""

    canvas: tuple[int, int]
    """Height and width to which an image is decoded and fitted, pixels."""
    channels: int
    fit: str
    """How an image of another shape fits the canvas: see `config.Canvas.fit`."""
    interpolation: str
    jpeg_decoding: str
    """Whether every pixel of a JPEG is decoded: see `config.Canvas.jpeg_decoding`."""
    image_size: tuple[int, int]
    """Height and width of the center that the model sees, pixels."""
    mean: tuple[float, ...]
    """Of each channel, on the scale where black is 0 and white is 1."""
    std: tuple[float, ...]


class ModelCard(TypedDict):
    """What travels with the parameters in every checkpoint: all that is needed to use the model."""

    schema: int
    config: dict[str, Any]
    """The document of `config.io.document`."""
    class_names: list[str]
    """By label."""
    preprocessing: Preprocessing
    split_hash: str | None
    """Identifies the images of all splits and their labels; None for weights from elsewhere."""
    thresholds: NotRequired[list[float]]
    """Of several labels per image: the probability from which on each is predicted, tuned on validation images."""
    calibration: NotRequired[dict[str, Any]]
    """How far probabilities can be trusted: the fields of `evaluation.calibration.Calibration`."""


class CheckpointDocument(TypedDict):
    """What a checkpoint holds besides arrays: all that resuming exactly, or using the model, needs."""

    schema: int
    epoch: int
    """The epoch in which training goes on, counted from 0."""
    step: int
    """Steps of that epoch that are done."""
    history: list[EpochRecord]
    recoveries: int
    """How often the run has gone back from a loss that was not finite."""
    anchors: NotRequired[list[int]]
    """Steps of the checkpoints to which recovery may return, the newest first; they are kept."""
    recovered_epochs: NotRequired[list[int]]
    """The epochs in which the run went back, counted from 0, in the order of time."""
    learning_rate_factor: float
    """Product of the callbacks' factors on the schedule's learning rate."""
    figures: dict[str, Any]
    """What callbacks have logged in the epoch under way."""
    best: int | None
    """Step of the best checkpoint."""
    seconds: float
    """Time spent training."""
    stopped: str | None
    """Why training ended before its last epoch."""
    callbacks: dict[str, dict[str, Any]]
    """The state of each callback that has one."""
    batch_groups: NotRequired[int]
    """Parts of a batch that BatchNorm normalizes each by itself; with it the run goes on, on however many devices."""
    card: ModelCard


def preprocessing(settings: c.Data) -> Preprocessing:
    """Return what an image goes through before the model sees it in evaluation."""
    canvas = settings.eval_canvas or settings.canvas
    return {
        "canvas": (canvas.height, canvas.width),
        "channels": canvas.channels,
        "fit": canvas.fit,
        "interpolation": canvas.interpolation,
        "jpeg_decoding": canvas.jpeg_decoding,
        "image_size": settings.image_size,
        "mean": settings.mean,
        "std": settings.std,
    }


def model_card(config: c.Config, class_names: Sequence[str], split_hash: str | None) -> ModelCard:
    """Make the model card of a config's network."""
    return {
        "schema": SCHEMA,
        "config": files.document(config),
        "class_names": list(class_names),
        "preprocessing": preprocessing(config.data),
        "split_hash": split_hash,
    }


def check(document: Any, what: str) -> None:
    """Raise UserError unless this version can read a document.

    Args:
      document: as read from a file.
      what: names the file in the message.
    """
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if schema != SCHEMA:
        found = f"has schema {schema}" if schema is not None else "has no schema"
        raise UserError(
            f"{what} {found}, and this version of imgcls_jax reads schema {SCHEMA}: "
            f"use the version that wrote it, or train again"
        )


def check_fields(document: Any, kind: Any, what: str) -> Any:
    """Raise UserError unless a document has the fields of its kind, with values of their types.

    Args:
      document: as `strict.decode` gives it.
      kind: one of the classes above, or a dataclass of a document's fields.
      what: names the file in the message.

    Returns:
      The document, or an object of the dataclass.
    """
    try:
        return _adapter(kind).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{what} is damaged{f', at {place}' if place else ''}: {first['msg']}") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)
