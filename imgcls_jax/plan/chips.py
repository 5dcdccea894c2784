"""Published figures of accelerators, per chip."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One TPU chip or GPU. Rates are peaks: what its maker states, and no program reaches."""

    title: str
    low_precision: float
    """FLOP per second of dense bf16 and fp16 products."""
    full_precision: float
    """FLOP per second of float32 products as XLA computes them by default: in bf16 on a TPU, in TF32 on a GPU."""
    memory: int
    """Bytes."""
    bandwidth: float
    """Bytes of memory per second."""
    link: float
    """Bytes per second that it sends to its neighbors: ICI of a TPU, NVLink of a GPU."""
    network: float
    """Bytes per second and chip between machines; of a TPU slice, whose machines ICI joins, as `link`."""
    source: str
    """Where the figures are from."""
    clock: float | None = None
    """Cycles per second of a TPU, from its peak: products per cycle are 128² × 2 of each matrix unit."""
    target: str | None = None
    """Of a GPU, what XLA must know of it: fields of `GpuTargetConfigProto.gpu_device_info`."""


_GPU = (
    "threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 threads_per_core_limit: 2048 "
    "block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 "
    "registers_per_core_limit: 65536 registers_per_block_limit: 65536 "
)

CHIPS = {
    "v5e": Chip(
        title="TPU v5e",
        low_precision=197e12,
        full_precision=197e12,
        memory=16 * 2**30,
        bandwidth=819e9,
        link=200e9,
        network=200e9,
        source="https://cloud.google.com/tpu/docs/v5e",
        clock=197e12 / (4 * 128**2 * 2),
    ),
    "v5p": Chip(
        title="TPU v5p",
        low_precision=459e12,
        full_precision=459e12,
        memory=95 * 2**30,
        bandwidth=2765e9,
        link=600e9,
        network=600e9,
        source="https://cloud.google.com/tpu/docs/v5p",
        clock=459e12 / (8 * 128**2 * 2),
    ),
    "h100": Chip(
        title="NVIDIA H100 SXM 80 GB",
        low_precision=989e12,
        full_precision=494e12,
        memory=84_978_434_048,
        bandwidth=3352e9,
        link=450e9,
        network=50e9,
        source="https://www.nvidia.com/en-us/data-center/h100/; between machines 400 Gbit/s per GPU, as in a DGX H100",
        target=_GPU
        + "shared_memory_per_core: 233472 core_count: 132 fpus_per_core: 128 memory_bandwidth: 3352320000000 "
        "l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048 "
        "shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }",
    ),
    "a100": Chip(
        title="NVIDIA A100 SXM 80 GB",
        low_precision=312e12,
        full_precision=156e12,
        memory=80 * 2**30,
        bandwidth=2039e9,
        link=300e9,
        network=25e9,
        source="https://www.nvidia.com/en-us/data-center/a100/; between machines 200 Gbit/s per GPU, as in a DGX A100",
        target=_GPU
        + "shared_memory_per_core: 167936 core_count: 108 fpus_per_core: 64 memory_bandwidth: 2039000000000 "
        "l2_cache_size: 41943040 clock_rate_ghz: 1.41 device_memory_size: 85899345920 "
        "shared_memory_per_block_optin: 166912 cuda_compute_capability { major: 8 }",
    ),
}
"""By the name that --on takes."""
