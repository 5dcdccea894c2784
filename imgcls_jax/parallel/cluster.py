"""Which of how many processes this one is, and where the first one listens: by flags, variables or the batch system."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Literal

from imgcls_jax.errors import UserError

Kind = Literal["auto", "slurm", "env", "none"]

_SLURM_COUNT = "SLURM_STEP_NUM_TASKS"  # srun sets it, unlike SLURM_NTASKS, which a script without srun sees too
_OMPI_COUNT = "OMPI_COMM_WORLD_SIZE"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The place of this process among those of its run."""

    coordinator: str
    """Where the first process listens, HOST:PORT; the same in all processes."""
    count: int
    """Number of processes."""
    index: int
    """Of this one, from 0."""
    local_devices: tuple[int, ...] | None = None
    """Numbers of the GPUs that are this process's; None: all that it sees."""

    @property
    def host(self) -> str:
        """The host of the first process."""
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port at which the first process listens."""
        return int(self.coordinator.rpartition(":")[2])


def find(
    kind: Kind = "auto",
    *,
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Cluster | None:
    """Return the cluster that this process belongs to, or None where it is alone.

    Args:
      kind: "env": what is given here, and for the rest JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID;
        "slurm": a step of Slurm, started by srun; "auto": the first of env, Slurm and Open MPI that there is, and with
        IMGCLS_DISTRIBUTED=auto what JAX finds (TPU pods, Kubernetes); "none": one process.
      coordinator, count, index: of the flags; None: not given.
      environ: the environment variables.

    Raises:
      UserError: something of it is missing, wrong or contradicts itself.
    """
    given = {"--coordinator": coordinator, "--num-processes": count, "--process-id": index}
    flags = [flag for flag, value in given.items() if value is not None]
    if kind in ("none", "slurm") and flags:
        raise UserError(f"{flags[0]} and --cluster {kind} contradict each other: leave one out")
    if kind == "none":
        return None
    if kind == "env" or flags or (kind == "auto" and "JAX_NUM_PROCESSES" in environ):
        return _checked(_of_variables(given, environ))
    if kind == "slurm" and _SLURM_COUNT not in environ:
        raise UserError("--cluster slurm, but this is no step of a Slurm job: start it by srun, or leave --cluster out")
    if kind == "slurm" or _several(environ, _SLURM_COUNT):
        return _checked(_of_slurm(environ))
    if _several(environ, _OMPI_COUNT):
        return _checked(_of_jax(environ, "ompi"))
    if environ.get("IMGCLS_DISTRIBUTED") == "auto":
        return _checked(_of_jax(environ, None))
    return None


def is_one_of_several(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the environment describes several processes."""
    return any(_several(environ, name) for name in ("JAX_NUM_PROCESSES", _SLURM_COUNT, _OMPI_COUNT))


def _several(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").isdigit() and int(environ[name]) > 1


def _checked(cluster: Cluster) -> Cluster | None:
    host, colon, port = cluster.coordinator.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(f"the coordinator must be HOST:PORT, such as node1:29500, not {cluster.coordinator!r}")
    if cluster.count < 1 or not 0 <= cluster.index < cluster.count:
        raise UserError(
            f"of {cluster.count} processes none has the number {cluster.index}: they are numbered from 0 to "
            f"{cluster.count - 1} (--process-id, JAX_PROCESS_ID)"
        )
    return cluster if cluster.count > 1 else None


def _of_variables(given: Mapping[str, str | int | None], environ: Mapping[str, str]) -> Cluster:
    variables = {
        "--coordinator": "JAX_COORDINATOR_ADDRESS",
        "--num-processes": "JAX_NUM_PROCESSES",
        "--process-id": "JAX_PROCESS_ID",
    }
    found = {flag: environ.get(name) if given[flag] is None else given[flag] for flag, name in variables.items()}
    missing = [f"{flag} (or {variables[flag]})" for flag, value in found.items() if value in (None, "")]
    if missing:
        raise UserError(f"of several processes each needs {' and '.join(missing)}, and all three are to be given")
    numbers = {}
    for flag in ("--num-processes", "--process-id"):
        text = str(found[flag])
        if not text.isdigit():
            raise UserError(f"{flag} ({variables[flag]}) must be a whole number, not {text!r}")
        numbers[flag] = int(text)
    return Cluster(str(found["--coordinator"]), numbers["--num-processes"], numbers["--process-id"])


def _of_slurm(environ: Mapping[str, str]) -> Cluster:
    try:
        count, index = int(environ[_SLURM_COUNT]), int(environ["SLURM_PROCID"])
        local, here = int(environ["SLURM_LOCALID"]), _tasks_here(environ)
        if count == 1:
            return Cluster("localhost:1", 1, 0)
        # The first of "gpu[07-09],gpu12"; the port differs between the jobs of a node.
        host = re.sub(r"^([^,\[]+)(?:\[([^],-]+))?.*", r"\1\2", environ["SLURM_STEP_NODELIST"])
        port = environ.get("JAX_COORDINATOR_PORT") or 61440 + int(environ["SLURM_JOB_ID"]) % 4096
    except (KeyError, ValueError) as error:
        raise UserError(f"the variables of the Slurm step are not as srun sets them: {error}") from None
    return Cluster(f"{host}:{port}", count, index, _share(environ, local, here))


def _tasks_here(environ: Mapping[str, str]) -> int:
    """Number of the step's tasks on this node, of "2(x3),1": three nodes of two tasks, then one of one."""
    nodes: list[int] = []
    for part in environ["SLURM_STEP_TASKS_PER_NODE"].split(","):
        tasks, _, times = part.partition("(x")
        nodes += [int(tasks)] * int(times.rstrip(")") or 1)
    return nodes[int(environ["SLURM_NODEID"])]


def _share(environ: Mapping[str, str], local: int, tasks: int) -> tuple[int, ...] | None:
    """The GPUs of one of several tasks on a node that all see the same ones; None where it has those it sees."""
    visible = [name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    allotted = gpus_of_slurm(environ)
    if tasks == 1 or len(visible) < max(allotted, 2):  # Slurm has given each task its own
        return None
    if len(visible) % tasks:
        raise UserError(
            f"{len(visible)} GPUs of a node cannot be shared equally by the {tasks} tasks on it: take one task per "
            f"node, which uses all of them, or a divisor of {len(visible)}"
        )
    each = len(visible) // tasks
    return tuple(range(local * each, (local + 1) * each))


def gpus_of_slurm(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of GPUs that Slurm has allotted on this node; 0 where it says nothing."""
    text = environ.get("SLURM_GPUS_ON_NODE", "")
    return int(text) if text.isdigit() else 0


def check_devices(used: int, platform: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a step of Slurm whose processes on a node leave GPUs unused that it was given.

    Args:
      used: devices of this process.
      platform: theirs.

    Raises:
      UserError: they do.
    """
    allotted = gpus_of_slurm(environ)
    if not allotted or "SLURM_STEP_TASKS_PER_NODE" not in environ or environ.get("JAX_PLATFORMS") == "cpu":
        return
    tasks = _tasks_here(environ)
    found = used * tasks if platform == "gpu" else 0
    if found < allotted:
        each = f"each of its {tasks} tasks uses" if tasks > 1 else "its task uses"
        raise UserError(
            f"Slurm has given this node {allotted} GPUs, but {each} {used} {platform} device{'s' * (used != 1)}: take "
            "one task per node without --gpus-per-task, install imgcls_jax[cuda], or ask for fewer GPUs"
        )


def _of_jax(environ: Mapping[str, str], name: str | None) -> Cluster:
    """What JAX's own detection finds."""
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, name, 60)
    except Exception as error:  # of whichever service it asks
        raise UserError(f"JAX cannot ask this cluster for its processes ({_line(error)}): give --coordinator") from None
    if address is None or count is None or index is None:
        raise UserError(
            "IMGCLS_DISTRIBUTED=auto, but JAX finds no cluster here: give --coordinator HOST:PORT, --num-processes N "
            "and --process-id I"
        )
    if name == "ompi" and int(environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")) > 1:
        visible = [part for part in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
        if len(visible) > 1:
            raise UserError("several MPI processes of a node see the same GPUs: start one per node (-npernode 1)")
    return Cluster(address, count, index)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
