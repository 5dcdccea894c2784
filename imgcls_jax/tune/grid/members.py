"""Many networks of one config in one compiled program, each with its own seed, learning rates and weight decay.

All that a step reads and writes has the members as its first axis: parameters, statistics, optimizer state, and the
numbers in which members differ. Images lie on the device once; each member gathers those of its own order. So a member
computes what a run of its config computes, and differs from it by rounding alone.

On a GPU or TPU a step is vmapped over the members, which fills a device that one small network leaves idle. On a CPU,
where nothing is idle, the program takes one member's step after another: of eight networks of configs/digits_cnn.py the
vmapped step, whose convolutions become grouped ones, took a third more CPU time (jax 0.10.2).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.evaluation import evaluate
from imgcls_jax.models.network import Tree
from imgcls_jax.optim import averaging, schedules
from imgcls_jax.optim.schedules import LearningRate
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import transfer
from imgcls_jax.training import experiment as experiments
from imgcls_jax.training import state, steps
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.finite import is_finite
from imgcls_jax.training.state import TrainState
from imgcls_jax.xla import target


class Numbers(NamedTuple):
    """Where members differ; each has the members as its first axis."""

    key: Key[Array, " members"]
    """Of the steps' randomness."""
    rates: Float[Array, "members steps"]
    """The learning rate of every step."""
    decay: dict[str, Float[Array, " members"]]
    """The weight decay of parameters in which members differ, by the place among the leaves."""


class Members:
    """The networks of a grid, ready to be trained; it holds no progress."""

    def __init__(self, experiment: Experiment, configs: Sequence[c.Config], *, vmapped: bool | None = None):
        """
        Args:
          experiment: what all have in common: data on the device, model, augmentation, loss; on one device.
          configs: of each member; they differ in `seed`, `optim.schedule` and weight decay alone.
          vmapped: whether a step is that of all members at once, or one after another; None: not on a CPU.
        """
        self._experiment, self._configs = experiment, configs
        self._on_cpu = meshes.platform(experiment.mesh) == "cpu"
        self._vmapped = not self._on_cpu if vmapped is None else vmapped
        self._images = transfer.upload(experiment.dataset.train, experiment.mesh)
        self._keys = jnp.stack([experiments.keys(config.seed)[1] for config in configs])
        self._rates = jnp.stack([self._rates_of(config) for config in configs])

    def _rates_of(self, config: c.Config) -> np.ndarray:
        per_epoch = self._experiment.steps_per_epoch
        rates = schedules.build(config.optim.schedule, steps_per_epoch=per_epoch, epochs=config.epochs)
        return np.repeat(np.asarray(rates.table), rates.steps_per_entry)

    def __len__(self) -> int:
        return len(self._configs)

    def initial_states(self) -> TrainState:
        """The states before the first step, stacked."""
        experiment, seeds = self._experiment, [config.seed for config in self._configs]
        made = {seed: experiment.initial_variables(experiments.keys(seed)[0]) for seed in dict.fromkeys(seeds)}
        variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(made[seed] for seed in seeds))
        return jax.jit(jax.vmap(functools.partial(experiment.create_state, epoch=0)))(*variables)

    def enter_phase(self, states: TrainState, epoch: int, *, previous: int) -> tuple[TrainState, jax.stages.Compiled]:
        """The states, which are those of the epoch `previous`, split as `epoch` wants them, and the compiled step."""
        experiment = self._experiment
        if experiment.trainable(previous) != experiment.trainable(epoch):
            repartition = functools.partial(
                state.repartition, trainable=experiment.trainable(epoch), optimizer=experiment.optimizer(epoch)
            )
            states = jax.jit(jax.vmap(repartition))(states)
        with target.tracing_for(experiment.mesh):
            run = jax.jit(self._run(epoch), donate_argnums=0)
            numbers = self._numbers(experiment.last_change(epoch))
            compiled = run.lower(states, numbers, self._images, self._orders(0), np.int32(0), np.int32(0)).compile()
        return states, compiled

    def train(
        self, compiled: jax.stages.Compiled, states: TrainState, epoch: int, last: int
    ) -> tuple[TrainState, Bool[np.ndarray, " members"]]:
        """Train the first `last` steps of an epoch; return the states and whether each and its loss are finite."""
        numbers, orders = self._numbers(self._experiment.last_change(epoch)), self._orders(epoch)
        # One step per dispatch on a CPU, as in a run, whose reasons `training.feed` gives.
        ends = range(1, last + 1) if self._on_cpu else (last,)
        start, finite = 0, None
        for end in ends:
            states, finite = compiled(states, numbers, self._images, orders, np.int32(start), np.int32(end))
            start = end
            if self._on_cpu:
                jax.block_until_ready(finite)  # each step under way would have temporary memory of its own
        return states, np.asarray(finite)

    def end_epoch(self, states: TrainState, epoch: int) -> TrainState:
        """What happens after an epoch's last step, before its evaluation (SWA)."""
        swa = self._experiment.config.optim.swa
        if swa is None or epoch < swa.from_epoch:
            return states
        average = jax.jit(jax.vmap(averaging.update_swa))(states.average, states.params, states.stats)
        return states.replace(average=average)

    def variables(self, states: TrainState, epoch: int) -> tuple[Tree, Tree]:
        """(All parameters, statistics) to evaluate, stacked."""
        return self._reader(self._experiment.last_change(epoch))(states)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - it lives as long as its grid
    def _reader(self, epoch: int) -> Callable[[TrainState], tuple[Tree, Tree]]:
        return jax.jit(jax.vmap(steps.build_evaluation_variables(self._experiment.optimizer(epoch))))

    def validate(self, states: TrainState, epoch: int) -> list[dict[str, float]]:
        """Evaluate every member on the validation images, as a run does."""
        validation: evaluate.Evaluation | None = self._experiment.validate
        assert validation is not None, "checked before training"
        return validation.of_members(self.variables(states, epoch))

    def _run(self, epoch: int) -> Callable[..., tuple[TrainState, Bool[Array, " members"]]]:
        """The function that trains all members from one step of an epoch up to another one."""
        experiment = self._experiment
        optimizer = experiment.optimizer(epoch)
        decays, structure = jax.tree.flatten(optimizer.decay)

        def step(train_state: TrainState, numbers: Numbers, rows: Array, images: Tree) -> TrainState:
            decay = jax.tree.unflatten(structure, [numbers.decay.get(str(i), d) for i, d in enumerate(decays)])
            own = dataclasses.replace(optimizer, chain=functools.partial(optimizer.chain, decay=decay))
            train_step, _ = experiment.build_steps(
                epoch, optimizer=own, schedule=LearningRate(numbers.rates, 1), key=numbers.key
            )
            return train_step(train_state, {name: array[rows] for name, array in images.items()} | {"index": rows})

        def finite(train_state: TrainState) -> Bool[Array, ""]:
            return is_finite(train_state) & jnp.isfinite(train_state.metrics.loss.total)

        def run(states: TrainState, numbers: Numbers, images: Tree, orders: Array, first: Any, last: Any) -> Any:
            def steps_of_all(i: Any, states: TrainState) -> TrainState:
                if self._vmapped:
                    return jax.vmap(step, in_axes=(0, 0, 0, None))(states, numbers, orders[:, i], images)
                return jax.lax.map(lambda x: step(x[0], x[1], x[2], images), (states, numbers, orders[:, i]))

            if self._on_cpu:
                states = steps_of_all(first, states)
            else:
                states = jax.lax.fori_loop(first, last, steps_of_all, states)
            return states, jax.vmap(finite)(states)

        return run

    @functools.lru_cache(maxsize=1)  # noqa: B019 - it lives as long as its grid
    def _numbers(self, epoch: int) -> Numbers:
        each = [
            jax.tree.leaves(self._experiment.optimizer(epoch, config.optim).decay) for config in self._configs
        ]  # of each member, by leaf
        differing = {
            str(i): jnp.asarray(values, jnp.float32)
            for i, values in enumerate(zip(*each, strict=True))
            if len(set(values)) > 1
        }
        return Numbers(self._keys, self._rates, differing)

    def _orders(self, epoch: int) -> Array:
        """int32 [members, steps, batch]: the rows of each step; each member's as its own run has them."""
        experiment, train = self._experiment, self._experiment.dataset.train
        shape = experiment.steps_per_epoch, experiment.config.batch_size
        sampling = experiment.config.data.sampling
        by_seed = {
            seed: data.train_order(train.labels, sampling, seed, epoch)[: shape[0] * shape[1]].reshape(shape)
            for seed in dict.fromkeys(config.seed for config in self._configs)
        }
        return jnp.asarray(np.stack([by_seed[config.seed] for config in self._configs]).astype(np.int32))
