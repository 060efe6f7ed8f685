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
_REPAIRED = 1  # e2fsck(8)'s exit status; 0: clean
_DAMAGED = Refusal("a damaged file system: e2fsck -f on the device, in the server, says more", errno.EUCLEAN)
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def check_ext4(device: str, *, read_only: bool) -> None:
    """Refuse a file system that is not whole, or of which the kernel would do more than read it.

    One that was in use when its machine ended is repaired, as a machine does it that boots: its journal may hold
    anything, and ``e2fsck -n`` does not look into it, so the kernel gets none to replay, also where it mounts for
    reading only.

    Args:
        device: a node that ``nobody`` may open.
        read_only: it cannot be repaired.

    Raises:
        Refusal: it is damaged, or none.
    """
    if _is_in_use(device):
        if read_only:
            raise Refusal("a file system that was not unmounted, on a device for reading only", errno.EROFS)
        if _run("-fp", device) > _REPAIRED or _is_in_use(device):
            raise _DAMAGED
    if _run("-fn", device):
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


def _run(how: str, device: str) -> int:
    # Where memory ends, this process and its check end first: the broker's own score is not for a tenant's bytes.
    Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        return (
            subprocess.run(
                ["e2fsck", how, device],
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
        raise Refusal("no e2fsck on this host: install e2fsprogs", errno.ENODEV) from None


def _bound() -> None:
    kernel.end_with_parent(signal.SIGKILL)
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))
    os.nice(5)
