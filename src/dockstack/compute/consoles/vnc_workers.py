# SPDX-License-Identifier: Apache-2.0
"""Worker processes of VNC viewers: each draws the terminal for one viewer.

A worker stands between the viewer's connection and the server's console, to which it is a client like any other. The
terminal emulator runs there so that nova-compute never interprets what a server writes.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
from typing import TYPE_CHECKING

from dockstack import confinement
from dockstack.compute.consoles.vnc import fonts
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    import subprocess

LOG = logging.getLogger(__name__)

WORKERS = 32  # of about 30 MB each
_PROGRAM = "dockstack.compute.consoles.vnc"


class CannotDraw(DockstackError):  # noqa: N818
    """This host lacks what pictures are made with."""


class Workers:
    """The processes of a host's VNC viewers."""

    def __init__(self, limit: int = WORKERS) -> None:
        """Start with none."""
        self._free = threading.BoundedSemaphore(limit)

    def adopt(self, viewer: socket.socket) -> socket.socket:
        """Start a worker for a viewer; return the socket to join with the console in the viewer's place.

        Raises:
            OSError: there are too many, or no process can be started.
        """
        if not self._free.acquire(blocking=False):
            LOG.warning("A VNC viewer is refused: %s look at this host's servers already", WORKERS)
            raise OSError(f"{WORKERS} VNC viewers look at this host's servers already")
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                viewer.setblocking(False)
                sockets = (viewer.fileno(), theirs.fileno())
                process = confinement.start(_PROGRAM, [str(number) for number in sockets], sockets)
        except OSError:
            self._free.release()
            raise
        try:
            threading.Thread(target=self._await_end, args=(process,), name="vnc-viewer", daemon=True).start()
        except RuntimeError as error:
            process.kill()
            self._await_end(process)
            ours.close()
            raise OSError(f"no thread can be had: {error}") from error
        viewer.close()
        return ours

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._free.release()


def check() -> None:
    """See whether this host can draw; nothing is loaded for that.

    Raises:
        CannotDraw: it cannot.
    """
    if importlib.util.find_spec("PIL") is None:
        raise CannotDraw("VNC consoles need the Python package pillow.", "Install it beside nova-compute.")
    if not (fonts.DIRECTORY / fonts.REGULAR).exists():
        raise CannotDraw(f"VNC consoles need a font in {fonts.DIRECTORY}.", f"apt-get install {fonts.PACKAGE}")
