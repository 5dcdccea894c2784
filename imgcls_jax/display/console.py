"""What a person sees of a run: tables, progress bars, lines.

On a terminal and in a notebook there are bars. Elsewhere (a log file, a batch job) plain lines come now and then
instead. Nothing is colored but a few words, and those only where the terminal shows colors.
"""

import contextlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import rich.console
import rich.errors
import rich.table
import rich.text
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from imgcls_jax.display import tables

# Seconds between two plain progress lines, and between two looks at the device's metrics for the bar.
_PLAIN_INTERVAL = 30.0
_BAR_INTERVAL = 0.2
# Seconds after which a wait is shown.
_PATIENCE = 2.0
# Lines are no longer than this on wide terminals, where they would be hard to read.
_WIDEST = 100


class _Rich(rich.console.Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as others do whose reader has seen enough; rich's own way is status 1."""
        raise BrokenPipeError


class Console:
    """Prints for process 0 of a run; the other processes stay silent."""

    def __init__(self, *, silent: bool = False):
        self._rich = _Rich(quiet=silent, highlight=False, soft_wrap=True)

    @property
    def width(self) -> int:
        """Characters in which a line should fit."""
        return max(min(self._rich.width - 1, _WIDEST), 40)

    def line(self, text: str, *, style: str | None = None) -> None:
        """Print a text as it is.

        Args:
          text: one line or several.
          style: of rich, such as "bold" or "red"; only terminals show it.
        """
        self._rich.print(rich.text.Text(text, style=style or ""))

    def table(self, title: str, rows: Mapping[str, object]) -> None:
        """Print a title and, below it, names and values; long values are wrapped below themselves."""
        self.section(title, tables.pairs({name: str(value) for name, value in rows.items()}, width=self.width))

    def section(self, title: str, text: str) -> None:
        """Print an empty line, a title and a text."""
        self.line("")
        self.line(title, style="bold")
        self.line(text)

    def command(self, what: str, command: str) -> None:
        """Print a command on a line of its own, whole, so that it can be copied."""
        self.line(f"\n{what}:\n  {command}")

    @contextlib.contextmanager
    def wait(self, label: str, total: int | None = None) -> Iterator["Wait"]:
        """Show that something takes its time, if it takes more than two seconds.

        Args:
          label: what is being done, such as "compiling".
          total: number of parts, where it is known.

        Yields:
          A `Wait`, whose methods say how far it is.
        """
        wait = Wait(self._rich, label, total, bars=self._has_bars)
        try:
            yield wait
        finally:
            wait.close()

    @contextlib.contextmanager
    def progress(
        self, epoch: int, epochs: int, first: int, steps: int
    ) -> Iterator[Callable[[int, Callable[[], str]], None]]:
        """Show the progress of an epoch from step `first` to `steps`.

        Yields:
          A function update(done, text); `text()` is only called when something is shown.
        """
        label = f"epoch {epoch + 1}/{epochs}"
        if not self._has_bars:
            last = time.monotonic()

            def plain(done: int, text: Callable[[], str]) -> None:
                nonlocal last
                if time.monotonic() - last >= _PLAIN_INTERVAL:
                    last = time.monotonic()
                    self.line(f"{label}  step {done}/{steps}  {text()}")

            yield plain
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.completed}/{task.total} {task.fields[text]}", markup=False, table_column=_uncut()),
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

    @property
    def _has_bars(self) -> bool:
        if self._rich.is_jupyter:  # where rich draws bars by widgets
            return importlib.util.find_spec("ipywidgets") is not None
        return self._rich.is_terminal and not self._rich.quiet


class Wait:
    """A wait that is shown, as a bar or as plain lines, once it has lasted two seconds."""

    def __init__(self, console: rich.console.Console, label: str, total: int | None, *, bars: bool):
        self._console, self._label, self._done, self._total, self._bars = console, label, 0, total, bars
        self._bar: Progress | None = None
        self._lock = threading.Lock()
        self._shown, self._closed, self._last = False, False, time.monotonic()
        self._timer = threading.Timer(_PATIENCE, self._show)
        self._timer.daemon = True
        self._timer.start()

    def update(self, done: int) -> None:
        """Say how many parts are done."""
        self.on_progress(self._label, done, self._total)

    def on_progress(self, label: str, done: int, total: int | None) -> None:
        """Say what is being done, how many parts of it are done, and of how many; None: nobody knows."""
        with self._lock:
            self._label, self._done, self._total = label, done, total
            if self._bar:
                self._bar.update(self._bar.task_ids[0], **self._state())
            elif self._shown and time.monotonic() - self._last >= _PLAIN_INTERVAL:
                self._plain()

    def close(self) -> None:
        """End the wait and take the bar away."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar:
                self._bar.stop()
                self._bar = None

    def _show(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._shown = True
            if not self._bars:
                self._plain()
                return
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(),
            )
            bar = Progress(*columns, console=self._console, transient=True)
            bar.add_task("", text="")
            bar.update(bar.task_ids[0], **self._state())
            with contextlib.suppress(rich.errors.LiveError):  # another bar is shown, which is enough
                bar.start()
                self._bar = bar

    def _plain(self) -> None:
        self._last = time.monotonic()
        self._console.print(rich.text.Text(f"{self._label} … {self._count()}".rstrip()))

    def _state(self) -> dict[str, Any]:
        return {"description": self._label, "completed": self._done, "total": self._total, "text": self._count()}

    def _count(self) -> str:
        if self._total is None:
            return f"{self._done:,}" if self._done else ""
        return f"{self._done:,}/{self._total:,}"


class Speed:
    """Measures images per second, from the moment when it is made."""

    def __init__(self, batch_size: int, first_step: int):
        self._batch_size, self._first, self._start = batch_size, first_step, time.perf_counter()

    def images_per_second(self, step: int) -> float:
        """Return the mean until `step`."""
        return (step - self._first) * self._batch_size / self._seconds()

    def share(self, seconds: int | float) -> float:
        """Return `seconds` as a share of the time so far."""
        return seconds / self._seconds()

    def _seconds(self) -> float:
        return max(time.perf_counter() - self._start, 1e-9)


def percent(share: int | float) -> str:
    """Write a share in [0, 1] as "93.39 %"."""
    return f"{100 * share:.2f} %"


def duration(seconds: int | float) -> str:
    """Write seconds as "1 h 02 min", "3 min 20 s" or "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def clock(seconds: int | float) -> str:
    """Write seconds in at most 7 characters, for tables: "12.3 s", "3:20", "1:02:03", "120 h"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours < 10 else f"{hours} h"


def size(count: int | float) -> str:
    """Write a number of bytes as "3.2 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} GiB"


def _uncut() -> rich.table.Column:
    return rich.table.Column(no_wrap=True)
