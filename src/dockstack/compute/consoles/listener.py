# SPDX-License-Identifier: Apache-2.0
"""One listening port for all consoles of a kind on a host; a secret path says which server's console is meant.

Nova lets a driver give its proxy a path to ask for first ("CONNECT path HTTP/1.1"; nova.console.websocketproxy). Ours
is a random secret, and Nova stores it beside the token in its database. Without it another user of the host, or another
server that reaches the port, is refused.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger(__name__)

BACKLOG = 64
HANDSHAKE_SECONDS = 10.0  # in all, however slowly a caller speaks
ACCEPT_PAUSE = 0.5  # seconds, when no connection can be had just now
HANDSHAKE_BYTES = 512
STRANGERS = 32  # connections that have not said their secret yet
KEPT = 10_000  # secrets; an older one is forgotten, and its token with it
_END = b"\r\n\r\n"
_WELCOME = b"HTTP/1.1 200 OK\r\n\r\n"
_REFUSAL = b"HTTP/1.1 403 Forbidden\r\n\r\n"


class ConsoleAddress(NamedTuple):
    """Where Nova's proxy finds a console."""

    host: str
    port: int
    path: str


class NoPort(DockstackError):  # noqa: N818
    """Every port of the range is taken."""


class Endpoint(NamedTuple):
    """Where consoles of a kind listen, and what Nova is told about it."""

    listen: str
    advertised: str  # what Nova's proxy is told; it may have another address for it
    ports: range
    options: str  # the options of nova.conf that decide on it, for the error message


class Listener:
    """Accepts connections to the consoles of a host's servers on one port."""

    def __init__(self, endpoint: Endpoint, join: Callable[[str, socket.socket], None]) -> None:
        """Prepare; the first ``announce`` listens.

        Args:
            endpoint: where to listen; the first free port is taken.
            join: joins a server's console with a viewer's connection. May raise OSError.
        """
        self._endpoint, self._join = endpoint, join
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._closed = threading.Event()  # of this listener
        self._paths: dict[str, str] = {}  # server: secret
        self._strangers = threading.BoundedSemaphore(STRANGERS)

    def announce(self, server_uuid: str) -> ConsoleAddress:
        """Return where a server's console is; the same as long as this process lives.

        Raises:
            NoPort: nothing is free to listen on.
        """
        with self._lock:
            if self._listener is None:
                self._listener, self._closed = listen(self._endpoint), threading.Event()
                arguments = (self._listener, self._closed)
                threading.Thread(target=self._accept, args=arguments, name="consoles", daemon=True).start()
            path = self._paths.pop(server_uuid, None) or secrets.token_urlsafe(32)
            self._paths[server_uuid] = path  # the last one asked for is the last to be forgotten
            while len(self._paths) > KEPT:
                del self._paths[next(iter(self._paths))]
            return ConsoleAddress(self._endpoint.advertised, self._listener.getsockname()[1], path)

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            listener, self._listener = self._listener, None
            self._closed.set()
            self._paths.clear()
        if listener is not None:
            hang_up(listener)

    def _accept(self, listener: socket.socket, closed: threading.Event) -> None:
        """Take callers until the listener is closed; a moment without descriptors or memory is not its end."""
        while not closed.is_set():
            try:
                connection, _ = listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:  # accept(2): EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, ENETDOWN, ...
                if not closed.is_set():
                    LOG.warning("No caller of the consoles can be taken just now; trying on: %s", error)
                    closed.wait(ACCEPT_PAUSE)
                continue
            if not self._attend(connection):
                connection.close()

    def _attend(self, connection: socket.socket) -> bool:
        """Have a thread of its own listen to a caller; false if there are too many, or no thread can be had."""
        if not self._strangers.acquire(blocking=False):
            return False
        try:
            threading.Thread(target=self._receive, args=(connection,), name="console-caller", daemon=True).start()
        except RuntimeError as error:
            self._strangers.release()
            LOG.warning("A caller of the consoles is refused: %s", error)
            return False
        return True

    def _receive(self, connection: socket.socket) -> None:
        """Let one in who knows a secret."""
        try:
            server_uuid = self._recognise(read_path(connection, time.monotonic() + HANDSHAKE_SECONDS))
            connection.settimeout(HANDSHAKE_SECONDS)
            if server_uuid is None:
                connection.sendall(_REFUSAL)
                connection.close()
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(_WELCOME)
            self._join(server_uuid, connection)
        except OSError as error:
            LOG.debug("A caller of the consoles was lost: %s", error)
            connection.close()
        except Exception:
            LOG.exception("A caller of the consoles could not be joined with its server")
            connection.close()
        finally:
            self._strangers.release()

    def _recognise(self, path: str) -> str | None:
        with self._lock:
            known = list(self._paths.items())
        said = path.encode()
        return next((uuid for uuid, secret in known if hmac.compare_digest(secret.encode(), said)), None)


def listen(endpoint: Endpoint) -> socket.socket:
    """Listen on the first free port.

    Raises:
        NoPort: there is none.
    """
    family = socket.AF_INET6 if ":" in endpoint.listen else socket.AF_INET
    problem = "the range is empty"
    for port in endpoint.ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((endpoint.listen, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            problem = str(error)
        else:
            return listener
    brief = f"No port for consoles is free on {endpoint.listen}: {problem}."
    raise NoPort(brief, f"Check {endpoint.options} of nova.conf.")


def read_path(connection: socket.socket, deadline: float) -> str:
    """Read what a caller asks for; nothing that was sent behind it is lost.

    Args:
        connection: the caller's.
        deadline: when it must have said it, on the monotonic clock.

    Raises:
        OSError: it asked for nothing in time, or at too great length.
    """
    asked = b""
    while _END not in asked:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it spoke too slowly")
        connection.settimeout(left)
        data = connection.recv(HANDSHAKE_BYTES - len(asked), socket.MSG_PEEK)
        if not data:
            raise ConnectionError("it hung up, or said too much")
        end = (asked + data).find(_END)
        asked += connection.recv(len(data) if end < 0 else end + len(_END) - len(asked))
    words = asked.decode("latin-1").split("\r\n", 1)[0].split(" ")
    return words[1] if len(words) == 3 and words[0] == "CONNECT" else ""  # noqa: PLR2004 - method, path, version


def hang_up(listener: socket.socket) -> None:
    """Close a listening socket, also for the thread that waits on it."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
