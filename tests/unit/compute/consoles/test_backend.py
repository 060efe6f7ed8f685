# SPDX-License-Identifier: Apache-2.0
"""What a console's backend does when the server, its programs or the engine come and go."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import pytest

from dockstack.compute.consoles import backend as lines
from dockstack.compute.consoles.backend import Backend
from dockstack.compute.engine import (
    Conflict,
    Container,
    EngineError,
    EngineUnavailable,
    NotFound,
    Program,
    Size,
    Stream,
)
from dockstack.compute.model import PowerState

pytestmark = pytest.mark.unit


@dataclass
class Host:
    """An engine and its calls for consoles, both in memory."""

    state: PowerState = PowerState.RUNNING
    tty: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    programs_there: tuple[str, ...] = ("/bin/login", "bash", "sh")
    trouble: Exception | None = None
    far: list[socket.socket] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def terminals(self) -> Host:
        return self

    def container(self, _name: str) -> Container:
        if self.trouble:
            raise self.trouble
        return Container("c", "nova-1", self.state, self.labels, tty=self.tty)

    def _stream(self) -> Stream:
        near, far = socket.socketpair()
        self.far.append(far)
        return Stream(near)

    def attach(self, _name: str) -> Stream:
        self.calls.append("attach")
        return self._stream()

    def follow_log(self, _name: str, _lines: int, since: float) -> Stream:
        self.calls.append("follow from the start" if not since else "follow on")
        return self._stream()

    def read_log(self, _name: str, _lines: int, _since: float) -> bytes:
        return b"earlier\r\n"

    def programs(self, _name: str) -> tuple[int, ...]:
        return ()

    def run(self, _name: str, command: tuple[str, ...], user: str, _environment: dict[str, str]) -> Program | None:
        if self.state is PowerState.PAUSED:
            raise Conflict("paused")
        self.calls.append(f"run {command[0]} as {user!r}")
        return Program("p", 1 << 30, self._stream()) if command[0] in self.programs_there else None

    def resize(self, _name: str, size: Size) -> None:
        self.calls.append(f"resize {size.rows}")

    def resize_program(self, _program: Program, size: Size) -> None:
        self.calls.append(f"resize program {size.rows}")

    def close(self) -> None:
        for each in self.far:
            each.close()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def backend(host):
    backend = Backend(host, "nova-1")
    yield backend
    backend.close()


def test_a_log_is_shown_line_by_line(host, backend) -> None:
    backend.connect()
    host.far[0].sendall(b"a\nb\n")

    assert backend.read() == b"a\r\nb\r\n"
    assert host.calls == ["follow from the start"]


@pytest.mark.parametrize(
    ("there", "tried"),
    [
        (("/bin/login", "sh"), ["run /bin/login as '0'"]),
        (("sh",), ["run /bin/login as '0'", "run bash as ''", "run sh as ''"]),
    ],
)
def test_a_login_is_preferred_to_a_shell(host, backend, there, tried) -> None:
    host.programs_there = there
    backend.connect()

    assert backend.type(b"\r") == (1, b"")
    assert host.calls[1:] == tried
    assert backend.busy


def test_an_image_without_any_program_keeps_its_log(host, backend) -> None:
    host.programs_there = ()
    backend.connect()

    taken, shown = backend.type(b"abc")
    assert taken == 3
    assert b"no login and no shell" in shown
    assert not backend.busy


def test_what_wakes_a_login_is_typed_into_it_unless_it_is_enter(host, backend) -> None:
    backend.connect()
    assert backend.type(b"root\r") == (0, b"")
    assert backend.type(b"root\r") == (5, b"")
    assert host.far[1].recv(100) == b"root\r"


def test_a_session_ends_and_the_log_goes_on_from_there(host, backend) -> None:
    backend.connect()
    backend.read()
    backend.type(b"\r")
    host.far[1].close()

    assert b"Press Enter for another one" in backend.read()
    backend.connect()
    assert host.calls[-1] == "follow on"


def test_a_terminal_of_the_servers_own(host, backend) -> None:
    host.tty = True
    assert backend.connect() == b"earlier\r\n"
    backend.resize(Size(30, 100))
    backend.type(b"x\r")

    assert host.far[0].recv(100) == b"x\r"
    assert host.calls == ["attach", "resize 30"]


def test_a_size_that_came_first_is_set_later(host, backend) -> None:
    backend.connect()
    backend.resize(Size(30, 100))
    backend.type(b"\r")

    assert host.calls[-1] == "resize program 30"


def test_a_paused_server_logs_nobody_in(host, backend) -> None:
    host.state = PowerState.PAUSED
    backend.connect()

    taken, shown = backend.type(b"abc")
    assert taken == 3, "it is not typed into whatever comes"
    assert b"paused" in shown


def test_a_failure_is_logged_as_the_servers(host, caplog) -> None:
    host.trouble = EngineError("It is broken.")
    Backend(host, "nova-6e9b1bb2-8a2c-4f3e-9d63-0a4f0f0f8a01").connect()
    (record,) = caplog.records
    assert record.instance_uuid == "6e9b1bb2-8a2c-4f3e-9d63-0a4f0f0f8a01"


def test_a_server_that_is_gone_ends_it(host, backend) -> None:
    host.trouble = NotFound("no such container")

    assert b"gone" in backend.connect()
    assert backend.over


@pytest.mark.parametrize("trouble", [EngineUnavailable("away"), None])
def test_an_absence_is_told_once_and_waited_for(host, backend, monkeypatch, trouble) -> None:
    now = [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: now[0])
    host.trouble, host.state = trouble, PowerState.SHUTDOWN

    assert backend.connect()
    assert not backend.connect()
    now[0] += lines.PATIENCE - 1
    host.trouble, host.state = None, PowerState.RUNNING
    assert b"Connected again" in backend.connect()
    assert not backend.over


def test_a_server_that_stays_down_ends_it(host, backend, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: now[0])
    host.state = PowerState.SHUTDOWN
    backend.connect()
    now[0] += lines.PATIENCE + 1
    backend.connect()

    assert backend.over
