"""A trained model as a function of images: the one way in which it is restored and used."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int64

from imgcls_jax import config as c
from imgcls_jax.augment import test_time
from imgcls_jax.config.experiment import Views
from imgcls_jax.data.dataset import Dataset, Split
from imgcls_jax.data.decode import UnreadableImageError
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import evaluate, tasks
from imgcls_jax.evaluation.predictions import Predictions, named
from imgcls_jax.evaluation.steps import build_features, build_predict
from imgcls_jax.export import files as export_files
from imgcls_jax.export.onnx.precision import Precision
from imgcls_jax.export.web import write as web
from imgcls_jax.inference import decide, exported, measure
from imgcls_jax.inference import images as inputs
from imgcls_jax.inference.explanation import Explainer, Explanation, Neighborhood, label_of
from imgcls_jax.inference.images import Image, Images, Preprocessing
from imgcls_jax.inference.prediction import Estimate, Prediction, Unreadable
from imgcls_jax.inference.restore import TrainedModel
from imgcls_jax.inference.source import read
from imgcls_jax.models import network
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import losses
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import transfer
from imgcls_jax.record.documents import Evaluation, Figures, ModelCard
from imgcls_jax.weights import paths

LookAt = Views | Literal["center"]
"""How each image is seen: its center once, or several test-time views whose probabilities are averaged."""

_HEAD = "head"


class Classifier:
    """A trained image classifier.

    Make one with `Classifier.load`. Images may be files (`str` or `Path`), bytes of files, Pillow images or uint8
    arrays, one or many; they are decoded and preprocessed as in the evaluation of the training run.

    It uses the devices that the run's config names, as far as this machine has them; in one process.
    """

    def __init__(self, trained: TrainedModel, *, views: LookAt | None = None):
        """Put a trained model on the devices; `load` also reads it. `views`: see there."""
        config = trained.config
        self._trained = trained
        self._views: Views | None = config.test_views if views is None else _kind(views)
        self._mesh = meshes.as_far_as_here(config.mesh)
        wanted = config.eval_batch_size or config.batch_size
        self._batch = -(-wanted // self._mesh.size) * self._mesh.size
        self._network = network.of_config(config, max(len(trained.class_names), 1))
        abstract = jax.eval_shape(self._network.create, jax.random.key(0))
        arrays = trained.params | trained.stats
        variables = tuple(
            paths.map_tree(lambda path, leaf: np.asarray(arrays[path], leaf.dtype), tree) for tree in abstract
        )
        self._variables: tuple[Tree, Tree] = meshes.put(variables, meshes.replicated(self._mesh))
        prepare, average = test_time.build(config, self._views)
        self._logits = jax.jit(build_predict(self._network.evaluate, prepare=prepare, average=average))

    @classmethod
    def load(cls, source: str | Path, config: c.Config | None = None, *, views: LookAt | None = None) -> "Classifier":
        """Restore a trained model.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> classifier.class_names
        ('red', 'green', 'blue')

        Args:
          source: the work directory of a run, whose best checkpoint is taken (its data and devices need not be there),
            a folder that `imgcls push` wrote, or "hf://OWNER/NAME", also timm's; a name of published weights, such as
            "torchvision/resnet50.IMAGENET1K_V2", downloaded unless they are in the cache; a file that `export` wrote
            (.onnx and .stablehlo predict and evaluate, no more); or, with `config`, any torch or safetensors file.
          config: the experiment whose network, preprocessing, classes and data belong to the weights. None: a run's
            own, or what published weights were made for.
          views: how each image is seen: "center", or a kind of `Config.test_views`; None: as the run's test does.

        Raises:
          UserError: there is no such run, name or file, it is damaged, or the weights do not fit the network.
        """
        if exported.is_program(source):
            from imgcls_jax.inference.exported_classifier import ExportedClassifier  # which builds on this one

            return ExportedClassifier(source, config, views)
        return cls(read(source, config), views=views)

    # ---- what it is

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, by label; empty for a network that only computes features."""
        return self._trained.class_names

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability from which each of several labels is predicted: tuned on validation images, or 0.5."""
        return tuple(self.card.get("thresholds") or [tasks.EVEN] * len(self.class_names))

    @property
    def config(self) -> c.Config:
        """The experiment that the model belongs to."""
        return self._trained.config

    @property
    def preprocessing(self) -> Preprocessing:
        """What an image goes through on its way to the network."""
        return Preprocessing.of(self.config.data)

    @property
    def card(self) -> ModelCard:
        """What is needed to use the model elsewhere, as plain values: config, class names, preprocessing."""
        return self._trained.card

    @property
    def network(self) -> nnx.Module:
        """The network in evaluation mode, with its parameters: float32 [b, h, w, channels], preprocessed, → logits."""
        return nnx.merge(self._network.evaluate, *self._variables)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on where this model departs from how its weights were trained."""
        return self._trained.notes

    @property
    def params(self) -> dict[str, np.ndarray]:
        """All parameters by path ("layer1.0.conv1.kernel"), float32."""
        return self._trained.params

    # ---- what it does

    def predict(
        self, images: Images, *, top_k: int = 1, all_probabilities: bool = False
    ) -> Prediction | list[Prediction]:
        """Classify one image, or many.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> classifier.predict("reddish.png").class_name
        'red'
        >>> [prediction.class_name for prediction in classifier.predict(["reddish.png", "bluish.png"])]
        ['red', 'blue']

        Args:
          images: one image, or an iterable of them, or a uint8 array [n, h, w, channels].
          top_k: number of classes in `Prediction.top`.
          all_probabilities: fill `Prediction.probabilities`.

        Returns:
          A prediction for one image; for several a list of predictions in the order of the images.

        Raises:
          UserError: an image cannot be read. `predict_each` goes on in that case.
        """
        predictions = []
        for result in self.predict_each(images, top_k=top_k, all_probabilities=all_probabilities):
            if isinstance(result, Unreadable):
                raise UserError(f"{result.image} cannot be read as an image: {result.reason}")
            predictions.append(result)
        return predictions[0] if inputs.is_one(images) else predictions

    def predict_each(
        self, images: Images, *, top_k: int = 1, all_probabilities: bool = False
    ) -> Iterator[Prediction | Unreadable]:
        """Classify images as they come, one result for each, in their order.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> [type(result).__name__ for result in classifier.predict_each(["reddish.png", "notes.txt"])]
        ['Prediction', 'Unreadable']

        Images are decoded in threads ahead of the device, a few batches at a time, so that any number of them may be
        given. An image that cannot be read is an `Unreadable` with the reason. Arguments: see `predict`.
        """
        if top_k < 1:
            raise UserError(f"top_k is {top_k}, but must be at least 1")
        decide.need_outputs(self.config, self.class_names, "predict")
        decide.refuse_numbers(self.config, self.class_names)
        make = functools.partial(
            decide.prediction, top_k=top_k, everything=all_probabilities, class_names=self.class_names
        )
        tuned = self.thresholds if self.config.loss.task == "labels" else None
        for path, logits in self._each(images):
            yield logits if isinstance(logits, Unreadable) else make(logits, path, thresholds=tuned)

    def estimate_each(self, images: Images) -> Iterator[Estimate | Unreadable]:
        """Predict the numbers of images as they come, of a model that was trained to do so (`MSE`, `Huber`).

        >>> from imgcls_jax import Classifier
        >>> [list(one.values) for one in Classifier.load(numbers).estimate_each(["reddish.png"])]
        [['red']]

        Images and results: see `predict_each`; `logits` gives the numbers as an array.

        Raises:
          UserError: the model predicts classes or labels.
        """
        decide.need_numbers(self.config)
        for path, values in self._each(images):
            yield values if isinstance(values, Unreadable) else decide.estimate(values, path, self.class_names)

    def _each(self, images: Images) -> Iterator[tuple[Path | None, Float32[np.ndarray, " outputs"] | Unreadable]]:
        """The file of each image, and its outputs or why it cannot be read."""
        position = 0
        for given, canvases in self._batches(images):
            readable = [canvas for canvas in canvases if not isinstance(canvas, UnreadableImageError)]
            rows = iter(self._compute(self._logits, readable) if readable else ())
            for image, canvas in zip(given, canvases, strict=True):
                path = Path(image) if isinstance(image, str | PathLike) else None
                if isinstance(canvas, UnreadableImageError):
                    yield path, Unreadable(inputs.name(image, position), str(canvas), path)
                else:
                    yield path, next(rows)
                position += 1

    def logits(self, images: Images) -> Float32[np.ndarray, "*n outputs"]:
        """Compute the outputs of the network: one per class, label or number, or of a sigmoid head one, for class 1.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> classifier.logits(["reddish.png", "bluish.png"]).shape
        (2, 3)

        Args:
          images: one image, or several; see `predict`.

        Returns:
          [n, outputs] for several images, [outputs] for one.

        Raises:
          UserError: an image cannot be read.
        """
        decide.need_outputs(self.config, self.class_names, "logits")
        return self._all(self._logits, images)

    def probabilities(self, images: Images) -> Float[np.ndarray, "*n classes"]:
        """Compute the probability of each class: by softmax, or with a sigmoid head of both classes; of several labels
        per image, that of each by itself.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> float(classifier.probabilities("reddish.png").sum().round(6))
        1.0

        Arguments, shapes and errors: see `logits`.
        """
        decide.refuse_numbers(self.config, self.class_names)
        return decide.probabilities(self.logits(images), self.config.loss.task)

    def labels(self, images: Images) -> Int64[np.ndarray, "*n"]:
        """Give the number of the most probable class of each image; of several labels per image, [n, labels], 1 for
        each label whose probability reaches its threshold and 0 for the others.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> classifier.labels(["reddish.png", "bluish.png"]).tolist()
        [0, 2]

        Arguments, shapes and errors: see `logits`.
        """
        probabilities = self.probabilities(images)
        if self.config.loss.task == "labels":
            return (probabilities >= np.array(self.thresholds)).astype(np.int64)
        return np.asarray(probabilities.argmax(-1))

    def features(self, images: Images) -> Float32[np.ndarray, "*n features"]:
        """Compute the input of the head: what the network knows of an image before it decides on a class.

        >>> from imgcls_jax import Classifier
        >>> classifier = Classifier.load(run)
        >>> classifier.features(["reddish.png", "bluish.png"]).shape
        (2, 64)

        Of the center of each image, whatever the test-time views. Where the head takes a feature map (SqueezeNet's is
        a convolution), the map's average over all positions is given.

        Args:
          images: one image, or several; see `predict`.

        Returns:
          [n, features] for several images, [features] for one.

        Raises:
          UserError: an image cannot be read, or the network has no method `stages` that tells its head's input.
        """
        return self._all(self._features, images)

    @functools.cached_property
    def _features(self) -> Callable[..., Array]:
        prepare, _ = test_time.build(self.config, None)
        return jax.jit(build_features(self._network.evaluate, prepare=prepare))

    def explain(
        self, images: Images, *, class_name: str | int | None = None, stage: str | None = None, neighbors: int = 0
    ) -> Explanation | list[Explanation]:
        """Show where in an image the network finds its evidence for a class, by Grad-CAM.

        >>> from imgcls_jax import Classifier
        >>> explanation = Classifier.load(run).explain("reddish.png", neighbors=2)
        >>> explanation.class_name, explanation.heat.shape, [n.class_name for n in explanation.neighbors]
        ('red', (8, 8), ['red', 'red'])

        Of the center of each image, whatever the test-time views.

        Args:
          images: one image, or several; see `predict`.
          class_name: the class that is explained, by its name or number; None: of each image the predicted one.
          stage: the stage of the network whose feature map is taken; None: the last one with at least 3×3 places, and
            of tokens the last one whose patches matter.
          neighbors: how many training images with the nearest features are given too; the run's data must be there.

        Returns:
          An explanation for one image; for several a list in their order.

        Raises:
          UserError: an image cannot be read, there is no such class or stage, or no stage is a feature map.
        """
        decide.need_outputs(self.config, self.class_names, "explanation")
        tasks.need_classes(self.config.loss.task, "an explanation")
        names = named(self.class_names, self.config.model.output_classes(len(self.class_names)))
        label = -1 if class_name is None else label_of(class_name, names)
        explainer = self._explainer(stage)
        found: list[Explanation] = []
        for given, canvases in self._batches(images):
            inputs.check_readable(given, canvases, len(found))
            labels = np.full(len(canvases), label, np.int32)
            rows = self._compute(explainer.program, canvases, labels)
            paths_of = [Path(image) if isinstance(image, str | PathLike) else None for image in given]
            made = explainer.explanations(rows, canvases, labels.tolist(), paths_of, names)
            if neighbors:
                made = self._neighborhood.added(made, self._compute(self._features, canvases), neighbors)
            found += made
        return found[0] if inputs.is_one(images) else found

    @functools.cached_property
    def _explainer(self) -> Callable[[str | None], Explainer]:
        return functools.cache(functools.partial(Explainer, self._network, self.config))

    @functools.cached_property
    def _neighborhood(self) -> Neighborhood:
        return Neighborhood(self.config.data, self.class_names, self.features)

    def evaluate(
        self,
        data: c.Data | c.Source | None = None,
        *,
        views: LookAt | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> Evaluation:
        """Evaluate the validation and test splits exactly: every image counts once, on any number of devices.

        >>> from imgcls_jax import Classifier
        >>> result = Classifier.load(run).evaluate()
        >>> result["test"]["count"]
        27

        Args:
          data: the data settings, or a source whose images are preprocessed as in the run; None: the run's own data.
          views: how the images of both splits are seen; None: validation images by their center and test images as
            the classifier was loaded, which is what training does.
          arrays: the images, where the source is `Arrays()` without a path.

        Returns:
          {"validation": {"loss", "top1", "top5", "count", …} or None, "test": the same or None, "views": how each split
          was seen, "notes": sentences on what these figures do not tell}. The loss is the training's, accuracies are in
          [0, 1], and "…" are the metrics of the config.

        Raises:
          UserError: the data are not there, have a class that is not trained, or do not fit the network; or there is
            nothing to evaluate.
        """
        return self.evaluate_images(data, views=views, arrays=arrays)[0]

    def evaluate_images(
        self,
        data: c.Data | c.Source | None = None,
        *,
        views: LookAt | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[Evaluation, dict[str, Predictions]]:
        """Evaluate as `evaluate` does, and give what is predicted for every image too, in the same pass.

        >>> from imgcls_jax import Classifier
        >>> result, predictions = Classifier.load(run).evaluate_images()
        >>> predictions["test"].logits.shape
        (27, 3)

        Arguments and errors: see `evaluate`.

        Returns:
          What `evaluate` gives, and the predictions of each split that there is by its name.
        """
        decide.need_outputs(self.config, self.class_names, "evaluate")
        kinds: dict[str, Views | None] = {"validation": None, "test": self._views}
        if views is not None:
            kinds = dict.fromkeys(kinds, _kind(views))
        config = self._on(data)
        measured = functools.partial(self._measure, config)
        return measure.splits(config, self._trained, kinds, measured, arrays)

    def _measure(
        self, config: c.Config, dataset: Dataset, split: Split, loss: losses.Loss, views: Views | None
    ) -> tuple[Figures, Predictions]:
        evaluation = evaluate.of_split(
            split,
            config,
            self._mesh,
            self._network,
            loss,
            num_outputs=config.model.output_classes(len(self.class_names)),
            views=views,
            resident=transfer.is_resident(config.data.feed, list(dataset.splits), self._mesh),
        )
        assert evaluation is not None, "there is a split"
        return evaluation.predict(self._variables, self.class_names)

    def export(
        self, path: str | Path, *, temperature: float = 1.0, precision: Precision = "fp32", images: Images = ()
    ) -> list[Path]:
        """Write the model as one file for other programs; the file's ending says the format.

        >>> from imgcls_jax import Classifier
        >>> [path.name for path in Classifier.load(run).export("model.safetensors")]
        ['model.safetensors']

        Uint8 images of the canvas's size go in, probabilities and logits come out, in float32; preprocessing and
        test-time views are inside, and so are class names, model card and golden images, which `imgcls verify` runs.

        Args:
          path: FILE.onnx, FILE.stablehlo, FILE.pth (torch) or FILE.safetensors; without an ending, a page's folder.
          temperature: what the file divides logits by for its probabilities, such as that of `imgcls calibrate`.
          precision: of an ONNX file: "fp32"; "fp16": weights of half the bytes; "int8": of a quarter.
          images: on which the range of every int8 activation is measured, such as 256 training images.

        Returns: the files that were written: this one, and where the format holds no texts FILE.json beside it.

        Raises:
          UserError: the format cannot hold the network, a package is missing, or the file cannot be written.
        """
        program = self._trained.program(self._views, temperature)
        canvases = list(itertools.chain.from_iterable(inputs.readable(self._batches(images))))
        if not Path(path).suffix:
            return web.write(program, Path(path), precision=precision, images=canvases)
        return export_files.export(program, path, precision=precision, images=canvases)

    # ---- how

    def _on(self, settings: c.Data | c.Source | None) -> c.Config:
        """Give the config with other data, and with batches that this machine's devices can share."""
        config = dataclasses.replace(self.config, eval_batch_size=self._batch)
        if settings is None:
            return config
        if isinstance(settings, c.Source):
            settings = dataclasses.replace(config.data, source=settings)
        return dataclasses.replace(config, data=settings)

    def _all(self, function: Callable[..., Array], images: Images) -> np.ndarray:
        """Compute a function of every image; [n, …] for several, without the first axis for one."""
        parts = [self._compute(function, canvases) for canvases in inputs.readable(self._batches(images))]
        if not parts:
            raise UserError("no images were given")
        values = np.concatenate(parts)
        return values[0] if inputs.is_one(images) else values

    def _batches(self, images: Images) -> Iterator[tuple[list[Image], list[Any]]]:
        """Decode images in threads; give them batch by batch, each with its canvas or why it has none."""
        settings = self.config.data
        decoded = inputs.read_ahead(
            inputs.several(images), self.preprocessing.canvas, workers=settings.workers, ahead=2 * self._batch
        )
        while batch := list(itertools.islice(decoded, self._batch)):
            yield [image for image, _ in batch], [canvas for _, canvas in batch]

    def _compute(self, function: Callable[..., Any], canvases: Sequence[np.ndarray], *others: np.ndarray) -> Any:
        """Compute a function of at most one batch of canvases, and of other arrays with a row for each, padded so that
        only two programs are compiled."""
        size = self._mesh.size if len(canvases) <= self._mesh.size else self._batch
        rows = (meshes.put_padded(values, size, self._mesh) for values in (np.stack(canvases), *others))
        return jax.tree.map(lambda part: np.asarray(part)[: len(canvases)], function(self._variables, *rows))


def _kind(views: LookAt) -> Views | None:
    return None if views == "center" else views
