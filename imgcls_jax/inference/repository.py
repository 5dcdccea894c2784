"""Weights of repositories on Hugging Face: those that `imgcls push` made, and timm's."""

import dataclasses
from pathlib import Path

import numpy as np

from imgcls_jax import weights
from imgcls_jax.config.model import Model
from imgcls_jax.errors import UserError
from imgcls_jax.export.hub import folder, remote
from imgcls_jax.inference import exported
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.models import architectures
from imgcls_jax.weights import timm


@dataclasses.dataclass(frozen=True)
class TimmWeights:
    """A repository of timm's."""

    where: str
    """What the repository is called."""
    card: timm.Card
    file: Path
    """The weights."""

    def state(self, model: Model) -> dict[str, np.ndarray]:
        """Return the tensors under the torch names of a network.

        Raises:
          UserError: they are another network's, or the file cannot be read.
        """
        same = model.in_timm()
        if same is None or same.architecture != self.card.architecture:
            here = f" (it is timm's {same.architecture})" if same else ""
            raise UserError(
                f"{self.where} has weights of timm's {self.card.architecture}, which the config's "
                f"{type(model).__name__} is not{here}: set model to {_written(self.network())}, or choose other weights"
            )
        if self.card.pooling not in (None, "", same.pooling):
            raise UserError(
                f"{self.where} has weights of timm's {self.card.architecture} with the pooling {self.card.pooling}, "
                f"and here it is {same.pooling}: choose other weights"
            )
        return dict(same.rename(weights.read(self.file)))

    def network(self) -> Model:
        """Return our network that the weights are for, with a plain head."""
        return architectures()[_counterparts()[self.card.architecture]]

    def description(self, seen: weights.Preprocessing) -> str:
        """Say what the weights are and which images they are for."""
        return (
            f"{self.where}: weights of timm's {self.card.architecture}, for images of {seen.crop}×{seen.crop} pixels, "
            f"cut from a {seen.interpolation} resize to {seen.resize}, of mean {seen.mean} and std {seen.std}"
        )


def opened(repository: remote.Repository) -> TrainedModel | TimmWeights:
    """Download what a repository holds, its config.json first.

    Raises:
      UserError: the repository or one of the two files is missing, may not be read, or is of neither kind.
    """
    where = str(repository)
    says = "which says for which network its weights are"
    config = remote.download(repository, [folder.CONFIG], need=folder.CONFIG, without=says) / folder.CONFIG
    document = timm.read_json(config, where)
    if isinstance(document, dict) and "imgcls_jax" in document:
        return exported.read(folder.weights_of(repository), foreign=True)
    if not timm.is_card(document):
        kind = document.get("model_type") if isinstance(document, dict) else None
        raise UserError(
            f"{where} is not timm's, nor published by imgcls push"
            + (f", but for the package transformers ({str(kind)[:60]})" if kind else "")
            + ": repositories of these two kinds are read"
        )
    card = timm.read_card(document, where)
    if card.architecture not in _counterparts():
        raise UserError(
            f"{where} has weights of timm's {card.architecture[:60]}, which is not among the networks here: those of "
            f"timm that are: {', '.join(sorted(_counterparts()))}"
        )
    file = remote.download(
        repository, [folder.WEIGHTS], need=folder.WEIGHTS, without="the one file of weights that is read"
    )
    return TimmWeights(where, card, file / folder.WEIGHTS)


def _counterparts() -> dict[str, str]:
    """timm's name of each of our networks that it has, and ours."""
    return {same.architecture: name for name, model in architectures().items() if (same := model.in_timm())}


def _written(model: Model) -> str:
    """How a config file writes a network with a plain head, without what is as by default."""
    fields = [field for field in dataclasses.fields(model) if getattr(model, field.name) != field.default]
    values = ("c.Head()" if field.name == "head" else repr(getattr(model, field.name)) for field in fields)
    return f"c.{type(model).__name__}({', '.join(f'{f.name}={v}' for f, v in zip(fields, values, strict=True))})"
