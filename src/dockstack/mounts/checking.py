# SPDX-License-Identifier: Apache-2.0
"""A file system is checked by a process without rights before the kernel reads it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess

from dockstack.mounts import kernel
from dockstack.mounts.requests import Refusal

_NOBODY = 65534
_MEMORY = 2 << 30
_SUPERBLOCK, _MAGIC = 1024, (56, b"\x53\xef")
_STATE, _INCOMPATIBLE = 58, 96
_CLEAN, _RECOVER = 1, 4  # in linux/fs/ext4/ext4.h: EXT4_VALID_FS, EXT4_FEATURE_INCOMPAT_RECOVER
_REPAIRED = 1  # e2fsck(8)'s exit status; 0: clean
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def check_ext4(device: str, *, read_only: bool) -> None:
    """Refuse a file system that is not whole.

    One that was in use when its machine ended is repaired, as a machine does it that boots; one that claims to have
    been left in order and is not, somebody has made so.

    Args:
        device: a node that ``nobody`` may open.
        read_only: it cannot be repaired.

    Raises:
        Refusal: it is damaged, or none.
    """
    with open(device, "rb") as file:  # noqa: PTH123 - a device
        file.seek(_SUPERBLOCK)
        head = file.read(1024)
    at, magic = _MAGIC
    if head[at : at + 2] != magic:
        raise Refusal("no ext4 on the device", errno.EINVAL)
    in_use = not head[_STATE] & _CLEAN or bool(head[_INCOMPATIBLE] & _RECOVER)
    if _run("-fn", device) == 0:
        return
    if in_use and not read_only and _run("-fp", device) <= _REPAIRED:
        return
    raise Refusal("a damaged file system: e2fsck -f on the device, in the server, says more", errno.EUCLEAN)


def _run(how: str, device: str) -> int:
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
