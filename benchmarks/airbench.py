"""The peer of the speed run: airbench94_muon.py of KellerJordan/cifar10-airbench, from the user's copy."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.process import Answer, CannotRun

# Columns of its table. A run's last line has "eval" for its epoch, the accuracy of the test by views, and the seconds
# of whitening, training and that test, without compilation.
_COLUMNS = ("run", "epoch", "train_acc", "val_acc", "tta_val_acc", "time_seconds")


def runs(file: Path | None, count: int) -> Iterator[Answer]:
    """Run the program in its own folder, where it keeps CIFAR-10, and yield {"seconds", "accuracy"} of its first
    `count` runs after the warm-up; then end it.

    Raises:
      CannotRun: there is no such file, or the program ends before.
    """
    if file is None or not file.is_file():
        raise CannotRun(
            f"the peer is {f'not at {file}' if file else 'not part of this project'}: give the path of "
            "airbench94_muon.py, from https://github.com/KellerJordan/cifar10-airbench, by --airbench"
        )
    command = [sys.executable, "-u", file.name]
    with subprocess.Popen(command, cwd=file.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            done = -1  # the first run is its warm-up
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
