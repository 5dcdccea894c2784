"""What processes tell each other: here each is a thread, with a connection of its own."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.parallel import channel as channels_of
from imgcls_jax.parallel.channel import Channel
from imgcls_jax.parallel.cluster import Cluster


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(channels_of, "_GRACE", 0.1)
    monkeypatch.setattr(channels_of, "_LAST", 0.5)


def free_port():
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def meet(*places, timeout=20.0):
    """The channels of processes (index, count), or the UserErrors; and the list of (index, status, text) of how they
    leave because of others."""
    port, left = free_port(), []

    def one(index, count):
        def leave(status, text):
            left.append((index, status, text))
            kill(made[index])

        made: dict[int, Channel] = {}
        try:
            made[index] = Channel(Cluster(f"localhost:{port}", count, index), leave, timeout=timeout)
        except UserError as error:
            return str(error)
        return made[index]

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, *zip(*places, strict=True))), left


def in_each(channels, act):
    with ThreadPoolExecutor(len(channels)) as pool:
        return list(pool.map(act, channels))


def kill(channel):
    # The dead tell nothing, while one of their connections ends after the other.
    channel._deliver = lambda message: None
    for connection, _, _ in channel._peers.values():
        with contextlib.suppress(OSError):  # the other end has gone
            connection.shutdown(socket.SHUT_RDWR)


def test_each_hears_what_all_say():
    channels, _ = meet((0, 3), (1, 3), (2, 3))
    assert len({channel.jax_port for channel in channels}) == 1
    for _ in range(3):
        assert in_each(channels, lambda channel: channel.gather(channel.cluster.index * 10)) == [[0, 10, 20]] * 3


@pytest.mark.parametrize("asking", [[0], [2], [0, 1, 2]])
def test_all_stop_after_the_same_dispatch(asking):
    """However far each is when one of them is asked; they wait for each other no more than a collective makes them."""
    channels, _ = meet((0, 3), (1, 3), (2, 3))
    together = threading.Barrier(3)

    def run(channel):
        for dispatch in range(1, 100_000):
            if dispatch % 7 == 0:
                together.wait(timeout=60)
            if dispatch == 50 and channel.cluster.index in asking:
                channel.request_stop(75 if channel.cluster.index == asking[0] else 130)
            if (status := channel.stops_here()) is not None:
                return dispatch, status, channel.has_stopped
        return None

    results = in_each(channels, run)
    assert len(set(results)) == 1
    assert results[0][0] >= 50
    assert results[0][1] in (75, 130)
    assert asking != [2] or results[0][1] == 75
    in_each(channels, lambda channel: channel.leave(75, "", together=True))


@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_process_is_named(dead):
    channels, left = meet((0, 3), (1, 3), (2, 3))
    kill(channels[dead])
    deadline = time.monotonic() + 30
    while len({index for index, _, _ in left} - {dead}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for index, status, text in left:
        if index != dead:
            assert status == 1
            assert (
                text.startswith(f"process {dead} on ") and "died (killed, out of memory, or its machine lost)" in text
            )


def test_a_mistake_of_one_ends_all():
    channels, left = meet((0, 2), (1, 2))
    channels[1].leave(2, "the folder is not there", together=False)
    deadline = time.monotonic() + 30
    while not left:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert left == [(0, 2, "the folder is not there")]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_death_at_the_end_leaves_nobody_waiting(dead):
    """Of one process, while the others have ended well and wait for it."""
    channels, _ = meet((0, 3), (1, 3), (2, 3))
    others = [channel for channel in channels if channel.cluster.index != dead]
    with ThreadPoolExecutor(2) as pool:
        leaving = [pool.submit(channel.leave, 0, "", together=True) for channel in others]
        assert not any(future.done() for future in leaving)
        kill(channels[dead])
        assert [future.result(timeout=30) for future in leaving] == [None, None]


@pytest.mark.parametrize(
    ("places", "messages"),
    [
        ([(0, 3), (1, 3)], ["2 of 3 processes came within 1 s; number 2 did not"] * 2),
        ([(1, 2)], ["process 1 did not reach the first one at localhost:"]),
        ([(0, 2), (1, 3)], ["process 1 was told of 3 processes, the first one of 2: give each its own"] * 2),
        ([(0, 3), (1, 3), (1, 3)], ["two processes have the number 1: give each its own"] * 3),
    ],
)
def test_processes_that_do_not_fit_do_not_wait_for_ever(places, messages):
    errors, _ = meet(*places, timeout=1.0)
    for error, message in zip(errors, messages, strict=True):
        assert message in error and "\n" not in error


def test_a_port_in_use_and_a_stranger():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at port {port} "):
            Channel(Cluster(f"localhost:{port}", 2, 0), print, timeout=1)
    port = free_port()

    def stranger():
        for _ in range(100):
            try:
                with socket.create_connection(("localhost", port)) as connection:
                    return connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            except OSError:
                time.sleep(0.02)
        return None

    thread = threading.Thread(target=stranger)
    thread.start()
    with pytest.raises(UserError, match="1 of 2 processes came within 1 s"):
        Channel(Cluster(f"localhost:{port}", 2, 0), print, timeout=1)
    thread.join()
