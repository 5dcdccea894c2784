"""Open an exported file to serve it: it must be whole, and compute here what it computed where it was written."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from imgcls_jax.config.data import Canvas
from imgcls_jax.data import canvas as canvases
from imgcls_jax.data.decode import TooManyPixelsError, UnreadableImageError
from imgcls_jax.errors import UserError
from imgcls_jax.export import batches, standalone


class BadImageError(Exception):
    """An image that cannot be answered; the message says why."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        """HTTP status of a request in which no image is better."""
        self.code = code
        """What programs may compare."""


class Outputs(NamedTuple):
    """What the model computes of an image."""

    probabilities: Float32[np.ndarray, " classes"]
    logits: Float32[np.ndarray, " outputs"]


@dataclasses.dataclass(frozen=True)
class Served:
    """A verified model."""

    name: str
    """Of its file, without folders."""
    about: Mapping[str, Any]
    """What the file says of itself."""
    canvas: Canvas
    """What its images are decoded and resized to."""
    function: Callable[[UInt8[np.ndarray, "n h w c"]], Sequence[np.ndarray]]
    """From canvases to (probabilities, logits)."""

    @classmethod
    def open(cls, path: Path, pixels: int) -> "Served":
        """Open an ONNX or StableHLO file, after its checksum and its golden images are compared.

        Args:
          path: the file.
          pixels: of the largest image that is decoded.

        Raises:
          UserError: it is no such file, was changed, or computes something else here.
        """
        if path.suffix not in batches.SUFFIXES:
            raise UserError(
                f"{path}: only .onnx and .stablehlo files are served: write one with `imgcls export RUN --to onnx`, "
                "where RUN is the folder of a run"
            )
        try:
            about = standalone.document(path)
            function = batches.load(path)
            _, faults = standalone.compare(about, function)
        except standalone.Unusable as error:
            raise UserError(str(error)) from None
        if faults:
            raise UserError(
                f"{path} computes other figures here than where it was written, so it is not served ({faults[0]}): "
                f"`imgcls verify {path}` lists them all"
            )
        return cls(path.name, about, _canvas(about["preprocessing"], pixels), function)

    def warm_up(self, most: int) -> None:
        """Run every size of a batch that is compiled by itself, up to one of `most` images, before requests come."""
        if Path(self.name).suffix == ".stablehlo":
            shape = (self.canvas.height, self.canvas.width, self.canvas.channels)
            for power in range((most - 1).bit_length() + 1):
                self.predict(np.zeros((1 << power, *shape), np.uint8))

    def decode(self, content: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Decode the bytes of an image file and fit it to the canvas, as in evaluation.

        Raises:
          BadImageError: it cannot be used, or is too large.
        """
        try:
            return canvases.read(content, self.canvas)[0]
        except TooManyPixelsError as error:
            raise BadImageError(
                413, "too_many_pixels", f"{error.pixels:,} pixels exceed the {error.most:,} that this server decodes"
            ) from None
        except UnreadableImageError as error:
            raise BadImageError(422, "unreadable", f"this cannot be read as an image: {error}") from None

    def predict(self, images: UInt8[np.ndarray, "n h w c"]) -> list[Outputs]:
        """Compute the probability of each class and the logits, of each image."""
        probabilities, logits = map(np.asarray, self.function(images))
        return [Outputs(*rows) for rows in zip(probabilities, logits, strict=True)]

    def top(self, probabilities: Float32[np.ndarray, " classes"], count: int) -> list[dict[str, Any]]:
        """Name the most probable classes, the most probable first."""
        order = np.argsort(-probabilities, kind="stable")[:count].tolist()
        return [
            {"class": self.class_name(label), "label": label, "probability": float(probabilities[label])}
            for label in order
        ]

    def labels(self, probabilities: Float32[np.ndarray, " classes"]) -> list[str] | None:
        """Name the classes whose probability reaches their threshold, where an image may have several; else None."""
        thresholds = batches.thresholds(self.about)
        if thresholds is None:
            return None
        return [self.class_name(label) for label, least in enumerate(thresholds) if probabilities[label] >= least]

    def class_name(self, label: int) -> str:
        """Return a class's name; a model that keeps more outputs than there are classes may choose one without."""
        names = self.about["class_names"]
        return names[label] if label < len(names) else f"output {label}"


def _canvas(recipe: Mapping[str, Any], pixels: int) -> Canvas:
    height, width = recipe["canvas"]
    return Canvas(
        height,
        width,
        channels=recipe["channels"],
        fit=recipe["fit"],
        interpolation=recipe["interpolation"],
        jpeg_decoding=recipe["jpeg_decoding"],
        max_megapixels=pixels / 1e6,
    )
