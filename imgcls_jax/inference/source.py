"""Where trained models come from: a run, its published folder, a repository, published weights by name, or weights with
a config."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.config.model import Model
from imgcls_jax.data.split import trained_on
from imgcls_jax.errors import UserError
from imgcls_jax.export.hub import folder
from imgcls_jax.inference import exported, initial, repository, restore
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.models import architectures, network
from imgcls_jax.models.network import Tree
from imgcls_jax.record import documents
from imgcls_jax.weights import paths

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_Arrays = dict[str, np.ndarray]
# Images per step: published networks are large, and one at a time would waste the device.
_BATCH = 32
_IMAGENET = 1000


def read(source: str | Path, config: c.Config | None = None) -> TrainedModel:
    """Read a trained model; see `Classifier.load` for the arguments and errors."""
    if config is not None:
        return _of_config(source, config)
    if origin := initial.opened(source):
        return _timm(origin) if isinstance(origin, repository.TimmWeights) else origin
    if entry := weights.published().get(str(source)):
        return _published(entry)
    if Path(source).is_file() and exported.is_exported(source):
        return exported.read(source)
    if Path(source).is_file():
        raise UserError(f"{source} is a file of weights, which needs a config: it says for which network they are")
    raise UserError(
        f"{source} is neither the work directory of a run nor a name of published weights, such as "
        f"{next(iter(weights.published()))}"
    )


def _of_config(source: str | Path, config: c.Config) -> TrainedModel:
    """Read weights for the network of a config; every parameter must be among them."""
    config = dataclasses.replace(config, transfer=c.Transfer(init_from=str(source)))
    is_run = Path(source).is_dir() and not folder.is_published(source)
    class_names = restore.of_run(source).class_names if is_run else config.data.source.open().class_names
    abstract = shapes(config, class_names)
    loaded, notes = initial.load(config, *abstract)
    card = documents.model_card(config, class_names, None)
    known = trained_on(Path(source)) if is_run else None
    return TrainedModel(
        config, class_names, *_arranged(loaded or {}, abstract), card, trained_on=known, notes=tuple(notes)
    )


def _published(entry: weights.Entry) -> TrainedModel:
    """Read published weights; an output layer that they lack is zero."""
    return _without_config(published_config(entry), _class_names(entry))


def _timm(found: repository.TimmWeights) -> TrainedModel:
    """Read a repository of timm's with the preprocessing that it states; an output layer that it lacks is zero."""
    names = found.card.class_names
    if names is None and found.card.num_classes == _IMAGENET and found.card.tag.endswith("in1k"):
        names = _imagenet()
    if names is None:
        names = tuple(map(str, range(found.card.num_classes)))
    config = _made_for(found.where, found.network(), found.card.sizes[0])
    canvas = dataclasses.replace(config.data.canvas, fit=found.card.fit)
    return _without_config(dataclasses.replace(config, data=dataclasses.replace(config.data, canvas=canvas)), names)


def _without_config(config: c.Config, class_names: tuple[str, ...]) -> TrainedModel:
    """Read the weights that a config starts from; an output layer that they lack, having no classes, is zero."""
    if not class_names:
        replace = (f"{config.model.head_prefix}*",)
        config = dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, replace=replace))
    abstract = shapes(config, class_names)
    loaded, _ = initial.load(config, *abstract)
    zeros = {path: np.zeros(x.shape, x.dtype) for tree in abstract for path, x in paths.flatten(tree).items()}
    card = documents.model_card(config, class_names, None)
    return TrainedModel(config, class_names, *_arranged(zeros | (loaded or {}), abstract), card)


def published_config(entry: weights.Entry) -> c.Config:
    """Make the config of published weights: their network, and the preprocessing that they were made for."""
    return _made_for(entry.name, architectures()[entry.model], entry.preprocessing)


def _made_for(name: str, model: Model, made_for: weights.Preprocessing) -> c.Config:
    """The config of the weights that `init_from` calls so."""
    side = made_for.resize or made_for.crop
    interpolation = "bilinear" if made_for.interpolation == "none" else made_for.interpolation
    return c.Config(
        name=name.removeprefix("hf://"),
        data=c.Data(
            source=c.Arrays(),
            canvas=c.Canvas(side, side, interpolation=interpolation),
            image_size=(made_for.crop, made_for.crop),
            mean=made_for.mean,
            std=made_for.std,
        ),
        augment=(),
        model=model,
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.1, shape=c.Constant())),
        batch_size=_BATCH,
        epochs=1,
        precision="fp32",
        seed=0,
        transfer=c.Transfer(init_from=name),
    )


def _class_names(entry: weights.Entry) -> tuple[str, ...]:
    """Give the name of each output of published weights; none where they have no output layer."""
    if not entry.head:
        return ()
    if entry.dataset == "CIFAR-10":
        return _CIFAR10
    return _imagenet()


def _imagenet() -> tuple[str, ...]:
    # The names of torchvision's `ResNet50_Weights.IMAGENET1K_V2.meta["categories"]` (BSD-3-Clause).
    return tuple(resources.files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8").splitlines())


def shapes(config: c.Config, class_names: Sequence[str]) -> tuple[Tree, Tree]:
    """Give the shapes of a config's parameters and BatchNorm statistics, as nested dicts."""
    return jax.eval_shape(network.of_config(config, max(len(class_names), 1)).create, jax.random.key(0))


def _arranged(loaded: Mapping[str, Any], abstract: tuple[Tree, Tree]) -> tuple[_Arrays, _Arrays]:
    """Divide loaded arrays into parameters and statistics, in the dtypes of the network."""
    params, stats = (
        {path: np.asarray(loaded[path], leaf.dtype) for path, leaf in paths.flatten(tree).items()} for tree in abstract
    )
    return params, stats
