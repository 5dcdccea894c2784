"""Compile a config's real training and evaluation steps from shapes alone, and read off what they take."""

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.augment import test_time
from imgcls_jax.evaluation import metrics
from imgcls_jax.evaluation.steps import build_eval_step, build_predict
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import hlo, products
from imgcls_jax.training import feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.validate import validate
from imgcls_jax.xla import target


@dataclass(frozen=True)
class Step:
    """One compiled step; all figures are of one device and one run of it."""

    memory: dict[str, int]
    """Bytes by part."""
    flops: float
    """Of all matrix products and convolutions as traced, those of rematerialization included."""
    traffic: int
    """Bytes that its operations read and write."""
    cycles: int
    """The TPU compiler's estimate; 0 elsewhere."""
    collectives: dict[str, tuple[int, int]]
    """{kind: (count, bytes)}."""
    compile_seconds: float

    @property
    def total(self) -> int:
        """Bytes of memory in all."""
        return sum(self.memory.values())


def experiment(config: c.Config, dataset: data.Dataset, mesh: jax.sharding.Mesh) -> Experiment:
    """Make the experiment of a config whose images and initial weights are not read.

    Raises:
      UserError: the config contradicts itself or the number of devices.
    """
    # Where initial values come from changes no shape; what is resident on the devices does, and is said in the report.
    transfer = dataclasses.replace(config.transfer, init_from=None, replace=(), allow_frozen_random=True)
    config = dataclasses.replace(
        config, transfer=transfer, data=dataclasses.replace(config.data, feed="streamed"), evaluators=()
    )
    validate(config, mesh.size)
    return Experiment(config, dataset, mesh)


def last_phase(run: Experiment) -> int:
    """Return the first epoch of the last phase, in which all augmentation is on and all that ever trains trains."""
    return max((epoch for epoch in range(1, run.config.epochs) if run.phase_changes(epoch)), default=0)


def training(run: Experiment, epoch: int) -> Step:
    """Compile the training step of an epoch."""
    state = run.abstract_state(epoch)
    parts = {
        "parameters": (state.params, state.frozen),
        "optimizer": state.opt_state,
        "statistics and averages": (state.stats, state.average),
        "batch": _training_batch(run),
    }
    return _measure(trace(run, epoch), run, {name: per_device(part) for name, part in parts.items()})


def trace(run: Experiment, epoch: int) -> jax.stages.Traced:
    """Trace the training step of an epoch on streamed images."""
    with target.tracing_for(run.mesh):
        return feed.trace_streamed(run.build_steps(epoch)[0], run.abstract_state(epoch), _training_batch(run))


def evaluation(run: Experiment, epoch: int) -> Step:
    """Compile the evaluation step of an epoch, by the center of each image."""
    config = run.config
    outputs = config.model.output_classes(len(run.dataset.class_names))
    prepare, average = test_time.build(config, None)
    predict = build_predict(run.model.evaluate, prepare=prepare, average=average)
    step = build_eval_step(predict, loss=run.loss, num_classes=outputs, metrics=config.metrics)
    variables = run.abstract_variables(epoch)
    canvas = config.data.eval_canvas or config.data.canvas
    batch = _batch(run, config.eval_batch_size or config.batch_size, canvas, mask=jnp.bool_)
    figures = jax.eval_shape(lambda: metrics.init(config.metrics, outputs))
    figures = meshes.abstract(figures, jax.tree.map(lambda _: meshes.replicated(run.mesh), figures))
    traced = jax.jit(step, donate_argnums=1).trace(variables, figures, batch)
    return _measure(traced, run, {"parameters": per_device(variables), "batch": per_device(batch)})


def per_device(tree: Any) -> int:
    """Bytes of a tree of shapes with shardings on one device."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)]
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _training_batch(run: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    return _batch(run, run.config.batch_size, run.config.data.canvas, aspect=jnp.float32, index=jnp.int32)


def _batch(run: Experiment, size: int, canvas: c.Canvas, **more: Any) -> dict[str, jax.ShapeDtypeStruct]:
    sharding = meshes.batch(run.mesh)
    image = jax.ShapeDtypeStruct((size, canvas.height, canvas.width, canvas.channels), canvas.dtype, sharding=sharding)
    rows = {name: jax.ShapeDtypeStruct((size,), dtype, sharding=sharding) for name, dtype in more.items()}
    return {"image": image, "label": jax.ShapeDtypeStruct((size,), jnp.int32, sharding=sharding), **rows}


def _measure(traced: jax.stages.Traced, run: Experiment, parts: dict[str, int]) -> Step:
    start = time.perf_counter()
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - start
    program = hlo.parse(compiled.as_text() or "")
    analysis = compiled.memory_analysis()
    arguments = analysis.argument_size_in_bytes
    memory = parts | {
        "other arguments and padding": max(arguments - sum(parts.values()), 0),
        "temporaries": analysis.temp_size_in_bytes,
        "outputs": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    }
    return Step(
        memory=memory,
        flops=products.flops(traced.jaxpr) / run.mesh.size,
        traffic=program.traffic(),
        cycles=program.cycles(),
        collectives=program.collectives(),
        compile_seconds=seconds,
    )
