# SPDX-License-Identifier: Apache-2.0
"""A server's console: one thread between its line and all who look at it.

What the server says is always read at once, whether or not a viewer does: one who does not read must not stop it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol

from dockstack.compute.consoles.client import Viewer
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
    """What a console needs of the server's end (``line.Line``)."""

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
    """Joins viewers with a server's line, until all have left."""

    def __init__(self, name: str, line: ServerEnd, linger: float) -> None:
        """Prepare; ``join`` begins.

        Args:
            name: for the thread's name.
            line: the server's end.
            linger: seconds that a session outlives its last viewer, so that a window can be opened again.
        """
        self._line = line
        self._linger = linger
        self._lock = threading.Lock()
        self._arrived: list[Viewer] = []
        self._viewers: list[Viewer] = []
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
        """Take a viewer in; False if this console has ended and another one is needed."""
        with self._lock:
            if not self._open:
                return False
            self._arrived.append(Viewer(connection))
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
        while not self._closing and not self._line.over:
            now = time.monotonic()
            left_at = now if self._viewers or self._arrived else left_at
            if self._forsaken(now - left_at):
                return
            if self._line.stream is None and now >= connect_at:
                self._show(self._line.connect())
                self._name_windows()
                self._hear()
                connect_at = now + _RECONNECT
                if self._line.stream is None:
                    self._typed.clear()  # nobody is there to hear it, and it is not meant for whoever comes
            self._round()

    def _forsaken(self, seconds: float) -> bool:
        """Whether nobody looks any more; decided under the lock, so that nobody joins what ends."""
        if not seconds or (self._line.busy and seconds < self._linger):
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
            elif isinstance(key.fileobj, Viewer):
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
        stream = self._line.stream
        if stream is not None:
            self._selector.register(stream, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._typed else 0))
        for viewer in self._viewers:
            events = selectors.EVENT_READ if len(self._typed) < TYPED_BYTES else 0
            events |= selectors.EVENT_WRITE if viewer.eager else 0
            if events:
                self._selector.register(viewer, events)

    def _admit(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for viewer in arrived:
            if len(self._viewers) >= VIEWERS:
                viewer.show(notice(f"{VIEWERS} viewers look at this console already; close one of them"))
                viewer.close()
                continue
            if self._title:
                viewer.show(title(self._title))
            viewer.show(self._scrollback.replay())
            self._viewers.append(viewer)

    def _attend(self, viewer: Viewer, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            viewer.send()
        if events & selectors.EVENT_READ:
            self._typed += viewer.read()

    def _hear(self) -> None:
        """Read until there is nothing more just now, but let others have their turn in a flood."""
        for _ in range(16):
            said = self._line.read()
            if not said:
                return
            self._show(said)

    def _show(self, data: bytes) -> None:
        if data:
            self._scrollback.add(data)
            for viewer in self._viewers:
                viewer.show(data)

    def _name_windows(self) -> None:
        """Give viewers' windows the server's name, which may have changed."""
        if self._line.title != self._title:
            self._title = self._line.title
            for viewer in self._viewers:
                viewer.show(title(self._title))

    def _pass_on(self) -> None:
        """Type what waits, and give the terminal the size that fits all."""
        if self._typed and self._line.stream is not None:
            taken, shown = self._line.type(bytes(self._typed))
            del self._typed[:taken]
            self._show(shown)
        size = smallest([viewer.size for viewer in self._viewers if viewer.size is not None])
        if size is not None and size != self._size:
            self._size = size
            self._line.resize(size)

    def _part(self) -> None:
        for viewer in [viewer for viewer in self._viewers if viewer.gone]:
            self._viewers.remove(viewer)
            viewer.close()

    def _finish(self) -> None:
        with self._lock:
            self._open = False
            self._viewers += self._arrived
            self._arrived = []
        for viewer in self._viewers:
            viewer.close()
        self._viewers.clear()
        self._line.close()
        self._selector.close()
        self._bell.close()
        self._ring.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it ended meanwhile
            self._ring.send(b"!")
