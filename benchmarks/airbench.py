"""The peer of the speed run: airbench94_muon.py of KellerJordan/cifar10-airbench, from the user's copy.

`python -m benchmarks.airbench FILE`, in the folder of the file, runs it on the CPU in float32 (P7c).
"""

import itertools
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.process import ROOT, Answer, CannotRun
from imgcls_jax.doctor.torch_peer import import_torchvision

# Columns of its table. A run's last line has "eval" for its epoch, the accuracy of the test by views, and the seconds
# of whitening, training and that test, without compilation.
_COLUMNS = ("run", "epoch", "train_acc", "val_acc", "tta_val_acc", "time_seconds")


def runs(file: Path | None, count: int, *, on_cpu: bool = False) -> Iterator[Answer]:
    """Run the program in its own folder, where it keeps CIFAR-10, and yield {"seconds", "accuracy"} of its first
    `count` runs after the warm-up, which it needs on a GPU alone; then end it.

    Raises:
      CannotRun: there is no such file, or the program ends before.
    """
    if file is None or not file.is_file():
        raise CannotRun(
            f"the peer is {f'not at {file}' if file else 'not part of this project'}: give the path of "
            "airbench94_muon.py, from https://github.com/KellerJordan/cifar10-airbench, by --airbench"
        )
    command = [sys.executable, "-u", *(["-m", "benchmarks.airbench"] if on_cpu else []), file.name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # it runs elsewhere
    with subprocess.Popen(command, cwd=file.parent, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        try:
            done = 0 if on_cpu else -1  # the first run is its warm-up
            for line in process.stdout:
                cells = [cell.strip() for cell in line.split("|")[1:-1]]
                row = dict(zip(_COLUMNS, cells, strict=False))
                if row.get("epoch") != "eval":
                    continue
                done += 1
                if done > 0:
                    yield {"seconds": float(row["time_seconds"]), "accuracy": float(row["tta_val_acc"])}
                if done == count:
                    return
        finally:
            process.kill()
    raise CannotRun(f"{file} ended after {max(done, 0)} of {count} runs; it says above why")


class _Stopwatch:
    """torch.cuda.Event of a processor, which has nothing under way."""

    def __init__(self, **_: bool):
        self._time = 0.0

    def record(self) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end: "_Stopwatch") -> float:
        """Milliseconds."""
        return 1000 * (end._time - self._time)


def run_on_cpu(file: str) -> None:
    """Run the program again and again on the CPU, in float32 and eager, which is faster there than compiled."""
    import_torchvision()
    import torch

    load, device = torch.load, torch.device
    torch.load = lambda path, **_: load(path)
    torch.device = lambda name: device("cpu" if name == "cuda" else name)
    torch.compile = lambda function: function
    torch.cuda.Event, torch.cuda.synchronize = _Stopwatch, lambda: None
    torch.Tensor.half = torch.Tensor.bfloat16 = torch.Tensor.float
    torch.nn.Module.half = torch.nn.Module.float
    sys.argv = [file]
    program = runpy.run_path(file)
    model = program["CifarNet"]().to(memory_format=torch.channels_last)
    for run in itertools.count():
        program["main"](run, model)


if __name__ == "__main__":
    run_on_cpu(sys.argv[1])
