# SPDX-License-Identifier: Apache-2.0
"""Config drives: a directory on the host that the server reads, and that nobody else on the host may.

A container can mount nothing, so its drive is there mounted from its first process on: where people look, and where
cloud-init takes a config drive's content without a device ("seed").
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOUNT_POINTS = ("/config-drive", "/var/lib/cloud/seed/config_drive")
_UNFINISHED = ".new"


class DriveError(DockstackError):
    """A config drive could not be written."""


def write(drives: Path, server_uuid: str, content: Mapping[str, bytes]) -> Path:
    """Write a server's drive, whole or not at all, and return its directory; an older one is replaced.

    Its files belong to this process's user and to none else; root inside the server reads them all the same.

    Args:
        drives: the directory of all drives.
        server_uuid: whose.
        content: file by relative path.

    Raises:
        DriveError: the file system refused.
    """
    try:
        drives.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove(drives, server_uuid)
        unfinished = drives / (server_uuid + _UNFINISHED)
        unfinished.mkdir(mode=0o700)
        for name, data in content.items():
            path = unfinished / _checked(name)
            for parent in reversed(path.relative_to(unfinished).parents):
                (unfinished / parent).mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(data)
        return unfinished.rename(drives / server_uuid)
    except OSError as error:
        raise DriveError(
            f"The config drive of server {server_uuid} could not be written: {error.strerror or error}.",
            f"Check that there is room below {drives} and that nova-compute's user may write there.",
        ) from error


def remove(drives: Path, server_uuid: str) -> None:
    """Remove a server's drive, and one whose writing was broken off; absent is success."""
    for name in (server_uuid, server_uuid + _UNFINISHED):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(drives / name)


def find(drives: Path, server_uuid: str) -> Path | None:
    """Return the directory of a server's drive, if it has one."""
    directory = drives / server_uuid
    return directory if directory.is_dir() else None


def present(drives: Path) -> tuple[str, ...]:
    """Return the servers that have a drive, whole or not, for the sweep of strays."""
    found = drives.iterdir() if drives.is_dir() else ()
    return tuple(sorted({path.name.removesuffix(_UNFINISHED) for path in found}))


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DriveError(f"A config drive cannot hold {name!r}.")
    return path
