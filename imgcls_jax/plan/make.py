"""Plan a training: compile it for hardware, and where it does not fit look for settings that do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from imgcls_jax import config as c
from imgcls_jax.models.network import COMPUTE_DTYPE
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.plan import images, programs
from imgcls_jax.plan.hardware import Hardware, devices
from imgcls_jax.plan.process import peak_memory
from imgcls_jax.plan.report import Plan
from imgcls_jax.training.memory import memory_limit


def make(config: c.Config, hardware: Hardware, *, classes: int | None = None, count: int | None = None) -> Plan:
    """Compile a config's training and evaluation steps for hardware, without an image or an array.

    Args:
      config: the experiment.
      hardware: as `hardware.parse` reads it.
      classes, count: classes and training images of the data; None: those of the catalog set.

    Raises:
      UserError: the config contradicts itself or the devices, or the classes are not known.
    """
    if hardware.chip is None:
        mesh = meshes.make(config.mesh)
        grid = np.asarray(mesh.devices).reshape(-1)
    else:
        grid = devices(hardware)
    made = _plan(config, hardware, grid, classes, count)
    if hardware.chip is None and grid[0].platform == "cpu":
        # Of the config's own steps: what is tried after them only makes this process larger.
        made = dataclasses.replace(made, process=peak_memory() // len(grid))
    if made.need <= made.available:
        return made
    size, whole = len(grid), config.batch_size
    tries = {
        f"batch_size={whole // k}": dataclasses.replace(config, batch_size=whole // k)
        for k in (2, 4, 8)
        if whole % (k * size * config.optim.accumulate) == 0
    }
    if not config.remat:
        tries["remat=True"] = dataclasses.replace(config, remat=True)
    if config.mesh.fsdp == 1 and size > 1:
        sharded = dataclasses.replace(config.mesh, fsdp=size)
        tries[f"mesh.fsdp={size}"] = dataclasses.replace(config, mesh=sharded)
    plans = {setting: _plan(tried, hardware, grid, classes, count) for setting, tried in tries.items()}
    found = (f"--config.{name}" for name, plan in plans.items() if plan.need + made.process <= plan.available)
    return dataclasses.replace(made, suggestions=tuple(found))


def _plan(config: c.Config, hardware: Hardware, grid: np.ndarray, classes: int | None, count: int | None) -> Plan:
    mesh = meshes.arrange(grid.tolist(), config.mesh)
    dataset, known = images.unread(config, classes, count)
    run = programs.experiment(config, dataset, mesh)
    epoch = programs.last_phase(run)
    trained = jax.tree.leaves(run.abstract_state(epoch).params)
    return Plan(
        hardware=hardware,
        devices=mesh.size,
        batch_size=config.batch_size,
        precision=config.precision,
        epoch=epoch,
        images=known,
        available=hardware.chip.memory if hardware.chip else memory_limit(mesh),
        training=programs.training(run, epoch),
        evaluation=programs.evaluation(run, epoch),
        minimum=sum(leaf.size for leaf in trained) * jnp.dtype(COMPUTE_DTYPE[config.precision]).itemsize
        if mesh.size > 1
        else 0,
        batch_norm=(config.batch_size // config.optim.accumulate // run.batch_groups, mesh.size // run.batch_groups)
        if run.plan.statistics and config.transfer.batch_norm.normalize_by == "batch"
        else None,
    )
