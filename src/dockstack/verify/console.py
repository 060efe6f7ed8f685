# SPDX-License-Identifier: Apache-2.0
"""A server's serial console from the outside: Nova's address of it, and a websocket to Nova's proxy (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import ssl
import struct
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Self

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from types import TracebackType

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_SHORT, _MEDIUM = 126, 127  # what a length byte says when the length follows in two or eight bytes
_LONGEST = 1 << 24
_HEADER_BYTES = 16 * 1024
SECONDS = 15.0


class NoConsole(DockstackError):  # noqa: N818
    """The console cannot be had, or has ended."""


def create_address(connection: Any, server: Any) -> str:
    """Ask Nova for an address of a server's serial console: a websocket's, good for ten minutes.

    Raises:
        openstack.exceptions.SDKException: Nova refuses.
    """
    return str(connection.compute.create_console(server, console_type="serial")["url"])


def page_of(address: str) -> str:
    """Return the page that shows a console: the same address for a browser."""
    return "http" + address.removeprefix("ws")


class Console:
    """A connection to a console: bytes both ways."""

    def __init__(self, address: str, seconds: float = SECONDS) -> None:
        """Connect.

        Raises:
            NoConsole: the proxy does not answer or does not speak the protocol.
        """
        url = urllib.parse.urlsplit(address)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "wss" else 80)
        try:
            self._socket = socket.create_connection((host, port), seconds)
            if url.scheme == "wss":
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
            self._received = self._shake_hands(url)
        except OSError as error:
            raise NoConsole(f"Nova's serial proxy at {host}:{port} does not answer: {error}.", "Is it up?") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return what a selector watches."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def write(self, data: bytes) -> None:
        """Type.

        Raises:
            NoConsole: it has ended.
        """
        self._send(_BINARY, data)

    def report_size(self, rows: int, columns: int) -> None:
        """Tell the window's size, as a terminal does that is asked for it."""
        self.write(f"\x1b[8;{rows};{columns}t".encode())

    def read(self, seconds: float) -> bytes:
        """Return what was said; empty if nothing was in that time.

        Raises:
            NoConsole: it has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            frame = self._take_frame()
            if frame is not None:
                said = self._answer(*frame)
                if said:
                    return said
                continue
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return b""
            except OSError as error:
                raise NoConsole(f"The console was lost: {error}.") from error
            if not data:
                raise NoConsole("The console has ended.", "If it never began: the address was used up or is too old.")
            self._received += data

    def read_until(self, text: bytes, seconds: float = SECONDS) -> bytes:
        """Read until a text comes, and return all that was read.

        Raises:
            NoConsole: it did not come.
        """
        deadline, seen = time.monotonic() + seconds, b""
        while text not in seen:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoConsole(
                    f"The console did not show {text!r} within {seconds:.0f} s.", details=repr(seen[-2000:])
                )
            seen += self.read(left)
        return seen

    def _shake_hands(self, url: urllib.parse.SplitResult) -> bytes:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [f"GET {url.path or '/'}?{url.query} HTTP/1.1", f"Host: {url.netloc}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Protocol: binary", "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._socket.recv(4096)
            if not data or len(answer) > _HEADER_BYTES:
                raise ConnectionError("it hung up")
            answer += data
        header, _, rest = answer.partition(b"\r\n\r\n")
        accepted = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest())
        if b" 101 " not in header.split(b"\r\n")[0] + b" " or accepted not in header:
            raise ConnectionError(f"it said {header.splitlines()[0].decode(errors='replace')!r}")
        return rest

    def _answer(self, kind: int, data: bytes) -> bytes:
        if kind == _CLOSE:
            raise NoConsole("The console has ended.")
        if kind == _PING:
            self._send(_PONG, data)
        return data if kind in (_CONTINUATION, _TEXT, _BINARY) else b""

    def _take_frame(self) -> tuple[int, bytes] | None:
        """Take a whole frame out of what was received; None if there is none yet. A server's frames have no mask."""
        buffer = self._received
        if len(buffer) < 2:  # noqa: PLR2004 - the shortest header
            return None
        length, start = buffer[1] & 0x7F, 2
        if length >= _SHORT:
            size = 2 if length == _SHORT else 8
            start += size
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if length > _LONGEST:
            raise NoConsole("Nova's serial proxy does not speak as it should.")
        if len(buffer) < start + length:
            return None
        self._received = buffer[start + length :]
        return buffer[0] & 0x0F, buffer[start : start + length]

    def _send(self, kind: int, data: bytes) -> None:
        mask = secrets.token_bytes(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        if len(data) < _SHORT:
            header = struct.pack("!BB", 0x80 | kind, 0x80 | len(data))
        elif len(data) < 1 << 16:
            header = struct.pack("!BBH", 0x80 | kind, 0x80 | _SHORT, len(data))
        else:
            header = struct.pack("!BBQ", 0x80 | kind, 0x80 | _MEDIUM, len(data))
        try:
            self._socket.settimeout(SECONDS)
            self._socket.sendall(header + mask + masked)
        except OSError as error:
            raise NoConsole(f"The console was lost: {error}.") from error
