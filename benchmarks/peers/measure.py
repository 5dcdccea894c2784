"""Run one side's command, and take its times and the memory of all its processes."""

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.programs.reporting import MARK

_SECONDS_BETWEEN_SAMPLES = 0.5
_LINES_SHOWN = 12

Measurement = dict[str, Any]


def measure(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, job_images: int, batch: int
) -> Measurement:
    """Run a command to its end, its output in `folder`/output.txt.

    Returns:
      "images_per_second": training images over the time from the end of the first step to the end of the last
      evaluation, evaluations included; "first_step" and "total": seconds from the command's start; "memory": peak in
      bytes, None where it cannot be known; "accuracy" of the last epoch; "accuracies"; "parameters".

    Raises:
      RuntimeError: the command failed, or did not tell what it did.
    """
    folder.mkdir(parents=True, exist_ok=True)
    events: list[tuple[float, dict[str, Any]]] = []
    start = time.perf_counter()
    with (
        open(folder / "output.txt", "w", encoding="utf-8", buffering=1) as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=dict(environment),
            cwd=folder,
        ) as process,
    ):
        assert process.stdout
        memory = _Memory(process.pid)
        try:
            for line in process.stdout:
                log.write(line)
                if line.startswith(MARK):
                    events.append((time.perf_counter() - start, json.loads(line.removeprefix(MARK))))
        except BaseException:
            process.kill()
            raise
        finally:
            memory.stop()
    total = time.perf_counter() - start
    if process.returncode:
        lines = (folder / "output.txt").read_text(encoding="utf-8").splitlines()[-_LINES_SHOWN:]
        raise RuntimeError("\n    ".join([f"ended with status {process.returncode}:", *lines]))
    return figures(events, job_images, batch) | {"total": total, "memory": memory.peak}


def figures(events: Sequence[tuple[float, dict[str, Any]]], images: int, batch: int) -> Measurement:
    """What a run's events say, each with the seconds since its start; an epoch has `images` training images."""
    first = next((seconds for seconds, event in events if "first_step" in event), None)
    epochs = [(seconds, event) for seconds, event in events if "epoch" in event]
    parameters = next((event["parameters"] for _, event in events if "parameters" in event), None)
    if first is None or not epochs or parameters is None:
        raise RuntimeError("it did not tell its number of parameters, its first step and its epochs")
    return {
        "images_per_second": (len(epochs) * images - batch) / (epochs[-1][0] - first),
        "first_step": first,
        "accuracy": epochs[-1][1]["accuracy"],
        "accuracies": [event["accuracy"] for _, event in epochs],
        "parameters": parameters,
    }


class _Memory(threading.Thread):
    """Watches the memory of a process and all its descendants, pages that several of them share counted once."""

    def __init__(self, process: int):
        super().__init__(daemon=True)
        self.peak: int | None = None
        self._process, self._ended = process, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_SAMPLES):
            taken = [_proportional_bytes(process) for process in _tree(self._process)]
            if known := [bytes_ for bytes_ in taken if bytes_ is not None]:
                self.peak = max(self.peak or 0, sum(known))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    found = [root]
    for process in found:  # grows while it is walked
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in file.read_text().split()]
            except OSError:  # the task has just ended
                continue
    return found


def _proportional_bytes(process: int) -> int | None:
    """Resident bytes of which each shared page counts as its share; None: the process has ended, or not on Linux."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
