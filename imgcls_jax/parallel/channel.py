"""What the processes of a run tell each other beside their devices: a line of JSON over TCP, through the first one.

Every message goes to the first process, which hands all of them to all processes in one order; so each of them comes to
the same conclusions. Whoever dies is missed at once, because its connection ends, or `_SILENCE` later where its machine
is lost.
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from imgcls_jax.errors import UserError
from imgcls_jax.parallel.cluster import Cluster

_BEAT = 3.0  # seconds between two signs of life
_SILENCE = 25.0  # seconds without one after which a process counts as dead
_GRACE = 2.0  # seconds for a process to end by itself, say by the same mistake, after another one has
_LAST = 4.0  # seconds that the first process, whose end would be an error to the others, waits for them to end

Leave = Callable[[int, str], None]
"""Ends this process with a status, after printing a sentence, if it is not empty."""


class Channel:
    """The connection of one process to all others of its run."""

    def __init__(self, cluster: Cluster, leave: Leave, *, timeout: float = 300):
        """Meet the others.

        Args:
          cluster: which process this is of how many.
          leave: how this process ends when another one has.
          timeout: seconds to wait for all of them.

        Raises:
          UserError: they did not come, or their flags contradict each other.
        """
        self.cluster, self._leave_process = cluster, leave
        self.jax_port = 0
        """A free port of the first process's host, the same in all processes."""
        self._changed = threading.Condition()
        self._order = threading.RLock()
        self._values: dict[int, dict[int, Any]] = defaultdict(dict)
        self._gathers = 0
        self._dispatches, self._counts = 0, dict[int, int]()
        self._stop_status: int | None = None
        self._stop_at: int | None = None
        # Processes that have ended well or as agreed; those that have not; those whose connection has ended.
        self._done, self._ended, self._gone = set[int](), set[int](), set[int]()
        self.is_leaving = False
        self._outbox: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._peers: dict[int, tuple[socket.socket, TextIO, str]] = {}
        deadline = time.monotonic() + timeout
        if cluster.index == 0:
            self._listen(deadline, timeout)
        else:
            self._connect(deadline, timeout)
        for index in self._peers:
            threading.Thread(target=self._read, args=(index,), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    # ---- meeting

    def _listen(self, deadline: float, timeout: float) -> None:
        cluster = self.cluster
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        try:
            server = socket.create_server(
                ("", cluster.port), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=cluster.count
            )
        except OSError as error:
            raise UserError(
                f"the first process cannot listen at port {cluster.port} ({error.strerror}): give another one in "
                "--coordinator (JAX_COORDINATOR_ADDRESS)"
            ) from None
        with server:
            while len(self._peers) < cluster.count - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    missing = sorted(set(range(1, cluster.count)) - set(self._peers))
                    self._refuse(
                        f"{len(self._peers) + 1} of {cluster.count} processes came within {timeout:.0f} s; number "
                        f"{', '.join(map(str, missing))} did not: start all of them, with the same --coordinator"
                    )
                self._admit(connection)
        with socket.socket() as free:
            free.bind(("", 0))
            self.jax_port = free.getsockname()[1]
        for connection, _, _ in self._peers.values():
            _send(connection, {"jax_port": self.jax_port})

    def _admit(self, connection: socket.socket) -> None:
        connection.settimeout(_SILENCE)
        file = connection.makefile(encoding="utf-8")
        try:
            hello = json.loads(file.readline())
            index, count, host = int(hello["index"]), int(hello["count"]), str(hello["host"])
        except (OSError, ValueError, KeyError, TypeError):  # a stranger
            _close(connection, file)
            return
        refused = None
        if count != self.cluster.count:
            refused = f"process {index} was told of {count} processes, the first one of {self.cluster.count}"
        elif index in self._peers or index == 0:
            refused = f"two processes have the number {index}"
        if refused:
            with contextlib.suppress(OSError):
                _send(connection, {"refused": _differ(refused)})
            _close(connection, file)
            self._refuse(_differ(refused))
        self._peers[index] = connection, file, host

    def _refuse(self, reason: str) -> None:
        for connection, file, _ in self._peers.values():
            with contextlib.suppress(OSError):
                _send(connection, {"refused": reason})
            _close(connection, file)
        raise UserError(reason)

    def _connect(self, deadline: float, timeout: float) -> None:
        cluster, reason = self.cluster, ""
        while True:
            try:
                connection = socket.create_connection((cluster.host, cluster.port), timeout=5)
                break
            except OSError as error:
                reason = error.strerror or str(error)
            if time.monotonic() > deadline:
                raise UserError(
                    f"process {cluster.index} did not reach the first one at {cluster.coordinator} within "
                    f"{timeout:.0f} s ({reason}): start it, or mend --coordinator (JAX_COORDINATOR_ADDRESS)"
                )
            time.sleep(0.2)
        file = connection.makefile(encoding="utf-8")
        connection.settimeout(max(deadline - time.monotonic(), 1) + 5)
        try:
            _send(connection, {"index": cluster.index, "count": cluster.count, "host": socket.gethostname()})
            answer = json.loads(file.readline())
        except (OSError, ValueError):
            _close(connection, file)
            raise UserError(
                f"the first process, at {cluster.coordinator}, ended before all of them had come: its last line says "
                "why; or it is another program that listens there"
            ) from None
        if "refused" in answer:
            _close(connection, file)
            raise UserError(str(answer["refused"]))
        self.jax_port = int(answer["jax_port"])
        connection.settimeout(_SILENCE)
        self._peers[0] = connection, file, cluster.host

    # ---- what a process tells the others

    @property
    def has_stopped(self) -> bool:
        """Whether all processes have come to the step after which they agreed to stop."""
        return self._stop_at is not None and self._dispatches >= self._stop_at

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave, by its number; waits for all of them. The value must be of JSON."""
        self._gathers += 1
        name = self._gathers
        self._send({"kind": "value", "name": name, "index": self.cluster.index, "value": value})
        with self._changed:
            self._changed.wait_for(lambda: len(self._values[name]) == self.cluster.count)
            values = self._values.pop(name)
        return [values[index] for index in range(self.cluster.count)]

    def request_stop(self, status: int) -> None:
        """Ask all processes to stop after the same step, and to end with this status. A signal handler may call it."""
        self._outbox.put(status)

    def stops_here(self) -> int | None:
        """Count a dispatch, and return the status to end with where all processes have agreed to stop after it.

        It waits for no device. Threads have told each other, while the main ones held still here, how far each is; so
        none is beyond the dispatch that all of them can reach: the one after the farthest.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stop_status is None or self._stop_at is not None)
            self._dispatches += 1
            return self._stop_status if self.has_stopped else None

    def leave(self, status: int, text: str, *, together: bool) -> None:
        """Tell the others that this process ends; return once it may.

        Args:
          status: with which status.
          text: why, in one sentence; the others end with it too.
          together: whether all of them end now by themselves, so that the last one is waited for.
        """
        self.is_leaving = True
        if together:
            self._send({"kind": "done", "index": self.cluster.index})
            with self._changed:
                # Without the first one, which every message goes through, there is nothing to wait for.
                self._changed.wait_for(
                    lambda: len(self._done | self._ended | self._gone) >= self.cluster.count or 0 in self._gone
                )
        else:
            self._send({"kind": "end", "index": self.cluster.index, "status": status, "text": text})
        if status:  # else JAX's own shutdown lets them wait for each other
            self._wait_for_the_others()

    def _wait_for_the_others(self) -> None:
        if self.cluster.index == 0:
            with self._changed:
                self._changed.wait_for(lambda: len(self._gone) == len(self._peers), timeout=_LAST)

    # ---- messages

    def _send(self, message: dict[str, Any]) -> None:
        if self.cluster.index == 0:
            self._deliver(message)
            return
        with self._order, contextlib.suppress(OSError):  # the reading thread finds out
            _send(self._peers[0][0], message)

    def _deliver(self, message: dict[str, Any]) -> None:
        """In the first process: hand a message to all."""
        with self._order:
            for connection, _, _ in self._peers.values():
                with contextlib.suppress(OSError):
                    _send(connection, message)
            self._handle(message)

    def _beat(self) -> None:
        while True:
            try:
                status = self._outbox.get(timeout=_BEAT)
            except queue.Empty:
                self._send({"kind": "beat"})
                continue
            self._send({"kind": "stop", "status": status})

    def _read(self, index: int) -> None:
        for message in _messages(self._peers[index][1]):
            if message["kind"] == "beat":
                continue
            (self._deliver if self.cluster.index == 0 else self._handle)(message)
        with self._changed:
            self._gone.add(index)
            self._changed.notify_all()
        if self.is_leaving and index in self._done | self._ended:
            return
        text = (
            f"process {index} on {self._peers[index][2]} died (killed, out of memory, or its machine lost), so the "
            "others end too: the same command goes on from the last checkpoint"
        )
        end = {"kind": "end", "index": index, "status": 1, "text": text}
        (self._deliver if self.cluster.index == 0 else self._handle)(end)

    def _handle(self, message: dict[str, Any]) -> None:
        kind, index = message["kind"], int(message.get("index", -1))
        with self._changed:
            if kind == "value":
                self._values[message["name"]][index] = message["value"]
            elif kind == "done":
                self._done.add(index)
            elif kind == "count":
                self._counts[index] = message["value"]
                if len(self._counts) == self.cluster.count:
                    self._stop_at = max(self._counts.values()) + 1
            elif kind == "stop" and self._stop_status is None:
                self._stop_status = message["status"]
                count = {"kind": "count", "index": self.cluster.index, "value": self._dispatches}
                threading.Thread(target=self._send, args=(count,), daemon=True).start()
            elif kind == "end" and index not in self._ended:
                self._ended.add(index)
                threading.Thread(target=self._end, args=(message,), daemon=True).start()
            self._changed.notify_all()

    def _end(self, message: dict[str, Any]) -> None:
        """End this process because another one has, unless it does so by itself."""
        if message["index"] == self.cluster.index:
            return
        time.sleep(_GRACE)
        if not self.is_leaving:
            self.is_leaving = True
            self._wait_for_the_others()
            self._leave_process(message["status"], message["text"])


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())


def _close(connection: socket.socket, file: TextIO) -> None:
    file.close()
    connection.close()


def _messages(file: TextIO) -> Iterator[dict[str, Any]]:
    """The messages of a connection until it ends or is silent for too long."""
    with contextlib.suppress(OSError, ValueError):
        for line in file:
            yield json.loads(line)


def _differ(reason: str) -> str:
    return f"{reason}: give each its own --process-id, and all the same --num-processes"
