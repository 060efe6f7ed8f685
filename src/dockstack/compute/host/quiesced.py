# SPDX-License-Identifier: Apache-2.0
"""Which servers stand still for snapshots of their volumes: noted before they do, as whoever asked for it may die.

A note is a file with a container's id. It says nothing of a container that is paused for another reason by then.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.compute.host.host import Host

DIRECTORY = "quiesced"


def note(host: Host, server_uuid: str, container_id: str) -> None:
    """Note that a container is about to stand still."""
    path = _find(host) / server_uuid
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(container_id)


def read(host: Host, server_uuid: str) -> str:
    """Return which container of a server stands still; "" if none does."""
    try:
        return (_find(host) / server_uuid).read_text()
    except FileNotFoundError:
        return ""


def forget(host: Host, server_uuid: str) -> None:
    """Note that it does not; absent is success."""
    (_find(host) / server_uuid).unlink(missing_ok=True)


def list_older(host: Host, seconds: float) -> list[str]:
    """List the servers that have stood still for longer than this, or since a time that the clock has yet to reach."""
    directory = _find(host)
    found = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # it goes on meanwhile
            since = path.stat().st_mtime
            if not 0 <= time.time() - since <= seconds:  # asked after it, as notes are made meanwhile
                found.append(path.name)
    return found


def _find(host: Host) -> Path:
    return Path(host.options.state_directory) / DIRECTORY
