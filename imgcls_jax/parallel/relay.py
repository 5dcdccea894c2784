"""A connection to JAX's coordination service that does not break when the service's process dies.

JAX's client ends its process with a C++ stack trace within a millisecond of that, and no option prevents it. Behind a
relay it hears nothing, and `channel` has the time to end the process with a sentence.
"""

import contextlib
import socket
import threading


def relay(host: str, port: int) -> int:
    """Pass on, in the background, all connections to a port of this machine; return that port.

    Args:
      host, port: where they lead. Once that end has closed, the near end stays open, silent.
    """
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(server, host, port), daemon=True).start()
    return server.getsockname()[1]


def _accept(server: socket.socket, host: str, port: int) -> None:
    while True:
        near, _ = server.accept()
        try:
            far = socket.create_connection((host, port))
        except OSError:
            near.close()  # the client tries again
            continue
        for connection in (near, far):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pass, args=(far, near), daemon=True).start()
        threading.Thread(target=_pass, args=(near, far, True), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, closes: bool = False) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
        if closes:
            sink.shutdown(socket.SHUT_WR)
