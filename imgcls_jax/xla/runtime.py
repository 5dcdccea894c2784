"""Settings of JAX and XLA that must be made before the first array: compile cache, CPU flags.

Commands call `setup` first. A library user who calls `train` without it loses speed, nothing else.
"""

import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version

from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.xla import allocator

# XLA's CPU backend sends convolutions to YNNPACK, whose weight gradients and 1×1 convolutions are slow; this takes
# convolutions out of it. An unknown flag aborts the process, so it is given only to the jaxlib versions that it was
# tested with.
_CPU_CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
_CPU_FLAG_VERSIONS = ("0.10.", "0.11.")
# Of several processes on CPUs each would run the independent all-reduces of a step in an order of its own, and gloo
# would take one for another ("Received data size doesn't match expected size"). This keeps them in the program's order.
_CPU_ORDER_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
_CPU_ORDER_VERSIONS = ("0.8.", "0.9.", "0.10.", "0.11.", "0.12.")


@dataclass(frozen=True)
class Runtime:
    """What `setup` decided; shown in the start table."""

    compile_cache: str
    """Folder of the persistent compile cache; "off" where the user turned it off."""
    xla_flags: str
    """XLA_FLAGS as the backend sees them."""


def setup(*, several_processes: bool = False) -> Runtime:
    """Turn on the persistent compile cache and the CPU flags, unless the user's environment says otherwise.

    Call it before anything touches a device. $IMGCLS_CACHE moves the cache; $JAX_COMPILATION_CACHE_DIR and XLA_FLAGS
    are respected as they are.

    Args:
      several_processes: whether this is one of several processes of a run.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if version("jaxlib").startswith(_CPU_FLAG_VERSIONS) and "xla_cpu_experimental_ynn_fusion_type" not in flags:
        # Only the CPU backend of x86 and Arm builds knows the flag's effect; on other backends it is inert.
        flags = f"{flags} {_CPU_CONVOLUTION_FLAG}".strip()
    if (
        several_processes
        and version("jaxlib").startswith(_CPU_ORDER_VERSIONS)
        and "concurrency_optimized_scheduler" not in flags
    ):
        flags = f"{flags} {_CPU_ORDER_FLAG}".strip()
    if flags:
        os.environ["XLA_FLAGS"] = flags

    allocator.keep_freed_memory()
    # Of the libraries' own messages only errors, so that the run's output is the run's.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # A cached CPU executable is bound to the machine's instruction set, so hosts with a shared home keep apart.
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla" / platform.node()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return Runtime(jax.config.jax_compilation_cache_dir or "off", flags)  # type: ignore[attr-defined]


def missing_device() -> str | None:
    """In one sentence, what to do about JAX having no device of the platform that was asked for; None if it has one."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # which of them depends on the platform
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = f" ({error})" if str(error) else ""
        return (
            f"JAX finds no device of JAX_PLATFORMS={asked!r}: install its extra (imgcls_jax[cuda] or imgcls_jax[tpu]), "
            f"check the driver, or unset JAX_PLATFORMS{reason}"
        )
    return None
