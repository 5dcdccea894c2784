"""Turn the figures of compiled steps into an answer: whether it fits, how long a step takes at best, and why."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgcls_jax.display.console import duration, size
from imgcls_jax.plan.hardware import Hardware
from imgcls_jax.plan.programs import Step

ASSUMPTIONS = (
    "the step time is the longest of arithmetic, memory and network at their peak rates, so a lower bound, and the "
    "speeds upper ones: products and convolutions as traced, every operation's operands and results through memory, "
    "collectives overlapped with all else, no latency, of which a small step's time consists; without a device the GPU "
    "compiler tunes no kernels; images are streamed, a resident data set takes its own bytes beside"
)


@dataclass(frozen=True)
class Estimate:
    """Seconds of one training step at the chip's peaks."""

    arithmetic: float
    memory: float
    """Of a TPU, by the compiler's own cycles where these are more."""
    network: float

    @property
    def step(self) -> float:
        """The longest."""
        return max(self.arithmetic, self.memory, self.network)

    @property
    def limit(self) -> str:
        """What the step waits for."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


@dataclass(frozen=True)
class Plan:
    """What `imgcls plan` found."""

    hardware: Hardware
    devices: int
    batch_size: int
    precision: str
    epoch: int
    """First epoch of the phase that was compiled."""
    images: int | None
    """Training images; None: not known."""
    available: int
    """Bytes of memory of one device."""
    training: Step
    evaluation: Step
    minimum: int
    """Bytes that one device at least gives into the sums of gradients: those of what trains, in the
    compute type; 0 on one device."""
    batch_norm: tuple[int, int] | None = None
    """Images that BatchNorm normalizes together in training, and the devices that they are on; None without it."""
    process: int = 0
    """Bytes that a process takes beside its arrays, where both are of one memory: those of the plan, at its peak."""
    suggestions: tuple[str, ...] = ()
    """Settings that were compiled and fit, where the config's own do not."""

    @property
    def need(self) -> int:
        """Bytes that training and evaluation take on one device: the larger step's, and those of a CPU's process."""
        return max(self.training.total, self.evaluation.total) + self.process

    @property
    def estimate(self) -> Estimate | None:
        """None on hardware whose peaks are not known."""
        return estimate(self.training, self.hardware, self.precision)


def estimate(step: Step, hardware: Hardware, precision: str) -> Estimate | None:
    """Divide a step's figures by the peaks of its chip; None where they are not known."""
    chip = hardware.chip
    if chip is None:
        return None
    peak = chip.full_precision if precision == "fp32" else chip.low_precision
    memory = step.traffic / chip.bandwidth
    if hardware.is_tpu and chip.clock:
        memory = step.cycles / chip.clock if step.cycles else memory
    between = not hardware.is_tpu and hardware.shape[1] > 1
    sent = wire_bytes(step.collectives, hardware.devices)
    return Estimate(step.flops / peak, memory, sent / (chip.network if between else chip.link))


def wire_bytes(collectives: Mapping[str, tuple[int, int]], devices: int) -> float:
    """Count the bytes that each device sends in a ring: its part of a sum goes around twice, to be added and to be
    known, everything else once.

    Args:
      collectives: {kind: (count, bytes)}, as `Step.collectives`.
      devices: number of devices.
    """
    whole = sum((2 if kind == "all-reduce" else 1) * size for kind, (_, size) in collectives.items())
    return whole * (devices - 1) / devices


def rows(plan: Plan) -> dict[str, str]:
    """Write the plan as a table's names and values."""
    chip, step, found = plan.hardware.chip, plan.training, plan.estimate
    left = plan.available - plan.need
    table = {
        "hardware": f"{plan.devices} × {chip.title if chip else 'a device of this machine'}, {plan.precision}",
        "batch": f"{plan.batch_size}, {plan.batch_size // plan.devices} per device; the step of epoch {plan.epoch}",
        "verdict": f"fits, {size(left)} to spare" if left >= 0 else f"does not fit: {size(-left)} too much",
        "memory per device": f"{size(plan.need)} of {size(plan.available)}",
        "of the training step": ", ".join(f"{name} {size(n)}" for name, n in step.memory.items() if n),
        "of the evaluation": ", ".join(f"{name} {size(n)}" for name, n in plan.evaluation.memory.items() if n),
        **({"of the process": f"{size(plan.process)}, Python, JAX and compiled programs"} if plan.process else {}),
        "arithmetic": f"{step.flops / 1e12:.3g} TFLOP of products per step and device",
        "memory traffic": f"{step.traffic / 1e9:.3g} GB per step and device",
    }
    if step.cycles:
        table["estimated cycles"] = f"{step.cycles / 1e6:.1f} million, by the TPU compiler"
    table["collectives"] = (
        ", ".join(f"{count} {kind} of {size(n)}" for kind, (count, n) in step.collectives.items())
        + (f"; the gradients alone: {size(plan.minimum)}" if plan.minimum else "")
        or "none"
    )
    if plan.devices > 1 and plan.batch_norm is not None:
        together, devices = plan.batch_norm
        where = f"{devices} devices: --config.bn_group=1 needs no sums between them" if devices > 1 else "one device"
        table["BatchNorm"] = f"over {together:,} images at a time, of {where}"
    if found:
        per_second = plan.batch_size / found.step
        table["step at best"] = (
            f"{1e3 * found.step:.2f} ms, limited by {found.limit} (arithmetic {1e3 * found.arithmetic:.2f}, "
            f"memory {1e3 * found.memory:.2f}, network {1e3 * found.network:.2f})"
        )
        table["images per second"] = f"at most {per_second:,.0f}"
        if plan.images:
            table["epochs per hour"] = f"at most {3600 * per_second / plan.images:,.0f}, of {plan.images:,} images"
        table["assumptions"] = ASSUMPTIONS
    if left < 0:
        table["compiled and fits"] = "; ".join(plan.suggestions) or "none of a smaller batch, remat and mesh.fsdp"
    table["compiled in"] = f"{duration(step.compile_seconds)} and {duration(plan.evaluation.compile_seconds)}"
    if chip:
        table["peaks from"] = chip.source
    return table


def document(plan: Plan) -> Mapping[str, Any]:
    """Write the plan for a program to read: bytes, seconds, counts."""
    found = plan.estimate
    return dataclasses.asdict(plan) | {
        "need": plan.need,
        "fits": plan.need <= plan.available,
        "estimate": found and dataclasses.asdict(found) | {"step": found.step, "limit": found.limit},
        "images_per_second": found and plan.batch_size / found.step,
        "epochs_per_hour": found and plan.images and 3600 * plan.batch_size / found.step / plan.images,
        "assumptions": ASSUMPTIONS,
    }
