"""Devices, and which part of each array lives on which of them.

The mesh has two axes. A batch is split over both; parameters and optimizer state are whole on every device of the
`data` axis and split over the `fsdp` axis. Everything runs under `jax.jit`, so a step computes the same numbers on
one device and on many (up to the rounding of sums), BatchNorm statistics included, unless `Config.bn_group` divides
them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from imgcls_jax import config as c
from imgcls_jax.errors import UserError

# Arrays with fewer elements than this are copied rather than split: gathering them costs more than it saves.
_SMALLEST_SPLIT = 2**14


def abstract(shapes: Any, shardings: Any) -> Any:
    """The shapes and types of a tree with their shardings, for a computation to be compiled without arrays."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, shardings
    )


def make(config: c.Mesh) -> jax.sharding.Mesh:
    """A mesh of axes `data` × `fsdp` over all devices, or over the first `config.devices` local ones."""
    devices = jax.devices()
    if config.devices is not None:
        if jax.process_count() > 1:
            raise UserError("mesh.devices picks among one process's devices; leave it None in a multi-process run")
        if config.devices > len(devices):
            raise UserError(f"mesh.devices is {config.devices}, but this machine has {len(devices)}: lower it")
        devices = devices[: config.devices]
    return arrange(devices, config)


def arrange(devices: Sequence[Any], config: c.Mesh) -> jax.sharding.Mesh:
    """A mesh of axes `data` × `fsdp` over these devices, which may be such as are only compiled for."""
    if len(devices) % config.fsdp:
        raise UserError(f"mesh.fsdp = {config.fsdp} does not divide the number of devices, {len(devices)}")
    return jax.sharding.Mesh(_grid(devices, config.fsdp), ("data", "fsdp"))


def _grid(devices: Sequence[Any], fsdp: int) -> np.ndarray:
    """Devices in rows of `fsdp` that are near to each other by the machine's topology; no row spans two slices."""
    shape = (len(devices) // fsdp, fsdp)
    if devices[0].platform != "tpu" or len(devices) < jax.device_count():
        return np.asarray(devices).reshape(shape)  # in JAX's order, which keeps those of a process together
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if shape[0] % slices:
        raise UserError(f"mesh.fsdp = {fsdp} would split parameters across {slices} slices: lower it")
    return mesh_utils.create_hybrid_device_mesh(
        (shape[0] // slices, fsdp), (slices, 1), devices, allow_split_physical_axes=True
    )


def platform(mesh: jax.sharding.Mesh) -> str:
    """Return what a mesh's devices are, such as "cpu", "gpu" or "tpu"; it may be a mesh to compile for alone."""
    return mesh.devices.flat[0].platform


def batch_groups(bn_group: int | None, devices: int) -> int:
    """Count the groups of devices that normalize their images together.

    Args:
      bn_group: `Config.bn_group`.
      devices: number of devices.

    Raises:
      UserError: the groups are not equal.
    """
    if bn_group is None:
        return 1
    if devices % bn_group:
        fits = ", ".join(str(n) for n in range(1, devices + 1) if devices % n == 0)
        raise UserError(
            f"bn_group = {bn_group} does not divide the number of devices, {devices}: take one of {fits}, or leave it "
            "out for all of them"
        )
    return devices // bn_group


def is_multi_process() -> bool:
    """Tell whether this is one of several processes of a run."""
    return jax.process_count() > 1


def agreed(decision: bool) -> bool:
    """Return the first process's decision in every process; all of them must call it. With several processes it waits
    for the devices."""
    if not is_multi_process():
        return decision
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(decision)))


def in_any(fact: bool) -> bool:
    """Return whether something is so in any process; all of them must call it, and wait for each other."""
    if not is_multi_process():
        return fact
    return bool(np.any(multihost_utils.process_allgather(np.asarray(fact))))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def put(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Host arrays onto the devices; of a split array each process gives its own part."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def put_padded(rows: np.ndarray, size: int, mesh: jax.sharding.Mesh) -> jax.Array:
    """Put rows, and zeros in place of those up to `size` that are missing, onto the devices as a batch."""
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return put(padded, batch(mesh))


def state(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """A sharding for each array of a training state: the longest axis that the fsdp axis divides is split over it."""
    parts = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        if parts > 1 and np.size(leaf) >= _SMALLEST_SPLIT:
            for axis in sorted(range(len(shape)), key=lambda i: -shape[i]):
                if shape[axis] % parts == 0:
                    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))
        return replicated(mesh)

    return jax.tree.map(sharding, tree)


def as_far_as_here(config: c.Mesh) -> jax.sharding.Mesh:
    """Make the mesh of a run's config, or of all devices where this machine has fewer."""
    here = len(jax.devices())
    return make(c.Mesh(devices=min(config.devices or here, here)))
