# SPDX-License-Identifier: Apache-2.0
"""A server's console: one thread that copies between the server and all viewers.

The server's output is always read at once, also when no viewer reads: a full pipe would block the server's programs.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol

from dockstack.compute.consoles.client import Client
from dockstack.compute.consoles.text import Scrollback, notice, smallest, title

if TYPE_CHECKING:
    from dockstack.compute.engine import Size, Stream

LOG = logging.getLogger(__name__)

VIEWERS = 8
SCROLLBACK_BYTES = 64 * 1024
TYPED_BYTES = 64 * 1024
_RECONNECT = 0.5  # seconds between attempts to find the server's end
_TICK = 0.25


class ServerEnd(Protocol):
    """What a console needs of the server's end (``backend.Backend``)."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def title(self) -> str:
        """What to call it; empty while that is not known."""

    @property
    def busy(self) -> bool:
        """Whether somebody may be logged in."""

    @property
    def stream(self) -> Stream | None:
        """What to watch."""

    def connect(self) -> bytes:
        """Begin to listen; return what to show."""

    def read(self) -> bytes:
        """Return what was said."""

    def type(self, data: bytes) -> tuple[int, bytes]:
        """Pass on; return how much was, and what to show."""

    def resize(self, size: Size) -> None:
        """Set the terminal's size."""

    def hang_up(self) -> None:
        """End the session."""

    def close(self) -> None:
        """Let go."""


class Console:
    """Joins viewers with a server's backend, until all have left."""

    def __init__(self, name: str, backend: ServerEnd, linger: float) -> None:
        """Prepare; ``join`` begins.

        Args:
            name: for the thread's name.
            backend: the server's end.
            linger: seconds that a session outlives its last viewer, so that a window can be opened again.
        """
        self._backend = backend
        self._linger = linger
        self._lock = threading.Lock()
        self._arrived: list[Client] = []
        self._clients: list[Client] = []
        self._open, self._closing = True, False
        self._typed = bytearray()
        self._scrollback = Scrollback(SCROLLBACK_BYTES)
        self._size: Size | None = None
        self._title = ""
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"console-{name}", daemon=True)

    @property
    def open(self) -> bool:
        """Whether viewers may still join."""
        return self._open

    def join(self, connection: socket.socket) -> bool:
        """Take a client in; False if this console has ended and another one is needed."""
        with self._lock:
            if not self._open:
                return False
            self._arrived.append(Client(connection))
            if self._thread.ident is None:
                self._thread.start()
        self._wake()
        return True

    def end(self) -> None:
        """Have it end: all viewers, and the session."""
        self._closing = True
        self._wake()

    def wait(self, seconds: float = 10) -> None:
        """Wait until it has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    # -- the thread

    def _run(self) -> None:
        try:
            self._bell.setblocking(False)
            self._serve()
        except Exception:
            LOG.exception("A console failed; its viewers are hung up on")
        finally:
            self._finish()

    def _serve(self) -> None:
        left_at = time.monotonic()
        connect_at = 0.0
        while not self._closing and not self._backend.over:
            now = time.monotonic()
            left_at = now if self._clients or self._arrived else left_at
            if self._forsaken(now - left_at):
                return
            if self._backend.stream is None and now >= connect_at:
                self._show(self._backend.connect())
                self._name_windows()
                self._hear()
                connect_at = now + _RECONNECT
                if self._backend.stream is None:
                    self._typed.clear()  # nobody is there to hear it, and it is not meant for whoever comes
            self._round()

    def _forsaken(self, seconds: float) -> bool:
        """Whether nobody looks any more; decided under the lock, so that nobody joins what ends."""
        if not seconds or (self._backend.busy and seconds < self._linger):
            return False
        with self._lock:
            self._open = bool(self._arrived)
            return not self._open

    def _round(self) -> None:
        """Wait until something happens, and do what it needs."""
        self._watch()
        for key, events in self._selector.select(_TICK):
            if key.fileobj is self._bell:
                with contextlib.suppress(BlockingIOError):
                    self._bell.recv(64)
            elif isinstance(key.fileobj, Client):
                self._attend(key.fileobj, events)
            else:
                self._hear()
        self._admit()
        self._pass_on()
        self._part()

    def _watch(self) -> None:
        """Say what to wait for; nobody's typing is read while much of it is still on its way."""
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        stream = self._backend.stream
        if stream is not None:
            self._selector.register(stream, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._typed else 0))
        for client in self._clients:
            events = selectors.EVENT_READ if len(self._typed) < TYPED_BYTES else 0
            events |= selectors.EVENT_WRITE if client.eager else 0
            if events:
                self._selector.register(client, events)

    def _admit(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for client in arrived:
            if len(self._clients) >= VIEWERS:
                client.show(notice(f"{VIEWERS} viewers look at this console already; close one of them"))
                client.close()
                continue
            if self._title:
                client.show(title(self._title))
            client.show(self._scrollback.replay())
            self._clients.append(client)

    def _attend(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            client.send()
        if events & selectors.EVENT_READ:
            self._typed += client.read()

    def _hear(self) -> None:
        """Read until there is nothing more just now, but let others have their turn in a flood."""
        for _ in range(16):
            said = self._backend.read()
            if not said:
                return
            self._show(said)

    def _show(self, data: bytes) -> None:
        if data:
            self._scrollback.add(data)
            for client in self._clients:
                client.show(data)

    def _name_windows(self) -> None:
        """Give viewers' windows the server's name, which may have changed."""
        if self._backend.title != self._title:
            self._title = self._backend.title
            for client in self._clients:
                client.show(title(self._title))

    def _pass_on(self) -> None:
        """Type what waits, and give the terminal the size that fits all."""
        if self._typed and self._backend.stream is not None:
            taken, shown = self._backend.type(bytes(self._typed))
            del self._typed[:taken]
            self._show(shown)
        size = smallest([client.size for client in self._clients if client.size is not None])
        if size is not None and size != self._size:
            self._size = size
            self._backend.resize(size)

    def _part(self) -> None:
        for client in [client for client in self._clients if client.gone]:
            self._clients.remove(client)
            client.close()

    def _finish(self) -> None:
        with self._lock:
            self._open = False
            self._clients += self._arrived
            self._arrived = []
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._backend.close()
        self._selector.close()
        self._bell.close()
        self._ring.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it ended meanwhile
            self._ring.send(b"!")
