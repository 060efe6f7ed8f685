# SPDX-License-Identifier: Apache-2.0
"""Config drives of this host's servers: written when a server is created, kept until it is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.containers.runtime import Mount
from dockstack.compute.guest import config_drive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

    ReadDrive = Callable[[], Mapping[str, bytes]] | None  # returns a drive's content; none where there is no drive

DIRECTORY = "drives"  # below the state directory


def write(host: Host, server: Server, read_drive: ReadDrive) -> None:
    """Write the server's drive, if it is to have one.

    Raises:
        DriveError: the file system refused.
    """
    if read_drive is not None:
        config_drive.write(find_directory(host), server.uuid, read_drive())


def remove(host: Host, server_uuid: str) -> None:
    """Remove a server's drive; absent is success."""
    config_drive.remove(find_directory(host), server_uuid)


def list_mounts(host: Host, server_uuid: str) -> tuple[Mount, ...]:
    """Say how the server reads its drive; nothing if it has none."""
    directory = config_drive.find(find_directory(host), server_uuid)
    if directory is None:
        return ()
    return tuple(Mount(source=str(directory), destination=point) for point in config_drive.MOUNT_POINTS)


def find_directory(host: Host) -> Path:
    """Return where this host's drives are."""
    return Path(host.options.state_directory) / DIRECTORY
