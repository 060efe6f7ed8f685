# SPDX-License-Identifier: Apache-2.0
"""VNC viewers: each has a process that draws the terminal for it, between its connection and the server's console.

To the console it is a viewer like any other. Emulator, font and picture are never loaded into nova-compute, and what a
server writes is never interpreted there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import dockstack
from dockstack.compute.consoles.vnc import fonts
from dockstack.errors import DockstackError

LOG = logging.getLogger(__name__)

PICTURES = 32  # of about 30 MB each
_PROGRAM = "dockstack.compute.consoles.vnc"


class CannotPaint(DockstackError):  # noqa: N818
    """This host lacks what pictures are made with."""


class Painters:
    """The processes of a host's VNC viewers."""

    def __init__(self, limit: int = PICTURES) -> None:
        """Start with none."""
        self._free = threading.BoundedSemaphore(limit)

    def adopt(self, viewer: socket.socket) -> socket.socket:
        """Give a viewer its picture; return what to join with the console in its place.

        Raises:
            OSError: there are too many, or no process can be started.
        """
        if not self._free.acquire(blocking=False):
            LOG.warning("A VNC viewer is refused: %s look at this host's servers already", PICTURES)
            raise OSError(f"{PICTURES} VNC viewers look at this host's servers already")
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                viewer.setblocking(False)
                process = _start(viewer.fileno(), theirs.fileno())
        except OSError:
            self._free.release()
            raise
        viewer.close()
        threading.Thread(target=self._await_end, args=(process,), name="vnc-viewer", daemon=True).start()
        return ours

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._free.release()


def check() -> None:
    """See whether this host can draw; nothing is loaded for that.

    Raises:
        CannotPaint: it cannot.
    """
    if importlib.util.find_spec("PIL") is None:
        raise CannotPaint("VNC consoles need the Python package pillow.", "Install it beside nova-compute.")
    if not (fonts.DIRECTORY / fonts.REGULAR).exists():
        raise CannotPaint(f"VNC consoles need a font in {fonts.DIRECTORY}.", f"apt-get install {fonts.PACKAGE}")


def _start(viewer: int, console: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-s", "-m", _PROGRAM, str(viewer), str(console)],
        stdin=subprocess.DEVNULL,
        pass_fds=(viewer, console),
        cwd="/",
        env={
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(Path(dockstack.__file__).parent.parent),
            "MALLOC_ARENA_MAX": "1",
        },
    )
