"""Run the server until a signal ends it."""

import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from imgcls_jax.errors import UserError
from imgcls_jax.serve import app
from imgcls_jax.serve.limits import Limits
from imgcls_jax.serve.model import Served

# Seconds beyond the longest request, after which a server that shall end gives up waiting.
_GRACE = 5


def serve(path: Path, host: str, port: int, limits: Limits, say: Callable[[str], None]) -> None:
    """Serve an exported file over HTTP until SIGTERM or Ctrl-C; requests that were accepted are answered first.

    It is called in the main thread, which alone gets signals.

    Args:
      path: the file.
      host: address or name to listen on.
      port: of TCP; 0: any free one.
      limits: what requests may cost.
      say: is told where the server listens, once it answers.

    Raises:
      UserError: the file is not served, or the address cannot be used.
    """
    with _signals_end_this(), listen(host, port) as listener:
        served = Served.open(path, limits.pixels)
        served.warm_up(limits.batch)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        address = f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        server = _Server(configuration(served, limits))
        server.announce = lambda: say(f"{served.name} is served at http://{address} (Ctrl-C stops it)")
        server.run(sockets=[listener])


def configuration(served: Served, limits: Limits) -> uvicorn.Config:
    """Say how uvicorn serves a model."""
    return uvicorn.Config(
        app.build(served, limits),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + _GRACE,
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
      UserError: that cannot be done.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"the server cannot listen on {host}, port {port} ({reason}): give another --host or --port"
        ) from None


class _Server(uvicorn.Server):
    announce: Callable[[], None]

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.announce()


class _Ended(BaseException):
    """A signal has ended the server, as it should."""


@contextlib.contextmanager
def _signals_end_this() -> Iterator[None]:
    """End what is done within at SIGTERM and Ctrl-C, without an error.

    While uvicorn runs, they are its own; when all is answered, it raises them once more.
    """

    def end(*_: Any) -> None:
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
