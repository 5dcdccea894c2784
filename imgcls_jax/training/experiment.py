"""Make everything that a config and its data determine: model, optimizer, compiled steps, feeds, evaluations."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from imgcls_jax import augment, data
from imgcls_jax import config as c
from imgcls_jax.augment import test_time
from imgcls_jax.augment.targets import targets
from imgcls_jax.config.experiment import Views
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import evaluate
from imgcls_jax.inference import initial as pretrained
from imgcls_jax.models import network
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import averaging, losses, optimizers, schedules
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import transfer
from imgcls_jax.record.documents import ModelCard, model_card
from imgcls_jax.training import evaluators, feed, state, steps
from imgcls_jax.training.state import TrainState
from imgcls_jax.weights import plan as surgery
from imgcls_jax.xla import onednn, target


class Experiment:
    """One experiment, ready to be trained or evaluated. It holds no progress: that is `Run`'s.

    Epochs are grouped into phases within which the compiled step stays the same: the augmentation's operations and
    the set of parameters that train change only between them.
    """

    def __init__(
        self,
        config: c.Config,
        dataset: data.Dataset,
        mesh: jax.sharding.Mesh,
        *,
        schedule: LearningRate | None = None,
        evaluated: Mapping[str, data.Split] | None = None,
    ):
        """
        Args:
          config: the experiment.
          dataset: what `data.load` makes of `config.data`.
          mesh: the devices.
          schedule: replaces the config's learning rates, where these are what is to be found.
          evaluated: the images of each of `config.evaluators`, by its name; None: they are left out.

        Raises:
          UserError: the weights to start from are not there or do not fit, or a parameter has no origin.
        """
        self.config, self.dataset, self.mesh = config, dataset, mesh
        own_notes = [*schedules.notes(config.optim.schedule, config.epochs), *_notes(config, dataset)]
        self._init_key, self.step_key = keys(config.seed)
        asked = config.cpu_convolutions == "onednn" and meshes.platform(mesh) == "cpu"
        reason = onednn.missing(config.precision, mesh.size) if asked else None
        if reason:
            own_notes.append(f"convolutions are XLA's, not oneDNN's (cpu_convolutions): {reason}")
        self.uses_onednn = asked and not reason
        """Whether convolutions of training are oneDNN's."""
        self._outputs = outputs = config.model.output_classes(len(dataset.class_names))
        self.group_batch_norm(meshes.batch_groups(config.bn_group, mesh.size))
        self._abstract = jax.eval_shape(self.model.create, self._init_key)
        params, stats = self._abstract
        loaded, notes = pretrained.load(config, params, stats, dataset.class_names)
        self.notes = [*notes, *own_notes]
        computed = config.model.computed_values(functools.partial(training_images, config, dataset.train))
        self.plan = surgery.plan(config.transfer, config.model, params, stats, loaded, computed)
        self.loss = losses.build(
            config.loss, num_classes=outputs, class_counts=dataset.train.class_counts(outputs).tolist()
        )
        self._evaluated = evaluated or {}
        self._check_image_sizes()
        self.resident = transfer.is_resident(config.data.feed, [*dataset.splits, *self._evaluated.values()], mesh)
        self.steps_per_epoch = len(dataset.train) // config.batch_size
        self.schedule = schedule or schedules.build(
            config.optim.schedule, steps_per_epoch=self.steps_per_epoch, epochs=config.epochs
        )
        self._inputs: Mapping[str, data.Split] = {}
        self.features_of: str | None = None
        """Hash of the weights whose features training begins with; None: it begins with images."""
        self._ahead: tuple[int, Future[jax.stages.Compiled]] | None = None

    def group_batch_norm(self, groups: int) -> None:
        """Let BatchNorm normalize the training batch in so many parts, where `Config.bn_group` asks for parts at all;
        to be called before anything is compiled."""
        self.batch_groups = groups
        self.model = network.of_config(self.config, len(self.dataset.class_names), groups)

    def start_at_the_head(self, inputs: Mapping[str, data.Split], weights: str) -> None:
        """Let training and validation begin at the head of the network; to be called before anything is compiled.

        Args:
          inputs: "train" and, where there are such images, "validation": splits that read features in place of
            canvases.
          weights: hash of those that gave the features.
        """
        self._inputs, self.features_of = inputs, weights

    # ---- data

    @functools.cached_property
    def training(self) -> feed.TrainFeed:
        """Runs epochs of the training split."""
        split = self._inputs.get("train", self.dataset.train)
        return feed.training(split, self.config, self.mesh, resident=self.resident)

    @functools.cached_property
    def validate(self) -> evaluate.Evaluation | None:
        """Evaluates the validation split; None without one."""
        if (features := self._inputs.get("validation")) is None:
            return self.evaluation(self.dataset.validation)

        def predict(variables: tuple[Tree, Tree], features: Array) -> Array:
            return network.head(nnx.merge(self.model.evaluate, *variables), features).astype(jnp.float32)

        return evaluate.Evaluation(
            features, self.config, self.mesh, predict, self.loss, num_classes=self._outputs, resident=self.resident
        )

    @functools.cached_property
    def test(self) -> evaluate.Evaluation | None:
        """Evaluates the test split, by the views that the config asks for; None without one."""
        return self.evaluation(self.dataset.test, self.config.test_views)

    @functools.cached_property
    def evaluators(self) -> dict[str, evaluate.Evaluation]:
        """The evaluation of each named evaluator by its name."""
        settings = {evaluator.name: evaluator for evaluator in self.config.evaluators}
        made = {name: self._named_evaluation(settings[name], split) for name, split in self._evaluated.items()}
        return {name: evaluation for name, evaluation in made.items() if evaluation is not None}

    def _named_evaluation(self, evaluator: c.Evaluator, split: data.Split) -> evaluate.Evaluation | None:
        config = dataclasses.replace(self.config, data=evaluators.settings(evaluator, self.config.data))
        return self.evaluation(split, evaluator.test_views, config=config)

    def _check_image_sizes(self) -> None:
        """Refuse sizes of images that the model does not take: of evaluators, and of training images shrunk."""
        ours, policy = self.config.data.image_size, self.config.augment
        sizes = {f'the evaluator "{evaluator.name}"': evaluator.image_size for evaluator in self.config.evaluators}
        sizes |= {
            f"augment: epoch {at}": augment.size_of(policy, at, ours)
            for at in (phase.from_epoch for phase in self._phases)
        }
        for what, size in sizes.items():
            if size is None or size == ours:
                continue
            image = jax.ShapeDtypeStruct((1, *size, self.config.data.canvas.channels), jnp.float32)
            try:
                jax.eval_shape(
                    lambda variables, x: nnx.merge(self.model.evaluate, *variables)(x), self._abstract, image
                )
            except (TypeError, ValueError):
                raise UserError(
                    f"{what} has image_size = {size[0]}×{size[1]}, which this model, built for {ours[0]}×{ours[1]}, "
                    "does not take: leave it out, or take a model with aggregate = 'average'"
                ) from None

    def evaluation(
        self, split: data.Split | None, kind: Views | None = None, *, config: c.Config | None = None
    ) -> evaluate.Evaluation | None:
        """Make the evaluation of a split by the center of each image, or by its test-time views.

        Args:
          split: the images; None: there is no evaluation.
          kind: the views of each image; None: its center alone.
          config: with other preprocessing; None: the experiment's.
        """
        return evaluate.of_split(
            split,
            config or self.config,
            self.mesh,
            self.model,
            self.loss,
            num_outputs=self._outputs,
            views=kind,
            resident=self.resident,
        )

    # ---- phases

    def initial_state(self) -> TrainState:
        """The state before the first step."""
        create = functools.partial(self.create_state, epoch=0)
        return jax.jit(create, out_shardings=self._shardings(0))(*self.initial_variables())

    def initial_variables(self, key: Array | None = None) -> tuple[Tree, Tree]:
        """(All parameters, statistics) before the first step, of the config's seed or by another key (`keys`)."""
        return self.plan.merge(*self.model.create(self._init_key if key is None else key))

    def abstract_state(self, epoch: int) -> TrainState:
        """Shapes, types and shardings of the state in `epoch`, to restore a checkpoint into."""
        return meshes.abstract(self._shapes(epoch), self._shardings(epoch))

    def phase_changes(self, epoch: int) -> bool:
        """Whether `epoch` needs another compiled step than the epoch before it."""
        return epoch in self.plan.changes or epoch in {phase.from_epoch for phase in self._phases}

    def last_change(self, epoch: int) -> int:
        """The first epoch since which the same parameters train as in `epoch`."""
        return max((change for change in self.plan.changes if change <= epoch), default=0)

    def compile_ahead(self, epoch: int) -> None:
        """Start to compile the step that `enter_phase` of this epoch will give, beside what the caller does next."""
        if jax.process_count() == 1:  # several ones would have to transfer arrays in the same order
            pool = ThreadPoolExecutor(1)
            self._ahead = epoch, pool.submit(self._compile, epoch)
            pool.shutdown(wait=False)

    def enter_phase(
        self, train_state: TrainState, epoch: int, *, previous: int
    ) -> tuple[TrainState, jax.stages.Compiled]:
        """The state, which is that of the epoch `previous`, split as `epoch` wants it, and the compiled step."""
        if self.trainable(previous) != self.trainable(epoch):
            repartition = functools.partial(
                state.repartition, trainable=self.trainable(epoch), optimizer=self.optimizer(epoch)
            )
            train_state = jax.jit(repartition, out_shardings=self._shardings(epoch))(train_state)
        ahead, self._ahead = self._ahead, None
        return train_state, ahead[1].result() if ahead and ahead[0] == epoch else self._compile(epoch)

    def create_state(self, params: Tree, stats: Tree, *, epoch: int) -> TrainState:
        """Make the state before the first step of these variables, split as `epoch` wants it."""
        trainable, optimizer = self.trainable(epoch), self.optimizer(epoch)
        return state.create(params, stats, trainable, optimizer=optimizer, config=self.config)

    def _shapes(self, epoch: int) -> TrainState:
        return jax.eval_shape(functools.partial(self.create_state, epoch=epoch), *self._abstract)

    def _shardings(self, epoch: int) -> TrainState:
        return meshes.state(self.mesh, self._shapes(epoch))

    def build_steps(
        self,
        epoch: int,
        *,
        optimizer: optimizers.Optimizer | None = None,
        schedule: LearningRate | None = None,
        key: Array | None = None,
    ) -> tuple[steps.TrainStep, steps.Diagnose]:
        """Make the functions of a step in `epoch`, not yet compiled.

        Args:
          epoch: counted from 0.
          optimizer, schedule, key: replace those of the config, and may be traced.
        """
        config = self.config
        return steps.build_steps(
            self.model.train,
            augment=self._labeled if self._inputs else self.augmentation(epoch),
            forward=network.head if self._inputs else network.whole,
            loss=self.loss,
            optimizer=optimizer or self.optimizer(epoch),
            schedule=schedule or self.schedule,
            key=self.step_key if key is None else key,
            steps_per_epoch=self.steps_per_epoch,
            accumulate=config.optim.accumulate,
            sam_radius=config.optim.sam_radius,
            ema_decay=config.optim.ema.decay if config.optim.ema else None,
            remat=config.remat,
            platform=meshes.platform(self.mesh),
        )

    def _compile(self, epoch: int) -> jax.stages.Compiled:
        train_step, diagnose = self.build_steps(epoch)
        wanted = diagnose if self.config.log_every_steps else None
        used = self.uses_onednn
        with target.tracing_for(self.mesh, onednn=used), onednn.uncached() if used else contextlib.nullcontext():
            return self.training.compile(train_step, self.abstract_state(epoch), wanted)

    def augmentation(self, epoch: int) -> augment.Augment:
        """Make the augmentation of an epoch's training images."""
        config = self.config
        return augment.build(
            config.augment,
            epoch=epoch,
            image_size=config.data.image_size,
            mean=config.data.mean,
            std=config.data.std,
            num_classes=self._outputs,
            fit=config.data.canvas.fit,
        )

    def _labeled(self, key: Array, features: Array, label: Array, *_: Array) -> tuple[Array, Array]:
        """What stands in augmentation's place where training begins at the head."""
        return features, targets(label, self._outputs)

    def trainable(self, epoch: int) -> dict[str, bool]:
        """Whether each parameter trains in `epoch`, by path."""
        return {row.path: row.trains(epoch) for row in self.plan.rows}

    def optimizer(self, epoch: int, optim: c.Optim | None = None) -> optimizers.Optimizer:
        """Make the optimizer of the parameters that train in `epoch`; `optim` replaces the config's."""
        trained, _ = state.partition(self._abstract[0], self.trainable(epoch))
        lr_scale, wd_scale = self.plan.scales(trained)
        return optimizers.build(optim or self.config.optim, trained, lr_scale=lr_scale, wd_scale=wd_scale)

    def abstract_variables(self, epoch: int) -> tuple[Tree, Tree]:
        """Shapes, types and shardings of what `evaluation_variables` gives."""
        read = steps.build_evaluation_variables(self.optimizer(epoch))
        shapes = jax.eval_shape(read, self._shapes(epoch))
        return meshes.abstract(shapes, meshes.state(self.mesh, shapes))

    @functools.cached_property
    def _phases(self) -> tuple[augment.Phase, ...]:
        return augment.phases(self.config.augment, self.config.epochs)

    # ---- around an epoch

    def end_epoch(self, train_state: TrainState, epoch: int) -> TrainState:
        """What happens after an epoch's last step, before its evaluation: the average takes the parameters in (SWA)."""
        swa = self.config.optim.swa
        if swa is None or epoch < swa.from_epoch:
            return train_state
        average = jax.jit(averaging.update_swa)(train_state.average, train_state.params, train_state.stats)
        return train_state.replace(average=average)

    def empty_metrics(self, train_state: TrainState) -> TrainState:
        """Return the state with the metrics of no example, for the next epoch."""
        return train_state.replace(metrics=meshes.put(train_state.metrics.empty(), meshes.replicated(self.mesh)))

    def scale_learning_rate(self, train_state: TrainState, factor: float) -> TrainState:
        """Return the state with a factor on the schedule's learning rate."""
        return train_state.replace(lr_factor=meshes.put(np.float32(factor), meshes.replicated(self.mesh)))

    # ---- after training

    def evaluation_variables(self, train_state: TrainState, epoch: int) -> tuple[Tree, Tree]:
        """(All parameters, statistics) to evaluate a state of `epoch`: averaged ones where the run keeps averages."""
        return self._reader(self.last_change(epoch))(train_state)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - an Experiment lives as long as its process
    def _reader(self, epoch: int) -> Callable[[TrainState], tuple[Tree, Tree]]:
        return jax.jit(steps.build_evaluation_variables(self.optimizer(epoch)))

    def decayed(self) -> dict[str, bool]:
        """Whether weight decay shrinks a trained parameter, by path."""
        return self.optimizer(0).decayed

    def card(self) -> ModelCard:
        """Make the model card that is saved with the parameters in every checkpoint."""
        return model_card(self.config, self.dataset.class_names, self.dataset.split_hash)


def keys(seed: int) -> tuple[Array, Array]:
    """Return the keys of a run with this seed: of its initial parameters, and of its steps."""
    init, step = jax.random.split(jax.random.key(seed))
    return init, step


def training_images(config: c.Config, split: data.Split, pixels: int) -> np.ndarray:
    """Images of the training split as evaluation sees them, evenly spread over it: float32 [n, h, w, c], of about this
    many pixels in all."""
    count = min(len(split), math.ceil(pixels / math.prod(config.data.image_size)))
    rows = np.arange(count) * len(split) // count
    prepare, _ = test_time.build(config, None)
    return np.asarray(prepare(jnp.asarray(split.read(rows))))


def _notes(config: c.Config, dataset: data.Dataset) -> list[str]:
    """Where training and test depart from one plain look at every image."""
    notes = []
    if config.data.sampling == "balanced":
        counts = dataset.train.class_counts(len(dataset.class_names))
        counts = counts[counts > 0]
        share = len(dataset.train) / len(counts)
        notes.append(
            f"balanced sampling: about {share:.0f} images of each class an epoch, so that an image of the rarest class "
            f"({counts.min()} images) comes {share / counts.min():.2f} times on average, and one of the most frequent "
            f"({counts.max()}) {share / counts.max():.2f} times"
        )
    if config.test_views:
        notes.append(f"the test averages the predictions of each image's views ({config.test_views})")
    return notes
