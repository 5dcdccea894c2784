"""The devices to compile for: a name such as "v5e:2x2" or "h100x8x4" becomes a mesh of devices that are not here."""

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgcls_jax.errors import UserError, did_you_mean, short
from imgcls_jax.plan.chips import CHIPS, Chip


@dataclass(frozen=True)
class Hardware:
    """What --on names."""

    name: str
    chip: Chip | None
    """None: the devices of this machine, of which no figures are known."""
    shape: tuple[int, ...]
    """Of a TPU, chips per axis of the slice; of GPUs, (per machine, machines)."""

    @property
    def devices(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def is_tpu(self) -> bool:
        """Whether it is made of TPU chips."""
        return self.chip is not None and self.chip.target is None


def parse(name: str) -> Hardware:
    """Read a name of hardware.

    Raises:
      UserError: it is none.
    """
    if name == "here":
        return Hardware(name, None, ())
    found = re.fullmatch(r"([a-z]\w*?)(?::(\d+(?:x\d+){1,2})|x(\d+)(?:x(\d+))?)", name)
    chip = CHIPS.get(found[1]) if found else None
    if not found or chip is None:
        near = did_you_mean(found[1], CHIPS) if found else ""
        raise UserError(
            f"--on {short(name)} is no hardware that can be planned for{near}: give here, v5e:2x2, v5p:2x2x1, "
            "h100x8 (GPUs of a machine), h100x8x4 (of four machines) or a100x8"
        )
    if (chip.target is None) != (found[2] is not None):
        form = f"{found[1]}:2x2 (chips per axis)" if chip.target is None else f"{found[1]}x8 (GPUs of a machine)"
        raise UserError(f"--on {short(name)} has the wrong form: write {form}")
    shape = tuple(int(n) for n in (found[2].split("x") if found[2] else (found[3], found[4] or "1")))
    if not 0 < math.prod(shape) <= 4096:
        raise UserError(f"--on {short(name)} has {math.prod(shape)} chips: 1 to 4,096 can be planned for")
    return Hardware(name, chip, shape)


def prepare(hardware: Hardware) -> None:
    """Set the environment that a compiler without its device needs; to be called before JAX is imported.

    Raises:
      UserError: the compiler is not installed.
    """
    if hardware.chip is None:
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hardware.is_tpu:
        spec = importlib.util.find_spec("libtpu")
        if spec is None or spec.origin is None:
            raise UserError("the TPU compiler is not installed: pip install 'jax[tpu]' (libtpu, 700 MB)")
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"
        # A lock keeps two processes from one chip; compilers share none.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        os.environ.setdefault("TPU_LIBRARY_PATH", str(Path(spec.origin).parent / "libtpu.so"))
    elif importlib.util.find_spec("jax_cuda13_plugin") is None:
        from importlib.metadata import version

        v = version("jax")
        raise UserError(
            "the GPU compiler is not installed: pip install --no-deps "
            f"jax-cuda13-plugin=={v} jax-cuda13-pjrt=={v} (400 MB; no driver, no CUDA)"
        )


def devices(hardware: Hardware) -> np.ndarray:
    """Return the devices to compile for, object [n]; of "here", JAX's.

    Raises:
      UserError: the compiler knows no such arrangement.
    """
    import jax
    from jax.experimental import topologies

    chip = hardware.chip
    if chip is None:
        return np.asarray(jax.devices())
    try:
        if hardware.is_tpu:
            name = f"{hardware.name.partition(':')[0]}:{'x'.join(map(str, (*hardware.shape, 1)[:3]))}"
            topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
        else:
            per_machine, machines = hardware.shape
            topology = topologies.get_topology_desc(
                hardware.name.partition("x")[0],
                platform="cuda",
                target_config=f'gpu_device_info {{ {chip.target} }} platform_name: "CUDA" '
                f'dnn_version_info {{ major: 9 minor: 10 }} device_description_str: "{chip.title}"',
                topology=f"{machines}x{per_machine}x1",
            )
    except Exception as error:  # JAX's and the plugin's own kinds, by version
        reason = str(error).splitlines()[0]
        raise UserError(f"the compiler takes no --on {hardware.name}: {reason}; try another number of chips") from error
    return np.asarray(topology.devices)
