# SPDX-License-Identifier: Apache-2.0
"""One command at a time changes the cloud. The kernel releases the lock when its holder ends, in whatever way."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "/run/dockstack.lock"


class BusyError(DockstackError):
    """Another command is changing the cloud."""


@contextmanager
def exclusive(command: str, path: str | Path = LOCK_FILE) -> Iterator[None]:
    """Hold the lock for the time of the block.

    Raises:
        BusyError: another process holds it; the error names it and says since when.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(os.pread(descriptor, 4096, 0)) from None
        note = {"pid": os.getpid(), "command": command, "since": time.strftime("%H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _busy(note: bytes) -> BusyError:
    try:
        holder = json.loads(note)
    except json.JSONDecodeError:
        holder = {}
    pid = holder.get("pid", "unknown")
    return BusyError(
        f"`dockstack {holder.get('command', '')}` (pid {pid}) is at work since {holder.get('since', 'a moment ago')}.",
        "Wait until it is done, or end it: what it leaves half done, the next run completes.",
    )
