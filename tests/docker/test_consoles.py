# SPDX-License-Identifier: Apache-2.0
"""Serial consoles against a real engine: what a viewer sees, and what no viewer can do to a server."""

from __future__ import annotations

import json
import socket
import time

import pytest
from private_engine import wait_for

from dockstack.compute.consoles.backend import Backend
from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.listener import Endpoint, Listener
from dockstack.compute.consoles.registry import Registry
from dockstack.compute.consoles.text import ASK_SIZE
from dockstack.compute.consoles.vnc_workers import Workers
from dockstack.names import NAME_PREFIX
from rfb_client import RfbClient

ENDPOINT = Endpoint("127.0.0.1", "127.0.0.1", range(1), "the options")  # port 0: whichever is free
SHELL = {"docker_console_command": json.dumps(["/bin/sh"])}


class Caller:
    """What Nova's proxy is to a console."""

    def __init__(self, address) -> None:
        self.seen = b""
        self.connection = socket.create_connection((address.host, address.port), 60)
        self.connection.sendall(f"CONNECT {address.path} HTTP/1.1\r\n\r\n".encode())
        assert self.connection.recv(19, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r\n\r\n"

    def expect(self, text: bytes, timeout: float = 60) -> bytes:
        """Read until a text comes; return what was read up to it, and forget that."""
        self.connection.settimeout(1)
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
            try:
                data = self.connection.recv(65536)
            except TimeoutError:
                continue
            assert data, f"hung up before {text!r}: {self.seen[-2000:]!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, text: bytes) -> None:
        self.connection.sendall(text)

    def ask(self, typed: bytes, answer: bytes) -> None:
        """Type until it is answered: while the engine is away, nobody hears it."""
        for _ in range(20):
            self.type(typed)
            try:
                self.expect(answer, 5)
            except AssertionError:
                continue
            return
        raise AssertionError(f"no {answer!r} in {self.seen!r}")

    def until_end(self) -> bytes:
        self.connection.settimeout(90)
        while data := self.connection.recv(65536):
            self.seen += data
        return self.seen


@pytest.fixture
def registry(engine):
    registry = Registry(lambda uuid: Console(uuid, Backend(engine, NAME_PREFIX + uuid), linger=1.0))
    yield registry
    registry.close()


@pytest.fixture
def listener(registry):
    board = Listener(ENDPOINT, registry.join)
    yield board
    board.close()


@pytest.fixture
def look(registry):
    """Open a VNC viewer, as Nova's proxy does for noVNC."""
    workers, viewers = Workers(), []
    board = Listener(ENDPOINT, lambda uuid, connection: registry.join(uuid, workers.adopt(connection)))

    def make(server) -> RfbClient:
        viewers.append(RfbClient(Caller(board.announce(server.uuid)).connection))
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.connection.close()
    board.close()


@pytest.fixture
def call(listener):
    callers = []

    def make(server) -> Caller:
        callers.append(Caller(listener.announce(server.uuid)))
        return callers[-1]

    yield make
    for caller in callers:
        caller.connection.close()


def test_the_log_comes_first_then_a_program_on_a_terminal(lab, call):
    server = lab.boot("echo booted; exec sleep 1000", properties=SHELL)
    caller = call(server)

    caller.expect(b"booted\r\n")
    caller.type(b"\r")
    caller.expect(b"# ")
    caller.type(b"echo $((6 * 7)) $TERM; tty\r")
    caller.expect(b"42 xterm-256color\r\n/dev/pts/")
    caller.type(b"exit\r")
    caller.expect(b"The session has ended")
    caller.type(b"\r")
    caller.expect(b"# ")


def test_what_is_logged_later_is_seen_too(lab, call):
    server = lab.boot("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done; exec sleep 1000")
    caller = call(server)

    caller.expect(b"line 1\r\n")
    caller.expect(b"line 6\r\n")


def test_the_first_program_that_the_image_has_answers(lab, call):
    """The image has neither login nor bash, but sh."""
    caller = call(lab.boot())

    caller.type(b"\r")
    caller.expect(b"# ")
    caller.type(b"id -u\r")
    caller.expect(b"0\r\n")


def test_a_servers_own_terminal(lab, call):
    server = lab.boot("echo hello; exec sh", properties={"docker_tty": "true"})
    caller = call(server)

    caller.expect(b"hello\r\n")
    caller.type(b"echo pid $$\r")
    caller.expect(b"pid 1\r\n")


def test_the_windows_size_arrives(lab, call):
    server = lab.boot(properties=SHELL)
    first, second = call(server), call(server)
    first.expect(ASK_SIZE)
    first.type(b"\x1b[8;50;160t")
    second.type(b"\x1b[8;40;200t")
    first.type(b"\r")
    first.expect(b"# ")

    first.type(b"stty size\r")
    wait_for(lambda: b"40 160" in asked_size(first), "the smaller of both windows in both directions")
    second.connection.close()
    wait_for(lambda: b"50 160" in asked_size(first), "the window of the one who stays")


def asked_size(caller) -> bytes:
    caller.type(b"/bin/busybox stty size; echo do''ne\r")
    return caller.expect(b"done\r\n")


def test_two_see_and_type_the_same(lab, call):
    server = lab.boot(properties=SHELL)
    first = call(server)
    first.type(b"\r")
    first.expect(b"# ")
    first.type(b"colour=green\r")
    first.expect(b"# ")
    second = call(server)

    second.expect(b"colour=green\r\n")
    second.type(b"echo is $colour\r")
    first.expect(b"is green\r\n")
    second.expect(b"is green\r\n")


@pytest.mark.parametrize("properties", [{}, {"docker_tty": "true"}])
def test_who_does_not_read_stops_nobody(lab, call, properties):
    """The engine blocks a container's writes when an attached client does not read: ours always does."""
    server = lab.boot("yes all work and no play & while :; do echo t >> /ticks; sleep 0.1; done", properties=properties)
    sleeper = call(server)  # reads no further
    reader = call(server)
    reader.expect(b"all work and no play\r\n")
    time.sleep(3)  # until what the sleeper does not read has filled all buffers

    assert sleeper.connection
    before = ticks(lab, server)
    wait_for(lambda: ticks(lab, server) > before, "the server to go on")
    lab.engine.remove(server.container_name)  # which the engine would not answer within its time


def ticks(lab, server) -> int:
    return len(lab.engine.execute(server.container_name, ["cat", "/ticks"]).output)


def test_a_session_is_taken_up_again_and_then_ended(lab, registry, call):
    server = lab.boot(properties=SHELL)
    first = call(server)
    first.type(b"\r")
    first.expect(b"# ")
    first.type(b"here=still; echo se''t\r")
    first.expect(b"set\r\n")
    console = registry._consoles[server.uuid]
    console._linger = 600  # whatever keeps the next one from coming
    first.connection.close()

    again = call(server)
    again.type(b"echo $here\r")
    again.expect(b"still\r\n")
    console._linger = 1
    again.connection.close()
    wait_for(lambda: b"{sh}" not in processes(lab, server), "the shell's end")


def processes(lab, server) -> bytes:
    script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done"
    lines = lab.engine.execute(server.container_name, ["/bin/busybox", "sh", "-c", script]).output.splitlines()
    return b"".join(b"{sh}" for line in lines if line.strip() in (b"/bin/sh", b"sh -l"))


def test_a_predecessors_session_is_ended(lab, engine, call, listener):
    server = lab.boot(properties=SHELL)
    engine.terminals().run(server.container_name, ["/bin/sh"], "", {})  # its nova-compute was killed
    wait_for(lambda: processes(lab, server) == b"{sh}", "the predecessor's shell")

    call(server)
    wait_for(lambda: processes(lab, server) == b"", "the end of what nobody can reach")


def test_a_reboot_keeps_the_console(lab, call):
    server = lab.boot("echo boot $(cat /boots 2>/dev/null); echo again > /boots; exec sleep 1000", properties=SHELL)
    caller = call(server)
    caller.expect(b"boot\r\n")
    caller.type(b"\r")
    caller.expect(b"# ")

    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    caller.expect(b"boot again\r\n")
    caller.type(b"\r")
    caller.expect(b"# ")


def test_a_deleted_server_has_no_viewers(lab, call):
    server = lab.boot()
    caller = call(server)

    lab.engine.remove(server.container_name)
    assert b"The server is gone" in caller.until_end()


def test_a_restart_of_the_engine(lab, call, private_engine):
    server = lab.boot("echo before; exec sleep 1000", properties=SHELL)
    terminal = lab.boot("exec sh", properties={"docker_tty": "true"})
    caller, other = call(server), call(terminal)
    caller.expect(b"before")
    caller.type(b"\r")
    caller.expect(b"# ")

    private_engine.kill()
    private_engine.start()
    caller.expect(b"The session has ended")
    caller.ask(b"\recho al''ive\r", b"alive\r\n")
    wait_for(lambda: processes(lab, server) == b"{sh}", "the end of the session that was lost")
    other.ask(b"echo pid $$\r", b"pid 1\r\n")


def test_a_paused_server(lab, call):
    server = lab.boot("echo up; exec sleep 1000", properties=SHELL)
    lab.wait_for_log(server, b"up")
    lab.engine.pause(server.container_name)
    caller = call(server)

    caller.expect(b"up\r\n")
    caller.type(b"\r")
    caller.expect(b"The server is paused")
    lab.engine.unpause(server.container_name)
    caller.type(b"\r")
    caller.expect(b"# ")


def test_a_picture_of_a_terminal(lab, call, look):
    server = lab.boot("echo booted; exec sleep 1000", properties=SHELL)
    viewer = look(server)

    viewer.until("booted")
    viewer.type("\r")
    viewer.until("#")
    viewer.type("/bin/busybox stty size; echo $((6 * 7))\r")
    shown = viewer.until("42\n").splitlines()
    assert "24 80" in shown
    other = call(server)
    other.expect(b"24 80\r\n42\r\n")
    other.type(b"echo fr''om serial\r")
    viewer.until("from serial\n")
    viewer.want_size(1000, 570)
    wait_for(lambda: b"30 100" in asked_size(other), "the viewer's window")
    viewer.type("/bin/sh -c 'echo asleep $((1 + 1)); exec sleep 500'\r")
    viewer.until("asleep 2")  # the shell has given the terminal away
    viewer.press(0xFFE3, ord("c"))
    viewer.until("^C")


def test_a_flood_stops_neither_the_picture_nor_the_server(lab, look):
    server = lab.boot("echo begin; yes all work and no play & while :; do echo t >> /ticks; sleep 0.1; done")
    viewer = look(server)

    viewer.until("all work and no play\nall work")
    before = ticks(lab, server)
    for _ in range(20):
        viewer.take()
    wait_for(lambda: ticks(lab, server) > before, "the server to go on")


def test_a_deleted_servers_picture_ends(lab, look):
    server = lab.boot("echo booted; exec sleep 1000")
    viewer = look(server)
    viewer.until("booted")

    lab.engine.remove(server.container_name)
    with pytest.raises(AssertionError, match="hung up"):
        viewer.until("never seen")
