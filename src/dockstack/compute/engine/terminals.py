# SPDX-License-Identifier: Apache-2.0
"""Conversations with a container's processes: its terminal, its log as it grows, a program on a terminal of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
import urllib.parse
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import docker
from dockstack.compute.engine.faults import message_of, of_status, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEADER_BYTES = 16 * 1024
_CHUNK = 64 * 1024
_FRAME_HEADER = 8  # stream, three zeros, length: the engine's API, "Stream format"
_LONGEST_FRAME = 1 << 20
_END = b"\r\n\r\n"
_CANNOT_RUN = (126, 127)  # a shell's own convention, which runc keeps: not executable, not found

# Keys that end an attachment in the engine's client. The usual ones (ctrl-p ctrl-q) would be missing in every shell, so
# these are none that a person presses. They also tell our programs from those of an operator's `docker exec`.
_DETACH_KEYS = "ctrl-],ctrl-^,ctrl-_,ctrl-],ctrl-^,ctrl-_"
_DETACH_BYTES = bytes((0x1D, 0x1E, 0x1F) * 2)


class Size(NamedTuple):
    """A terminal's size in characters."""

    rows: int
    columns: int


class Frames:
    """Takes the engine's framing of standard output and error apart; both belong to the console."""

    def __init__(self) -> None:
        """Start between two frames."""
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the content of what arrived; an incomplete header waits for the rest.

        Raises:
            ValueError: this is no framed stream.
        """
        content = bytearray()
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                content += piece
                continue
            missing = _FRAME_HEADER - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == _FRAME_HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                if self._header[1:4] != bytes(3) or self._left > _LONGEST_FRAME:
                    raise ValueError("the engine's stream is not framed as it should be")
                self._header = b""
        return bytes(content)


class Stream:
    """One conversation; no call waits, so that one thread can serve it and others."""

    def __init__(self, connection: socket.socket, begun: bytes = b"") -> None:
        """Take over a connection whose HTTP part is done.

        Args:
            connection: the engine's.
            begun: what arrived behind the HTTP part.
        """
        connection.setblocking(False)
        self.ended = False
        self._connection = connection
        self._begun = begun

    def fileno(self) -> int:
        """Return what a selector watches; read once before: the beginning may be here already."""
        return self._connection.fileno()

    def read(self) -> bytes:
        """Return what has arrived, perhaps nothing; ``ended`` says that nothing more will."""
        data, self._begun = self._begun, b""
        return data or self._receive()

    def write(self, data: bytes) -> int:
        """Send what fits now and return how much that was."""
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.ended = True
            return len(data)

    def close(self) -> None:
        """End the conversation; the processes at the other end go on."""
        self._connection.close()

    def _receive(self) -> bytes:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.ended = not data
        return data


class LogStream(Stream):
    """A log as it grows. The engine answers with the first line, which may be long in coming: this, too, is read here.

    An answer that is none of success ends it.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection on which a log was asked for."""
        super().__init__(connection)
        self._header: bytes | None = b""
        self._frames = Frames()

    def read(self) -> bytes:
        """Return what has arrived, without the framing."""
        data = self._receive()
        if self._header is not None:
            data = self._read_header(self._header + data)
        try:
            return self._frames.feed(data)
        except ValueError:
            self.ended = True
            return b""

    def _read_header(self, received: bytes) -> bytes:
        header, end, rest = received.partition(_END)
        if not end:
            self._header = received
            self.ended = self.ended or len(received) > _HEADER_BYTES
            return b""
        self._header = None
        self.ended = self.ended or _status(header) != HTTPStatus.OK
        return b"" if self.ended else rest


@dataclass(frozen=True)
class Program:
    """A program on a terminal of its own inside a container."""

    id: str
    pid: int  # the host's number
    stream: Stream


class Terminals:
    """The engine's calls for consoles; for one thread.

    The engine's SDK reads the connection beneath its HTTP library's buffer and so can lose a stream's first bytes.
    Hence the few lines of HTTP here.
    """

    def __init__(self, base_url: str, timeout: int) -> None:
        """Remember where the engine is; nothing is called yet."""
        self._base_url = base_url
        self._timeout = timeout
        self._client: Any = None

    def attach(self, name: str) -> Stream:
        """Join the terminal of a container that was created with one.

        Whoever joins has to read: one who does not would stop the container's processes at their next output.
        """
        query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1", "detachKeys": _DETACH_KEYS}
        return self._converse(f"/containers/{name}/attach?{urllib.parse.urlencode(query)}", None, f"attaching {name}")

    def follow_log(self, name: str, lines: int, since: float) -> Stream:
        """Read a container's log from ``lines`` before its end, and on as it grows.

        A reader that falls behind harms nobody: the log is on disk.

        Args:
            name: a container without a terminal, running or not.
            lines: how many old lines to begin with.
            since: seconds since the epoch; older lines are left out.
        """
        query = {"follow": "1", "stdout": "1", "stderr": "1", "tail": str(lines), "since": f"{since:.9f}"}
        path = f"/containers/{name}/logs?{urllib.parse.urlencode(query)}"
        # Version 1.0, in which an answer without a length is what comes until the connection's end, not chunks.
        request = f"GET {self._path(path)} HTTP/1.0\r\nHost: engine\r\n\r\n"
        with translated(f"reading the log of {name}"), contextlib.ExitStack() as stack:
            connection = stack.enter_context(_connect(self._base_url, self._timeout))
            connection.sendall(request.encode())
            stack.pop_all()
        return LogStream(connection)

    def read_log(self, name: str, lines: int, since: float) -> bytes:
        """Return what the terminal of a container showed since a time, at most the last ``lines``."""
        with translated(f"reading the log of {name}"):
            return bytes(self._sdk().logs(name, tail=lines, since=since or None))  # the SDK refuses 0

    def run(self, name: str, command: Iterable[str], user: str, environment: Mapping[str, str]) -> Program | None:
        """Run a program on a terminal of its own; None if the container has no such program.

        Args:
            name: a running container.
            command: the argument vector.
            user: who runs it; empty for the container's user.
            environment: further variables.

        Raises:
            Conflict: the container does not run, or is paused.
        """
        with translated(f"running a program on a terminal of {name}"):
            made = self._sdk().exec_create(
                name,
                list(command),
                stdin=True,
                tty=True,
                user=user,
                environment=dict(environment),
                detach_keys=_DETACH_KEYS,
            )
        body = json.dumps({"Detach": False, "Tty": True}).encode()
        stream = self._converse(f"/exec/{made['Id']}/start", body, f"running a program on a terminal of {name}")
        pid = self._await_start(made["Id"])
        if pid is None:
            stream.close()
            return None
        return Program(made["Id"], pid, stream)

    def resize(self, name: str, size: Size) -> None:
        """Tell a container's own terminal its size."""
        with translated(f"resizing the terminal of {name}"):
            self._sdk().resize(name, size.rows, size.columns)

    def resize_program(self, program: Program, size: Size) -> None:
        """Tell a program's terminal its size."""
        with translated("resizing a terminal"):
            self._sdk().exec_resize(program.id, size.rows, size.columns)

    def programs(self, name: str) -> tuple[int, ...]:
        """Return the host's process numbers of the programs that ``run`` started in a container and that still run."""
        with translated(f"looking for programs on terminals of {name}"):
            found = self._sdk().inspect_container(name).get("ExecIDs") or ()
            told = [self._sdk().exec_inspect(identity) for identity in found]
        return tuple(each["Pid"] for each in told if each["Running"] and each["Pid"] and _is_ours(each))

    def close(self) -> None:
        """Let go of the connection for short calls."""
        if self._client is not None:
            self._client.close()

    def _await_start(self, identity: str) -> int | None:
        """Wait until a program has started; the engine answers before it has tried."""
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            with translated("starting a program"):
                told = self._sdk().exec_inspect(identity)
            if told["Running"] and told["Pid"]:
                return int(told["Pid"])
            if not told["Running"] and told["ExitCode"] is not None:
                return None if told["ExitCode"] in _CANNOT_RUN else int(told["Pid"] or 0)
            time.sleep(0.02)
        return None

    def _converse(self, path: str, body: bytes | None, action: str) -> Stream:
        lines = [f"POST {self._path(path)} HTTP/1.1", "Host: engine", "Connection: Upgrade", "Upgrade: tcp"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body or b'')}"]
        request = "\r\n".join((*lines, "", "")).encode() + (body or b"")
        with translated(action), contextlib.ExitStack() as stack:
            connection = stack.enter_context(_connect(self._base_url, self._timeout))
            connection.sendall(request)
            header, _, rest = _read_header(connection).partition(_END)
            status = _status(header)
            if status not in (HTTPStatus.OK, HTTPStatus.SWITCHING_PROTOCOLS):
                raise of_status(action, status, message_of(rest + _read_rest(connection)))
            stack.pop_all()
        return Stream(connection, rest)

    def _path(self, path: str) -> str:
        return f"/v{self._sdk().api_version}{path}"

    def _sdk(self) -> Any:
        if self._client is None:
            self._client = docker.APIClient(self._base_url, version=None, timeout=self._timeout)
            self._client.trust_env = False
        return self._client


def _connect(base_url: str, timeout: int) -> socket.socket:
    """Connect to the engine, which is on this host: a unix socket, or TCP without TLS."""
    url = urllib.parse.urlsplit(base_url)
    if url.scheme in ("unix", "http+unix"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(url.netloc + url.path)
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection((url.hostname or "localhost", url.port or 2375), timeout)


def _read_header(connection: socket.socket) -> bytes:
    received = b""
    while _END not in received:
        data = connection.recv(_CHUNK)
        if not data or len(received) > _HEADER_BYTES:
            raise ConnectionError("the engine's answer ended within its header")
        received += data
    return received


def _status(header: bytes) -> int:
    """Read an HTTP answer's status; 0 if it is none."""
    words = header.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _read_rest(connection: socket.socket) -> bytes:
    """Read an error's message, of which one packet is enough."""
    connection.settimeout(0.2)
    try:
        return connection.recv(_CHUNK)
    except TimeoutError:
        return b""


def _is_ours(told: Mapping[str, Any]) -> bool:
    """Whether ``run`` made this; the engine says the keys as bytes in JSON's base64."""
    return base64.b64decode(told.get("DetachKeys") or "") == _DETACH_BYTES
