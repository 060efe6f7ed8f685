# SPDX-License-Identifier: Apache-2.0
"""Listener, console and viewers over real sockets, with a server's end in memory."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time

import pytest

from dockstack.compute.consoles import console as consoles
from dockstack.compute.consoles import listener
from dockstack.compute.consoles.backend import LOGINS, Login, logins_of, number_inside
from dockstack.compute.consoles.client import WAITING_BYTES, Client, RateLimit
from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.listener import Endpoint, Listener, NoPort, listen
from dockstack.compute.consoles.registry import Registry
from dockstack.compute.consoles.text import ASK_SIZE
from dockstack.compute.engine import Size, Stream
from dockstack.compute.engine.terminals import Frames

pytestmark = pytest.mark.unit

ENDPOINT = Endpoint("127.0.0.1", "127.0.0.1", range(1), "the options")  # port 0: whichever is free
SECONDS = 60  # what a busy machine may need
UUID = "6c0c7b5e-0000-4000-8000-000000000001"


class Echo:
    """A server's end that answers what is typed."""

    def __init__(self) -> None:
        self.over = self.busy = self.closed = False
        self.title = "web"
        self.stream: Stream | None = None
        self.far: socket.socket | None = None
        self.sizes: list[Size] = []
        self.hung_up = 0

    def connect(self) -> bytes:
        near, self.far = socket.socketpair()
        self.stream = Stream(near)
        return b"hello\r\n"

    def read(self) -> bytes:
        return self.stream.read()

    def type(self, data: bytes) -> tuple[int, bytes]:
        self.far.sendall(data.upper())
        return len(data), b""

    def resize(self, size: Size) -> None:
        self.sizes.append(size)

    def hang_up(self) -> None:
        self.hung_up += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def lines():
    return []


@pytest.fixture
def board(lines):
    def make(uuid) -> Console:
        lines.append(Echo())
        return Console(uuid, lines[-1], linger=0)

    registry = Registry(make)
    board = Listener(ENDPOINT, registry.join)
    yield board
    board.close()
    registry.close()


def call(address, path=None) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), SECONDS)
    connection.sendall(f"CONNECT {path or address.path} HTTP/1.1\r\n\r\n".encode())
    return connection


def expect(connection: socket.socket, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        data = connection.recv(4096)
        assert data, seen
        seen += data
    return seen


def wait_until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_knows_the_secret_is_joined(board, lines) -> None:
    with call(board.announce(UUID)) as viewer:
        assert expect(viewer, b"hello").startswith(b"HTTP/1.1 200 OK\r\n\r\n")
        viewer.sendall(b"abc\x1b[8;30;100t")
        expect(viewer, b"ABC")
        wait_until(lambda: lines[0].sizes == [Size(30, 100)])
    wait_until(lambda: lines[0].closed)


def test_windows_get_the_servers_name(board) -> None:
    address = board.announce(UUID)
    with call(address) as first:
        expect(first, b"\x1b]2;web\x07")  # behind the log
        with call(address) as second:
            expect(second, b"\x1b]2;web\x07")


def test_who_does_not_is_refused(board, lines) -> None:
    address = board.announce(UUID)
    for path in ("guess", "", address.path[:-1]):
        with call(address, path or " ") as stranger:
            assert b"403" in stranger.recv(100)
            assert not stranger.recv(100)
    assert not lines


def test_too_long_a_question_is_hung_up_on(board) -> None:
    address = board.announce(UUID)
    with socket.create_connection((address.host, address.port), SECONDS) as stranger:
        stranger.sendall(b"x" * 600)
        try:
            assert not stranger.recv(100)
        except ConnectionResetError:
            return


def test_each_server_has_its_own_secret_and_keeps_it(board) -> None:
    first, second = board.announce(UUID), board.announce(UUID[:-1] + "2")

    assert first.port == second.port
    assert first.path != second.path
    assert board.announce(UUID) == first


def test_what_is_typed_with_the_question_is_not_lost(board) -> None:
    address = board.announce(UUID)
    with socket.create_connection((address.host, address.port), SECONDS) as viewer:
        viewer.sendall(f"CONNECT {address.path} HTTP/1.1\r\n\r\nearly".encode())
        expect(viewer, b"EARLY")


def test_a_later_viewer_sees_what_was_there(board) -> None:
    address = board.announce(UUID)
    with call(address) as first:
        first.sendall(b"abc")
        expect(first, b"ABC")
        with call(address) as second:
            assert b"ABC" in expect(second, b"ABC")


def test_a_console_can_be_opened_again(board, lines) -> None:
    address = board.announce(UUID)
    for _ in range(2):
        with call(address) as viewer:
            expect(viewer, b"hello")
        wait_until(lambda: lines[-1].closed)
    assert len(lines) == 2


def test_viewers_are_few(board, monkeypatch) -> None:
    monkeypatch.setattr(consoles, "VIEWERS", 1)
    address = board.announce(UUID)
    with call(address) as first:
        expect(first, b"hello")
        with call(address) as second:
            expect(second, b"look at this console already")


def test_a_server_that_is_gone_has_no_viewers(board, lines) -> None:
    with call(board.announce(UUID)) as viewer:
        expect(viewer, b"hello")
        lines[0].over = True
        while viewer.recv(100):
            pass


def test_the_next_free_port_is_taken_and_a_full_range_is_an_error() -> None:
    with listen(ENDPOINT) as first:
        port = first.getsockname()[1]
        with listen(ENDPOINT._replace(ports=range(port, port + 100))) as second:
            assert port < second.getsockname()[1] < port + 100
        with pytest.raises(NoPort, match="No port for consoles is free") as refusal:
            listen(ENDPOINT._replace(ports=range(port, port + 1)))
        assert "Check the options" in str(refusal.value)


def test_what_waits_for_a_viewer_is_bounded() -> None:
    near, far = socket.socketpair()
    with near, far:
        viewer = Client(near)
        for number in range(1000):
            viewer.show(b"%04d" % number + bytes(1000) + b"\r\n")
            assert len(viewer._waiting) <= WAITING_BYTES
        assert b"some of it is not shown" in viewer._waiting
        assert bytes(viewer._waiting).endswith(b"0999" + bytes(1000) + b"\r\n")


def test_a_budget_fills_with_time() -> None:
    now = [0.0]
    budget = RateLimit(10, 100, lambda: now[0])
    budget.spend(100)
    assert budget.available() == 0
    now[0] = 3.0
    assert budget.available() == 30
    now[0] = 300.0
    assert budget.available() == 100


def test_a_viewer_is_asked_for_its_size_first() -> None:
    near, far = socket.socketpair()
    with near, far:
        Client(near).send()
        assert far.recv(100) == ASK_SIZE


def test_frames_may_be_cut_anywhere() -> None:
    stream = b"\x01\0\0\0\0\0\0\x05hello" + b"\x02\0\0\0\0\0\0\x01!" + b"\x01\0\0\0\0\0\0\0"
    frames = Frames()

    assert frames.feed(stream) == b"hello!"
    assert b"".join(frames.feed(stream[index : index + 1]) for index in range(len(stream))) == b"hello!"
    with pytest.raises(ValueError):
        frames.feed(b"plain text is no frame")


def test_what_answers_is_said_by_a_label() -> None:
    said = json.dumps({"command": ["/sbin/getty", "-"], "user": "0"})

    assert logins_of(said) == (Login(("/sbin/getty", "-"), "0"),)
    for unreadable in ("", "{", "[]", '{"command": 3}', "null"):
        assert logins_of(unreadable) == LOGINS


def test_no_process_of_the_host_is_taken_for_one_of_a_server() -> None:
    assert number_inside(1, "a" * 64) is None
    assert number_inside(1 << 30, "a" * 64) is None


@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO, errno.ENETDOWN]
)
def test_a_bad_accept_is_not_the_listeners_end(board, monkeypatch, code):
    monkeypatch.setattr(listener, "ACCEPT_PAUSE", 0.01)
    real, failures = socket.socket.accept, [OSError(code, os.strerror(code))] * 3

    def accept(self):
        if failures:
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    expect(call(board.announce(UUID)), b"hello")
    assert not failures


def test_a_closed_listener_ends_its_thread(board):
    board.announce(UUID)
    board.close()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "consoles"])


def test_without_threads_a_caller_is_refused_and_the_next_one_served(board, monkeypatch):
    address = board.announce(UUID)
    real, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start(self):
        if self.name == "console-caller" and failures:
            raise failures.pop()
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    refused = call(address)
    wait_until(lambda: not failures)
    refused.close()
    expect(call(address), b"hello")


def test_whoever_cannot_be_joined_is_hung_up_on():
    def fail(_uuid, _connection):
        raise ValueError("whatever a console may raise")

    board = Listener(ENDPOINT, fail)
    connection = call(board.announce(UUID))
    expect(connection, b"200 OK\r\n\r\n")
    assert connection.recv(1) == b""
    board.close()


def test_a_handshake_has_one_deadline_for_all_of_its_bytes():
    """A byte now and then would otherwise hold a stranger's place for ever."""

    class Slow:
        def __init__(self) -> None:
            self.limits: list[float] = []

        def settimeout(self, seconds: float) -> None:
            self.limits.append(seconds)

        def recv(self, _size: int, _flags: int = 0) -> bytes:
            time.sleep(0.02)  # a byte now and then
            return b"x"

    slow = Slow()
    with pytest.raises(TimeoutError):
        listener.read_path(slow, time.monotonic() + 0.2)
    assert slow.limits == sorted(slow.limits, reverse=True)
    assert len(slow.limits) < 20
