"""Why a class was given to an image: where the network looked, and which training images resemble it."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, UInt, UInt8

from imgcls_jax import config as c
from imgcls_jax.augment import test_time
from imgcls_jax.augment.normalization import denormalize
from imgcls_jax.data.dataset import Split
from imgcls_jax.data.dataset import load as load_data
from imgcls_jax.errors import UserError, did_you_mean
from imgcls_jax.evaluation import grad_cam
from imgcls_jax.inference.decide import probabilities
from imgcls_jax.models.network import Network, Tree

_CHUNK = 1024  # training images whose canvases are in memory at a time


@dataclass(frozen=True, eq=False)
class Neighbor:
    """A training image whose features resemble those of an image."""

    name: str
    """Its file or record."""
    class_name: str
    similarity: float
    """Cosine of the angle between both features, in [−1, 1]."""
    image: UInt8[np.ndarray, "h w c"] = field(repr=False)
    """Its canvas."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a network found its evidence for a class in one image."""

    label: int
    """The class that is explained."""
    class_name: str
    probability: float
    """Of that class, in [0, 1]."""
    heat: Float32[np.ndarray, "h w"] = field(repr=False)
    """The Grad-CAM map at the size of the image that the network saw, ≥ 0; in the logit's units."""
    image: UInt8[np.ndarray, "h w c"] = field(repr=False)
    """The image that the network saw: the center of its canvas."""
    hot_drop: float
    """By how much the class's logit falls when the hottest fifth of the image is blanked."""
    cold_drop: float
    """The same of the coldest fifth. A map that tells what mattered has the greater `hot_drop`."""
    path: Path | None = None
    """The image's file; None where it was not given as one."""
    neighbors: tuple[Neighbor, ...] = ()
    """The training images that resemble it most, the nearest first."""


class Explainer:
    """Computes explanations of batches of canvases."""

    def __init__(self, network: Network, config: c.Config, stage: str | None = None):
        """`stage`: see `Classifier.explain`."""
        prepare, _ = test_time.build(config, None)
        self._prepare, self._data = prepare, config.data
        explain = grad_cam.build(network.evaluate, prepare=prepare, stage=stage)
        blanked = grad_cam.build_blanked(network.evaluate, prepare=prepare)

        def program(
            variables: tuple[Tree, Tree], canvases: UInt[Array, "b H W c"], labels: Int[Array, " b"]
        ) -> tuple[Array, ...]:
            logits, maps, tells = explain(variables, canvases, labels)
            heat = maps[jnp.argmax(tells)]  # of the last stage on which the logits depend
            hot, cold = blanked(variables, canvases, heat)
            return logits, heat, hot, cold

        self.program: Callable[..., tuple[Array, ...]] = jax.jit(program)
        """(variables, canvases, labels; −1: the predicted class) → logits, maps, logits without the hottest fifth of
        each image, and without the coldest; rows are images."""

    def explanations(
        self,
        rows: Sequence[np.ndarray],
        canvases: Sequence[np.ndarray],
        labels: Sequence[int],
        files: Sequence[Path | None],
        names: Sequence[str],
    ) -> list[Explanation]:
        """Make the explanations of a batch.

        Args:
          rows: what `program` gives.
          canvases, labels: what it was given.
          files: of the images.
          names: of all classes that can be predicted.
        """
        seen = denormalize(self._prepare(jnp.asarray(np.stack(canvases))), self._data.mean, self._data.std)
        found = []
        for i, (logits, heat, hot, cold) in enumerate(zip(*rows, strict=True)):
            shares = probabilities(logits, "classes")
            label = int(shares.argmax()) if labels[i] < 0 else labels[i]
            own, without_hot, without_cold = (_logit(part, label) for part in (logits, hot, cold))
            found.append(
                Explanation(
                    label,
                    names[label],
                    float(shares[label]),
                    heat,
                    np.asarray(seen[i]),
                    own - without_hot,
                    own - without_cold,
                    files[i],
                )
            )
        return found


def _logit(logits: np.ndarray, label: int) -> float:
    """The logit of a class; a sigmoid output z speaks for class 1, and −z for class 0."""
    return float(logits[label] if len(logits) > 1 else (2 * label - 1) * logits[0])


def label_of(name: str | int, names: Sequence[str]) -> int:
    """Find a class by its name, or by its number.

    Raises:
      UserError: there is none.
    """
    if isinstance(name, int) and 0 <= name < len(names):
        return name
    if name in names:
        return list(names).index(str(name))
    advice = did_you_mean(str(name), names) or f": the classes are {', '.join(names[:10])}"
    raise UserError(f"there is no class {name!r}{advice}")


class Neighborhood:
    """The training images of a run, by their features."""

    def __init__(self, data: c.Data, class_names: Sequence[str], features: Callable[[np.ndarray], np.ndarray]):
        """Read the training images, and compute their features.

        Args:
          data: the settings of the run's data.
          class_names: by label.
          features: computes them of canvases as evaluation sees them.

        Raises:
          UserError: the data are not there.
        """
        # Canvases as evaluation has them, so that an image of the training set is its own nearest neighbor.
        canvas = data.eval_canvas or data.canvas
        self._split: Split = load_data(dataclasses.replace(data, canvas=canvas, eval_canvas=None)).train
        self._names = class_names
        parts = [
            features(self._split.read(np.arange(start, min(start + _CHUNK, len(self._split)))))
            for start in range(0, len(self._split), _CHUNK)
        ]
        self._features = _unit(np.concatenate(parts))

    def added(
        self, explanations: Sequence[Explanation], features: Float32[np.ndarray, "n d"], count: int
    ) -> list[Explanation]:
        """Add the nearest training images to explanations, by the cosine of the features of their images."""
        similarity = _unit(features) @ self._features.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        return [
            dataclasses.replace(one, neighbors=self._neighbors(rows, similarity[i, rows]))
            for i, (one, rows) in enumerate(zip(explanations, order, strict=True))
        ]

    def _neighbors(self, rows: np.ndarray, similarity: np.ndarray) -> tuple[Neighbor, ...]:
        return tuple(
            Neighbor(self._split.ids[row], self._names[int(self._split.labels[row])], float(cosine), image)
            for row, cosine, image in zip(rows.tolist(), similarity, self._split.read(rows), strict=True)
        )


def _unit(features: np.ndarray) -> Float32[np.ndarray, "n d"]:
    return (features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)).astype(np.float32)
