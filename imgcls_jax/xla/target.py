"""The devices that a program is traced for, where it depends on them.

They are those of the mesh, not JAX's own: a program can be compiled for hardware that is not here. An operation that is
written in two ways is better chosen by `jax.lax.platform_dependent`, which needs none of this; but it traces both.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Target:
    """What is traced for; where nothing is said, one CPU's program, which every device can run."""

    platform: str = "cpu"
    """Of JAX's names."""
    devices: int = 1
    onednn: bool = False
    """Whether convolutions are oneDNN's."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is GPUs."""
        return self.platform in ("gpu", "cuda", "rocm")


_UNSAID = Target()
_TARGET = contextvars.ContextVar("_TARGET", default=_UNSAID)


def current() -> Target:
    """What is being traced for."""
    return _TARGET.get()


@contextlib.contextmanager
def tracing_for(mesh: jax.sharding.Mesh, *, onednn: bool = False) -> Iterator[None]:
    """Within it, trace for the devices of a mesh. Give `jit` a function of its own: it remembers traces.

    Args:
      mesh: the devices.
      onednn: whether convolutions are oneDNN's, of which `xla.onednn.missing` tells where they can be.
    """
    token = _TARGET.set(Target(mesh.devices.flat[0].platform, mesh.size, onednn))
    try:
        yield
    finally:
        _TARGET.reset(token)
