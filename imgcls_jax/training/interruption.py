"""Signals during a run: the first one saves and ends it, the second one ends it at once.

Ctrl-C (SIGINT) ends it with status 130. SIGTERM, SIGHUP and SIGUSR1, which batch systems and container hosts send
before they take the machine away, end it with `RESTART`. This module imports nothing heavy, so that signals are handled
from the start of a command on.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from imgcls_jax.xla import allocator

if TYPE_CHECKING:
    from imgcls_jax.training.run import Run

RESTART = 75
"""Exit status of a run that is saved and wants to be started again (EX_TEMPFAIL of sysexits.h)."""
# Seconds within which a process that is to end at once ends, even where it waits for a compiler, a disk or a network.
_GRACE = 5.0


class Interrupted(KeyboardInterrupt):
    """The run was interrupted; everything that it had saved is there, and the same call continues it."""

    def __init__(self, text: str = "", *, status: int = 130):
        super().__init__(text)
        self.status = status
        """The exit status that says so."""


class EvaluationAbandoned(BaseException):
    """Raised out of an evaluation at an epoch's end, which the next start of the run repeats."""


class Signals:
    """Handles the signals of a process until `close`. Without a run there is nothing to save, so that the first signal
    ends what the main thread does."""

    def __init__(self, handles: bool) -> None:
        self.handles = handles
        """Whether there is anything to handle; False in a thread that may not."""
        self.importing = False
        """Whether nothing but imports go on, which no exception may end: the process ends without one."""
        self.run: Run | None = None
        """What the first signal interrupts; None: nothing that would have to be saved."""
        self.status: int | None = None
        """Exit status of the first signal; None: none has come."""
        self.received = 0
        self._before: dict[int, object] = {}
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
            number = getattr(signal, name, None)
            # A signal that is ignored, as by nohup, stays so.
            if handles and number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)

    @contextlib.contextmanager
    def interrupting(self, run: "Run") -> Iterator[None]:
        """Let the first signal interrupt the run after its newest step."""
        self.run = run
        try:
            yield
        except Interrupted as end:
            end.status = run.agreed_status or self.status or end.status
            raise
        finally:
            self.run = None

    def close(self) -> None:
        """Handle signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received += 1
        self.status = self.status or (130 if number == signal.SIGINT else RESTART)
        if self.importing:
            end_process(self.status)
        run = self.run
        if run is not None and run.is_saving and self.received > 1:
            run.stops_at_once = True
            return
        if run is None or self.received > 1:
            raise Interrupted("stopped at once", status=self.status)
        run.request_interruption(self.status)
        again = "press Ctrl-C again" if number == signal.SIGINT else "signal again"
        run.tell(f"{signal.Signals(number).name}: stopping after this step, and saving; {again} to stop at once")
        if run.may_abandon_evaluation:
            raise EvaluationAbandoned


_active: Signals | None = None


@contextlib.contextmanager
def handled() -> Iterator[Signals]:
    """Handle signals within it, unless another `handled` around it does, or the thread may not: only the main one
    may."""
    global _active
    if _active is not None and threading.current_thread() is threading.main_thread():
        yield _active
        return
    signals = Signals(threading.current_thread() is threading.main_thread())
    if signals.handles:
        _active = signals
    try:
        yield signals
    finally:
        signals.close()
        if _active is signals:
            _active = None


@contextlib.contextmanager
def of_command() -> Iterator[Signals]:
    """Handle signals from the start of a command: for the process's own program only, because a process that does not
    end by itself in time, as within a compiler, is ended."""
    allocator.keep_freed_memory()  # before the first thread
    with handled() as signals:
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(read, signals), daemon=True).start()
        signals.importing = True
        try:
            yield signals
        finally:
            signal.set_wakeup_fd(before)
            os.close(write)


def _watch(pipe: int, signals: Signals) -> None:
    """End the process some time after a signal that is to end it at once; the main thread may be unable to."""
    ours = set(signals._before)
    count, status = 0, None
    while numbers := os.read(pipe, 1):
        if numbers[0] not in ours:
            continue
        count += 1
        status = status or (130 if numbers[0] == signal.SIGINT else RESTART)
        if count > 2:
            end_process(status)
        if count > 1 or signals.run is None:
            timer = threading.Timer(_GRACE, end_process, [status])
            timer.daemon = True
            timer.start()


def end_process(status: int) -> None:
    """End the process without unwinding: what it has on disk is whole at every moment."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            if stream.isatty():
                stream.write("\x1b[?25h")  # a progress bar hides the cursor
            stream.flush()
    os._exit(status)
