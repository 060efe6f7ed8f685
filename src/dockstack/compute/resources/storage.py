# SPDX-License-Identifier: Apache-2.0
"""The disk below the engine's data: which device it is, and whether it can hold a server to its size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Storage drivers that give each container a volume of its own size (docs.docker.com, "storage-opt").
_SIZED = ("btrfs", "zfs", "devicemapper")
_PROJECT_QUOTA = ("prjquota", "pquota")


@dataclass(frozen=True)
class Storage:
    """What the engine keeps servers' root file systems on.

    Attributes:
        device: the whole disk's node, by which the kernel knows its rates; None if it is no disk of this machine.
        kind: how it stores, as in "overlay2 on ext4".
        sized: whether a server can be held to its flavor's disk.
    """

    device: str | None
    kind: str
    sized: bool

    def describe(self) -> str:
        """Tell a person whether servers are held to their disks, and if not, why."""
        if self.sized:
            return f"each server is held to its flavor's disk ({self.kind})"
        if self.kind == "overlay2 on xfs":
            return "a server may fill the host's: XFS is mounted without prjquota"
        return f"a server may fill the host's: {self.kind} has no limit for one server"


def read_storage(
    directory: str, driver: str, mountinfo: Path = Path("/proc/self/mountinfo"), blocks: Path = Path("/sys/dev/block")
) -> Storage:
    """Look at the file system that holds the engine's data.

    Args:
        directory: the engine's data root.
        driver: the engine's storage driver.
        mountinfo: proc_pid_mountinfo(5) of this process.
        blocks: the kernel's block devices by number.
    """
    kind, source, options = _find_mount(directory, mountinfo)
    sized = driver in _SIZED or (driver == "overlay2" and kind == "xfs" and any(o in options for o in _PROJECT_QUOTA))
    return Storage(
        device=_find_disk(source, blocks), kind=f"{driver} on {kind or 'an unknown file system'}", sized=sized
    )


def _find_mount(directory: str, mountinfo: Path) -> tuple[str, str, tuple[str, ...]]:
    """Return type, source and options of the file system below a directory: the deepest mount, of those the last."""
    best = ""
    found: tuple[str, str, tuple[str, ...]] = ("", "", ())
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        point, words = left.split()[4], right.split()
        inside = point in ("/", directory) or directory.startswith(f"{point}/")
        if inside and len(point) >= len(best):
            best, found = point, (words[0], words[1], tuple(words[2].split(",")))
    return found


def _find_disk(source: str, blocks: Path) -> str | None:
    """Return the node of the whole disk that a device is on: rates are a disk's, not a partition's."""
    try:
        number = os.stat(source).st_rdev  # noqa: PTH116 - a Path of "" would be the working directory
        entry = (blocks / f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    except OSError:
        return None
    disk = entry.parent if (entry / "partition").exists() else entry
    return f"/dev/{disk.name.replace('!', '/')}"
