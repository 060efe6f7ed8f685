# SPDX-License-Identifier: Apache-2.0
"""A client for servers' consoles: asks Nova for the address and opens a websocket to Nova's proxy (RFC 6455)."""

from __future__ import annotations

import ssl
import time
import urllib.parse
from contextlib import closing
from typing import Any

import websocket

from dockstack.errors import DockstackError

SECONDS = 60.0


class NoConsole(DockstackError):  # noqa: N818
    """The console cannot be had, or has ended."""


def create_address(connection: Any, server: Any, kind: str = "serial") -> str:
    """Ask Nova for an address of a server's console, good for ten minutes.

    Args:
        connection: to the cloud.
        server: whose.
        kind: "serial", for the address of a websocket; or "novnc", for that of a page.

    Raises:
        openstack.exceptions.SDKException: Nova refuses.
    """
    return str(connection.compute.create_console(server, console_type=kind)["url"])


def page_of(address: str) -> str:
    """Return the page that shows a console: the same address for a browser."""
    return "http" + address.removeprefix("ws")


def line_of(page: str) -> str:
    """Return the websocket behind the page of a VNC console, as noVNC finds it."""
    parts = urllib.parse.urlsplit(page)
    path = urllib.parse.parse_qs(parts.query)["path"][0]
    return f"ws{parts.scheme.removeprefix('http')}://{parts.netloc}/{path.removeprefix('/')}"


def trust(connection: Any) -> ssl.SSLContext:
    """Return whom to trust behind an address that a cloud gave: whom clouds.yaml trusts for its APIs."""
    return ssl.create_default_context(cafile=connection.config.config.get("cacert"))


def open_console(
    address: str, trusted: ssl.SSLContext | None = None, seconds: float = SECONDS
) -> closing[ConsoleClient]:
    """Connect to a console, for a ``with``.

    Args:
        address: of the websocket.
        trusted: of ``trust``; used where the address is one of TLS.
        seconds: how long to wait for each answer.

    Raises:
        NoConsole: the proxy does not answer, or not with this protocol.
    """
    try:
        # Nova's proxy lets pages of its own origin in, and programs, which have none.
        line = websocket.create_connection(
            address, seconds, subprotocols=["binary"], suppress_origin=True, sslopt={"context": trusted}
        )
    except (OSError, websocket.WebSocketException) as error:
        proxy = urllib.parse.urlsplit(address).netloc
        raise NoConsole(f"Nova's console proxy at {proxy} does not answer: {error}.", "Is it up?") from error
    return closing(ConsoleClient(line))


class ConsoleClient:
    """A connection to a console: bytes both ways."""

    def __init__(self, line: Any) -> None:
        """Take over an open ``websocket.WebSocket``, whose methods have no types."""
        self._line = line

    def fileno(self) -> int:
        """Return the descriptor for a selector. There is more if it is readable, or something is ``held``."""
        return int(self._line.fileno())

    def held(self) -> bool:
        """Tell whether TLS has read more than was taken, of which a selector knows nothing."""
        return isinstance(self._line.sock, ssl.SSLSocket) and self._line.sock.pending() > 0

    def close(self) -> None:
        """Hang up."""
        self._line.shutdown()

    def write(self, data: bytes) -> None:
        """Type.

        Raises:
            NoConsole: it has ended.
        """
        try:
            self._line.settimeout(SECONDS)
            self._line.send_binary(data)
        except (OSError, websocket.WebSocketException) as error:
            raise NoConsole(f"The console was lost: {error}.") from error

    def report_size(self, rows: int, columns: int) -> None:
        """Send the window's size, as a terminal answers the request for it."""
        self.write(f"\x1b[8;{rows};{columns}t".encode())

    def read(self, seconds: float) -> bytes:
        """Return what was received; empty if nothing came in that time.

        Raises:
            NoConsole: it has ended.
        """
        self._line.settimeout(max(seconds, 0.001))  # no time at all would mean: do not wait, and fail
        try:
            kind, data = self._line.recv_data()
        except websocket.WebSocketTimeoutException:
            return b""
        except (OSError, websocket.WebSocketException) as error:
            raise NoConsole(f"The console was lost: {error}.") from error
        if kind == websocket.ABNF.OPCODE_CLOSE:
            raise NoConsole("The console has ended.", "If it never began: the address was used up or is too old.")
        return bytes(data)

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
