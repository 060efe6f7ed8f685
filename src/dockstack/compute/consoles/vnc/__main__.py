# SPDX-License-Identifier: Apache-2.0
"""One viewer's picture, as a process of its own: ``python -m dockstack.compute.consoles.vnc VIEWER CONSOLE``.

VIEWER and CONSOLE are the numbers of two sockets that it inherits. What a server writes is a stranger's: here it costs
neither nova-compute its time nor another tenant a console.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time

from dockstack.compute.consoles.vnc.desktop import MOST_TYPED, Desktop
from dockstack.compute.consoles.vnc.glyphs import NoFont, load_face, rehearse
from dockstack.compute.consoles.vnc.messages import BrokenProtocol
from dockstack.confinement import restrain

MEMORY_BYTES = 384 * 1024**2
NICENESS = 10
GREETING_SECONDS = 30.0
FRAME_SECONDS = 0.03
_CHUNK = 32 * 1024
_IDLE = 5.0  # seconds


def serve(viewer: socket.socket, console: socket.socket, desktop: Desktop, selector: selectors.BaseSelector) -> None:
    """Show a console to a viewer until either hangs up.

    Raises:
        OSError: one of them was lost.
        BrokenProtocol: the viewer makes no sense, or says nothing.
    """
    deadline = time.monotonic() + GREETING_SECONDS
    painted_at = 0.0
    due: float | None = 0.0  # when to paint next; None while nothing has happened
    while True:
        now = time.monotonic()
        if not desktop.greeted and now > deadline:
            raise BrokenProtocol("A viewer did not introduce itself.")
        if due is not None and now >= due and not desktop.outgoing:
            desktop.paint()
            painted_at, due = now, None
        _watch(selector, viewer, console, desktop)
        for key, events in selector.select(_IDLE if due is None or due <= now else due - now):
            due = painted_at + FRAME_SECONDS
            if events & selectors.EVENT_WRITE:
                _send(key.fileobj, desktop.outgoing if key.fileobj is viewer else desktop.typed)
            if events & selectors.EVENT_READ and not _take(key.fileobj, viewer, desktop):
                return


def _watch(selector: selectors.BaseSelector, viewer: socket.socket, console: socket.socket, desktop: Desktop) -> None:
    """Say what to wait for; a viewer is not read while much of what it typed is still on its way."""
    reads = selectors.EVENT_READ
    wanted = {
        viewer: (reads if len(desktop.typed) < MOST_TYPED else 0) | (selectors.EVENT_WRITE if desktop.outgoing else 0),
        console: reads | (selectors.EVENT_WRITE if desktop.typed else 0),
    }
    watched = selector.get_map()
    for connection, events in wanted.items():
        if connection in watched:
            selector.unregister(connection)
        if events:
            selector.register(connection, events)


def _send(connection: object, waiting: bytearray) -> None:
    if isinstance(connection, socket.socket):
        with contextlib.suppress(BlockingIOError, ConnectionError):  # of the latter, reading tells
            del waiting[: connection.send(waiting[:_CHUNK])]


def _take(connection: object, viewer: socket.socket, desktop: Desktop) -> bool:
    """Read what was said; False at the end."""
    if not isinstance(connection, socket.socket):
        return False
    try:
        data = connection.recv(_CHUNK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    if connection is viewer:
        desktop.receive(data)
    else:
        desktop.hear(data)
    return bool(data)


def main() -> int:
    """Serve the two sockets that are named."""
    viewer, console = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    viewer.setblocking(False)
    console.setblocking(False)
    try:
        face = load_face()
        rehearse(face)
        desktop = Desktop(face)
        with selectors.DefaultSelector() as selector:
            restrain(MEMORY_BYTES, niceness=NICENESS)
            serve(viewer, console, desktop, selector)
    except (OSError, BrokenProtocol, NoFont) as error:
        print(f"A VNC viewer is hung up on: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
