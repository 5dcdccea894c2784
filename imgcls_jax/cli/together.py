"""Commands that are one of several processes: their flags, and how all of them end with one status."""

import argparse
import re
import sys
import time
import traceback
from typing import TYPE_CHECKING

from imgcls_jax.errors import UserError
from imgcls_jax.parallel import cluster

if TYPE_CHECKING:
    from imgcls_jax.parallel.cluster import Cluster

# Seconds that a failed collective waits for the news of who has died; longer than what a lost machine takes.
_NEWS = 28.0


class Mistaken(SystemExit):
    """Ends the process for a user's mistake, which has been printed."""

    def __init__(self, text: str):
        super().__init__(2)
        self.text = text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which of several processes this one is."""
    group = parser.add_argument_group("several processes (docs/devices.md)")
    group.add_argument(
        "--cluster",
        choices=("auto", "slurm", "env", "none"),
        default="auto",
        help="who says which process this is: the batch system, or flags and JAX_… variables (default: what is there)",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process-id", type=int, metavar="I", help="of this one, from 0")
    group.add_argument(
        "--join-timeout", type=float, default=300, metavar="SECONDS", help="how long to wait for all (default: 300)"
    )


def cluster_of(options: argparse.Namespace) -> "Cluster | None":
    """Return what the flags and the environment say; None: one process.

    Raises:
      UserError: they are wrong, or something is missing.
    """
    return cluster.find(
        options.cluster, coordinator=options.coordinator, count=options.num_processes, index=options.process_id
    )


def refuse_copies(program: str) -> None:
    """Refuse a command that works in one process where each of several would do the same work in the same place.

    Raises:
      UserError: the environment describes several processes.
    """
    if cluster.is_one_of_several():
        raise UserError(
            f"{program} is the work of one process, and this is one of several: start it once (srun --ntasks=1, and "
            "without JAX_NUM_PROCESSES); only train runs in several"
        )


def end(error: BaseException | None) -> None:
    """End this process and the others of its run; return where it is alone, or ends well.

    Args:
      error: what ends it; None: it is finished.
    """
    processes = sys.modules.get("imgcls_jax.parallel.processes")
    channel = processes.joined() if processes else None
    if channel is None:
        return
    status, text = 0, ""
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        text = getattr(error, "text", f"process {channel.cluster.index} was stopped, so the others end too")
    elif error is not None:
        if _is_of_a_collective(error):
            time.sleep(_NEWS)  # the news end this process
        traceback.print_exception(error)
        line = next(iter(str(error).splitlines()), "")
        status, text = 1, f"process {channel.cluster.index} failed: {type(error).__name__}: {line}"
    try:
        as_agreed = channel.has_stopped and isinstance(error, SystemExit) and not isinstance(error, Mistaken)
        channel.leave(status, text, together=status == 0 or as_agreed)
    except KeyboardInterrupt as signal:  # once more
        status = getattr(signal, "status", 130)
    if status:
        _end_process(status)


def leave(status: int, text: str) -> None:
    """End this process because another one has."""
    print_error(text)
    _end_process(status)


def print_error(text: str) -> None:
    """Print a mistake or a failure to stderr."""
    if sys.stderr.isatty():
        import rich.console

        rich.console.Console(stderr=True).print("error:", end=" ", style="bold red", highlight=False)
        print(text, file=sys.stderr)
    else:
        print(f"error: {text}\n", end="", file=sys.stderr)  # in one piece, as several processes may print


def _end_process(status: int) -> None:
    from imgcls_jax.training import interruption

    interruption.end_process(status)


def _is_of_a_collective(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool({"JaxRuntimeError", "XlaRuntimeError"} & names) or bool(
        re.search("(?i)gloo|nccl|coordination", str(error))
    )
