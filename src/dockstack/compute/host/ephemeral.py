# SPDX-License-Identifier: Apache-2.0
"""Ephemeral disks: files of this host, each with an empty file system, which come and go with their server.

A file is complete when it has its name. One that is missing is not made again by a start: an empty disk in the place of
a full one would be taken for the server's data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Volume

DIRECTORY = "ephemeral"
_HALF = ".new"
_MAKE = {kind: (f"mkfs.{kind}", "-q", "-F", "-L") for kind in ("ext2", "ext3", "ext4")} | {"vfat": ("mkfs.vfat", "-n")}
_SECONDS = 300


class CannotMake(DockstackError):  # noqa: N818 - said of the request
    """A server cannot have an ephemeral disk here."""


def make(host: Host, server_uuid: str, disks: Iterable[Volume]) -> None:
    """Make those of a new server's disks that are ephemeral; one that is there stays.

    Raises:
        CannotMake: with what to do about it.
    """
    for disk in disks:
        about, path = disk.ephemeral, find(host, server_uuid, disk)
        if about is None or path.exists():
            continue
        half = path.with_name(path.name + _HALF)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            half.unlink(missing_ok=True)
            half.touch(0o600)
            os.truncate(half, about.size_gb << 30)
            line = [*_MAKE[about.file_system], about.label, str(half)]
            subprocess.run(line, check=True, capture_output=True, text=True, timeout=_SECONDS)
            half.rename(path)
        except (OSError, KeyError, subprocess.SubprocessError) as error:
            raise CannotMake(
                f"An ephemeral disk with {about.file_system} cannot be made on this host: {error}.",
                f"Take one of {', '.join(_MAKE)}; the host needs e2fsprogs and dosfstools, and room.",
                getattr(error, "stderr", "") or "",
            ) from error


def find(host: Host, server_uuid: str, disk: Volume) -> Path:
    """Return the file of an ephemeral disk, whether it is there or not."""
    return _find(host) / server_uuid / disk.id


def drop(host: Host, server_uuid: str) -> None:
    """Remove the ephemeral disks of a server; absent is success."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_find(host) / server_uuid)


def list_servers(host: Host) -> list[str]:
    """List the servers that have ephemeral disks here."""
    directory = _find(host)
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _find(host: Host) -> Path:
    return Path(host.options.state_directory) / DIRECTORY
