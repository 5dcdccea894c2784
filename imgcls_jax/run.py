"""Everything that a config and its data determine, made once: model, optimiser, compiled steps, feeds."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import augment, data, feed, losses, models, pretrained, state, steps
from imgcls_jax import config as c
from imgcls_jax import mesh as meshes
from imgcls_jax.augment import views
from imgcls_jax.config import files
from imgcls_jax.config.tree import Views
from imgcls_jax.metrics import Metrics
from imgcls_jax.optim import averaging, optimizers, plateau, schedules
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.state import TrainState, Tree
from imgcls_jax.weights import surgery


class Run:
    """One experiment, ready to be trained or evaluated.

    Epochs are grouped into phases within which the compiled step stays the same: the augmentation's operations and
    the set of parameters that train change only between them.

    `schedule` stands in for the config's learning rates where these are what is to be found.
    """

    def __init__(
        self,
        config: c.Config,
        dataset: data.Dataset,
        mesh: jax.sharding.Mesh,
        *,
        schedule: LearningRate | None = None,
    ):
        self.config, self.dataset, self.mesh = config, dataset, mesh
        self._init_key, self._step_key = jax.random.split(jax.random.key(config.seed))
        self._outputs = outputs = models.num_outputs(config.model, len(dataset.class_names))
        self.model = state.model_of(config, len(dataset.class_names))
        self._abstract = jax.eval_shape(self.model.create, self._init_key)
        params, stats = self._abstract
        loaded, notes = pretrained.load(config, params, stats)
        self.notes = [*notes, *_notes(config, dataset)]
        computed = models.computed(config.model, functools.partial(training_images, config, dataset.train))
        self.plan = surgery.plan(config.transfer, config.model, params, stats, loaded, computed)
        self._loss = losses.build(
            config.loss, num_classes=outputs, class_counts=dataset.train.class_counts(outputs).tolist()
        )
        self.resident = feed.is_resident(config.data.feed, list(dataset.splits), mesh)
        self.steps_per_epoch = len(dataset.train) // config.batch_size
        self.schedule = schedule or schedules.build(
            config.optim.schedule, steps_per_epoch=self.steps_per_epoch, epochs=config.epochs
        )
        self._ahead: tuple[int, Future[jax.stages.Compiled]] | None = None

    # ---- data

    @functools.cached_property
    def training(self) -> feed.TrainFeed:
        """Runs epochs of the training split."""
        return feed.training(self.dataset.train, self.config, self.mesh, resident=self.resident)

    @functools.cached_property
    def validate(self) -> feed.Evaluation | None:
        """Evaluates the validation split; None without one."""
        return self.evaluation(self.dataset.validation)

    @functools.cached_property
    def test(self) -> feed.Evaluation | None:
        """Evaluates the test split, by the views that the config asks for; None without one."""
        return self.evaluation(self.dataset.test, self.config.test_views)

    def evaluation(self, split: data.Split | None, kind: Views | None = None) -> feed.Evaluation | None:
        """Evaluates a split by the centre of each image, or by its views of this kind; None without the split."""
        if split is None:
            return None
        prepare, average = views.look(self.config, kind)
        step = steps.build_eval_step(
            self.model.evaluate, prepare=prepare, average=average, loss=self._loss, num_classes=self._outputs
        )
        return feed.Evaluation(split, self.config, self.mesh, step, resident=self.resident)

    # ---- phases

    def initial_state(self) -> TrainState:
        """The state before the first step."""
        params, stats = self.plan.merge(*self.model.create(self._init_key))
        create = functools.partial(self._create, epoch=0)
        return jax.jit(create, out_shardings=self._shardings(0))(params, stats)

    def abstract_state(self, epoch: int) -> TrainState:
        """Shapes, types and shardings of the state in `epoch`, to restore a checkpoint into."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            self._shapes(epoch),
            self._shardings(epoch),
        )

    def phase_changes(self, epoch: int) -> bool:
        """Whether `epoch` needs another compiled step than the epoch before it."""
        return epoch in self.plan.changes or epoch in {phase.from_epoch for phase in self._phases}

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
        if self._trainable(previous) != self._trainable(epoch):
            repartition = functools.partial(
                state.repartition, trainable=self._trainable(epoch), optimizer=self._optimizer(epoch)
            )
            train_state = jax.jit(repartition, out_shardings=self._shardings(epoch))(train_state)
        ahead, self._ahead = self._ahead, None
        return train_state, ahead[1].result() if ahead and ahead[0] == epoch else self._compile(epoch)

    def _create(self, params: Tree, stats: Tree, *, epoch: int) -> TrainState:
        trainable, optimizer = self._trainable(epoch), self._optimizer(epoch)
        return state.create(params, stats, trainable, optimizer=optimizer, config=self.config)

    def _shapes(self, epoch: int) -> TrainState:
        return jax.eval_shape(functools.partial(self._create, epoch=epoch), *self._abstract)

    def _shardings(self, epoch: int) -> TrainState:
        return meshes.state(self.mesh, self._shapes(epoch))

    def _compile(self, epoch: int) -> jax.stages.Compiled:
        config = self.config
        train_step = steps.build_train_step(
            self.model.train,
            augment=augment.build(
                config.augment,
                epoch=epoch,
                image_size=config.data.image_size,
                mean=config.data.mean,
                std=config.data.std,
                num_classes=self._outputs,
                fit=config.data.canvas.fit,
            ),
            loss=self._loss,
            optimizer=self._optimizer(epoch),
            schedule=self.schedule,
            key=self._step_key,
            steps_per_epoch=self.steps_per_epoch,
            accumulate=config.optim.accumulate,
            sam_radius=config.optim.sam_radius,
            ema_decay=config.optim.ema.decay if config.optim.ema else None,
            remat=config.remat,
        )
        return self.training.compile(train_step, self.abstract_state(epoch))

    def _trainable(self, epoch: int) -> dict[str, bool]:
        return {row.path: row.trains(epoch) for row in self.plan.rows}

    def _optimizer(self, epoch: int) -> optimizers.Optimizer:
        trained, _ = state.partition(self._abstract[0], self._trainable(epoch))
        lr_scale, wd_scale = self.plan.scales(trained)
        return optimizers.build(self.config.optim, trained, lr_scale=lr_scale, wd_scale=wd_scale)

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

    def next_epoch(self, train_state: TrainState, history: list[dict[str, Any]], recoveries: int) -> TrainState:
        """What happens after an epoch's evaluation: the plateau is judged, and the metrics start from zero."""
        train_state = self.scale_rate(train_state, history, recoveries)
        return train_state.replace(metrics=meshes.put(Metrics.empty(), meshes.replicated(self.mesh)))

    def scale_rate(self, train_state: TrainState, history: list[dict[str, Any]], recoveries: int) -> TrainState:
        """The state with the factor on the learning rate that the epochs behind it call for."""
        factor = np.float32(self._rate_factor(history, recoveries))
        return train_state.replace(lr_factor=meshes.put(factor, meshes.replicated(self.mesh)))

    def learning_rates(self, epoch: int, history: list[dict[str, Any]], recoveries: int) -> np.ndarray:
        """The rate of every step of an epoch, after the epochs in `history`."""
        first = epoch * self.steps_per_epoch
        rates = [self.schedule.at(step) for step in range(first, first + self.steps_per_epoch)]
        return self._rate_factor(history, recoveries) * np.array(rates)

    def _rate_factor(self, history: list[dict[str, Any]], recoveries: int) -> float:
        factor = self.config.recover.factor**recoveries if self.config.recover else 1.0
        schedule = self.config.optim.schedule
        if isinstance(schedule.shape, c.ReduceOnPlateau):
            seen = plateau.Plateau(rate=schedule.peak)
            for record in history:  # replayed from the record, so that it needs no state of its own
                metric = record["validation"][schedule.shape.metric]
                seen = plateau.observe(seen, schedule, metric, epoch=record["epoch"])
            factor *= plateau.scale(seen, schedule)
        return factor

    # ---- after training

    def evaluation_variables(self, train_state: TrainState, epoch: int) -> tuple[Tree, Tree]:
        """(All parameters, statistics) to evaluate a state of `epoch`: averaged ones where the run keeps averages."""
        return self._reader(max((change for change in self.plan.changes if change <= epoch), default=0))(train_state)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a Run lives as long as its process
    def _reader(self, epoch: int) -> Callable[[TrainState], tuple[Tree, Tree]]:
        return jax.jit(steps.build_evaluation_variables(self._optimizer(epoch)))

    def decayed(self) -> dict[str, bool]:
        """Whether weight decay shrinks a trained parameter, by path."""
        return self._optimizer(0).decayed

    def card(self) -> dict[str, Any]:
        """What travels with the parameters in every checkpoint: all that is needed to use the model."""
        return {
            "config": files.document(self.config),
            "class_names": list(self.dataset.class_names),
            "split_hash": self.dataset.split_hash,
        }


def training_images(config: c.Config, split: data.Split, pixels: int) -> np.ndarray:
    """Images of the training split as evaluation sees them, evenly spread over it: float32 [n, h, w, c], of about this
    many pixels in all."""
    count = min(len(split), math.ceil(pixels / math.prod(config.data.image_size)))
    rows = np.arange(count) * len(split) // count
    prepare, _ = views.look(config, None)
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
