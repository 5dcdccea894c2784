"""Training steps compiled for hardware that is not here: the compiler's cycles, memory traffic and memory (P9, P10).

The figures are read off the compiled program (`imgcls_jax.plan.hlo`), so they are the same in every run of the same
versions, however busy the machine. Nothing is executed.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.process import Answer, CannotRun
from imgcls_jax.errors import UserError
from imgcls_jax.plan import hardware


def steps(*, side: str, on: str, model: str, size: int, classes: int, batch: int, dump: str = "") -> Iterator[Answer]:
    """One bf16 training step on uint8 images without augmentation: "ours", or "plain" (`benchmarks.plain`).

    Args:
      on: as `imgcls plan --on` takes it.
      batch: over all devices.
      dump: a file for the compiled program's text.

    Yields {"cycles", "traffic", "memory", "compile_seconds", "parameters"}; bytes, of one device.
    """
    target = hardware.parse(on)
    try:
        hardware.prepare(target)
    except UserError as error:
        raise CannotRun(str(error)) from error

    from benchmarks import ours  # JAX's environment is set by now

    traced, parameters = (_ours if side == "ours" else _plain)(target, ours, model, size, classes, batch)
    start = time.perf_counter()
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - start

    from imgcls_jax.plan import hlo

    text = compiled.as_text()
    if dump:
        with open(dump, "w") as file:
            file.write(text)
    program, memory = hlo.parse(text), compiled.memory_analysis()
    yield {
        "cycles": program.cycles(),
        "traffic": program.traffic(),
        "temporaries": memory.temp_size_in_bytes,
        "memory": memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        "compile_seconds": seconds,
        "parameters": parameters,
    }


def _ours(target: Any, ours: Any, model: str, size: int, classes: int, batch: int) -> tuple[Any, int]:
    import jax

    from imgcls_jax import config as c
    from imgcls_jax.parallel import mesh as meshes
    from imgcls_jax.plan import images, programs

    settings = c.Data(
        source=c.Arrays(), canvas=c.Canvas(size, size), image_size=(size, size), mean=ours.MEAN, std=ours.STD
    )
    config = ours.config(settings, (), model, batch, "bf16", c.Mesh())
    mesh = meshes.arrange(hardware.devices(target).tolist(), config.mesh)
    run = programs.experiment(config, images.unread(config, classes, None)[0], mesh)
    state = run.abstract_state(0)
    return programs.trace(run, 0), sum(leaf.size for leaf in jax.tree.leaves(state.params))


def _plain(target: Any, ours: Any, model: str, size: int, classes: int, batch: int) -> tuple[Any, int]:
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from benchmarks import plain

    state, step = plain.step(model, size, classes)
    mesh = Mesh(np.asarray(hardware.devices(target)), ("data",))
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), state)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8, sharding=split)
    labels = jax.ShapeDtypeStruct((batch,), np.int32, sharding=split)
    outputs = jax.tree.map(lambda x: x.sharding, state), everywhere
    traced = jax.jit(step, donate_argnums=0, out_shardings=outputs).trace(state, images, labels)
    return traced, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state[0]))
