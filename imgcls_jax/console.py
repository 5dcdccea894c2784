"""What a person sees of a run: tables at the start, a progress bar, a line an epoch, a table at the end.

Without a terminal (a log file, a batch job) there is no bar; a plain line comes every half minute instead.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.table
from rich.progress import BarColumn, Progress, TextColumn

# Seconds between two plain progress lines, and between two looks at the device's metrics for the bar.
_PLAIN_INTERVAL = 30.0
_BAR_INTERVAL = 0.2


class Console:
    """Prints for process 0 of a run; the other processes stay silent."""

    def __init__(self, *, silent: bool = False):
        self._rich = rich.console.Console(quiet=silent, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        self._rich.print(text, markup=False)

    def table(self, title: str, rows: dict[str, Any]) -> None:
        """A titled table of names and values."""
        table = rich.table.Table(title=title, title_justify="left", show_header=False)
        for name, value in rows.items():
            table.add_row(name, str(value))
        self._rich.print(table)

    @contextlib.contextmanager
    def progress(
        self, epoch: int, epochs: int, first: int, steps: int
    ) -> Iterator[Callable[[int, Callable[[], str]], None]]:
        """Progress of one epoch from step `first` to `steps`; gives a function update(done, text).

        `text()` is only called when something is shown.
        """
        label = f"epoch {epoch + 1}/{epochs}"
        if not self._rich.is_terminal:
            last = time.monotonic()

            def plain(done: int, text: Callable[[], str]) -> None:
                nonlocal last
                if time.monotonic() - last >= _PLAIN_INTERVAL:
                    last = time.monotonic()
                    self.line(f"{label}  step {done}/{steps}  {text()}")

            yield plain
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed}/{task.total} {task.fields[text]}"),
        )
        with Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(label, total=steps, completed=first, text="")
            last = 0.0

            def update(done: int, text: Callable[[], str]) -> None:
                nonlocal last
                if time.monotonic() - last >= _BAR_INTERVAL:
                    last = time.monotonic()
                    bar.update(task, completed=done, text=text())

            yield update


class Speed:
    """Images a second of an epoch, from its making on."""

    def __init__(self, batch_size: int, first_step: int):
        self._batch_size, self._first, self._start = batch_size, first_step, time.perf_counter()

    def images_per_second(self, step: int) -> float:
        """The mean until `step`."""
        return (step - self._first) * self._batch_size / self._seconds()

    def share(self, seconds: float) -> float:
        """`seconds` as a share of the time so far."""
        return seconds / self._seconds()

    def _seconds(self) -> float:
        return max(time.perf_counter() - self._start, 1e-9)


def percent(share: float) -> str:
    """A share in [0, 1] as "93.39 %"."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as "1 h 02 min", "3 min 20 s" or "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Bytes as "3.2 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} GiB"
