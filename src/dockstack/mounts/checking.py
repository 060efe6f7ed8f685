# SPDX-License-Identifier: Apache-2.0
"""A file system is checked by a process without rights before the kernel reads it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import subprocess
from pathlib import Path

from dockstack.mounts import kernel
from dockstack.mounts.requests import Refusal

_NOBODY = 65534
_MEMORY = 2 << 30
_SUPERBLOCK, _MAGIC = 1024, (56, b"\x53\xef")
_STATE, _FEATURES, _ORPHAN = 58, 96, 232  # features: those without which nobody may mount, or write
# linux/fs/ext4/ext4.h: EXT4_VALID_FS, EXT4_FEATURE_INCOMPAT_RECOVER, EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT
_CLEAN, _RECOVER, _ORPHANS_PRESENT = 1, 4, 0x10000
_REPAIRED = 1  # e2fsck(8)'s and fsck.fat(8)'s exit status; 0: clean
_PACKAGES = {"e2fsck": "e2fsprogs", "fsck.fat": "dosfstools"}
_DAMAGED = Refusal("a damaged file system: fsck -f on the device, in the server, says more", errno.EUCLEAN)
# linux/msdos_fs.h: FAT_STATE_DIRTY, in a byte that FAT32 has elsewhere; it gives the size of a table elsewhere, too
_DIRTY, _STATE_12, _STATE_32, _TABLE_12 = 1, 0x25, 0x41, 0x16
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def check(kind: str, device: str, *, read_only: bool) -> None:
    """Refuse a file system that is not whole, or of which the kernel would do more than read it.

    Args:
        kind: ext4 or vfat.
        device: a node that ``nobody`` may open.
        read_only: it cannot be repaired.

    Raises:
        Refusal: it is damaged, or none.
    """
    if kind == "vfat":
        check_vfat(device, read_only=read_only)
    else:
        check_ext4(device, read_only=read_only)


def check_vfat(device: str, *, read_only: bool) -> None:
    """Do so for FAT; one that was in use when its machine ended is repaired, as a machine does it that boots."""
    with open(device, "rb") as file:  # noqa: PTH123 - a device
        head = file.read(512)
    if is_dirty_vfat(head) and not read_only and _run("fsck.fat", "-a", device) > _REPAIRED:
        raise _DAMAGED
    if _run("fsck.fat", "-n", device):
        raise _DAMAGED


def is_dirty_vfat(head: bytes) -> bool:
    """Whether a FAT was not unmounted, by its first sector."""
    is_32 = head[_TABLE_12 : _TABLE_12 + 2] == b"\0\0"
    return bool(head[_STATE_32 if is_32 else _STATE_12] & _DIRTY)


def check_ext4(device: str, *, read_only: bool) -> None:
    """Do so for ext2 to ext4.

    One that was in use when its machine ended is repaired, as a machine does it that boots: its journal may hold
    anything, and ``e2fsck -n`` does not look into it, so the kernel gets none to replay, also where it mounts for
    reading only.
    """
    if _is_in_use(device):
        if read_only:
            raise Refusal("a file system that was not unmounted, on a device for reading only", errno.EROFS)
        if _run("e2fsck", "-fp", device) > _REPAIRED or _is_in_use(device):
            raise _DAMAGED
    if _run("e2fsck", "-fn", device):
        raise _DAMAGED


def _is_in_use(device: str) -> bool:
    """Whether a file system was not unmounted: the kernel would replay its journal and delete its orphans."""
    with open(device, "rb") as file:  # noqa: PTH123 - a device
        file.seek(_SUPERBLOCK)
        head = file.read(1024)
    at, magic = _MAGIC
    if head[at : at + 2] != magic:
        raise Refusal("no ext4 on the device", errno.EINVAL)
    incompatible, for_reading = struct.unpack_from("<II", head, _FEATURES)
    (orphan,) = struct.unpack_from("<I", head, _ORPHAN)
    left = incompatible & _RECOVER or for_reading & _ORPHANS_PRESENT or orphan
    return bool(left or not head[_STATE] & _CLEAN)


def _run(program: str, how: str, device: str) -> int:
    # Where memory ends, this process and its check end first: the broker's own score is not for a tenant's bytes.
    Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        return (
            subprocess.run(
                [program, how, device],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                cwd="/",
                env=_PATH,
                user=_NOBODY,
                group=_NOBODY,
                extra_groups=[],
                preexec_fn=_bound,
            ).returncode
            & 0xFF
        )
    except FileNotFoundError:
        raise Refusal(f"no {program} on this host: install {_PACKAGES[program]}", errno.ENODEV) from None


def _bound() -> None:
    kernel.end_with_parent(signal.SIGKILL)
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))
    os.nice(5)
