# SPDX-License-Identifier: Apache-2.0
"""Mounts of this host that go into a container's mount namespace while it runs."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from dockstack.compute.privileged.kernel import call, checked, libc

# linux/sched.h, linux/fcntl.h, linux/mount.h; asm-generic/unistd.h: the numbers are those of every architecture
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_READ_ONLY = struct.pack("=4Q", 1 | 2 | 4 | 8, 0, 1 << 18, 0)  # ro, nosuid, nodev, noexec; nothing; private


def enter(namespace: int) -> None:
    """Enter a mount namespace for good; only for a thread that ends in there."""
    checked(libc.unshare(_CLONE_FS), "leaving the common root")
    checked(libc.setns(namespace, _CLONE_NEWNS), "entering the mount namespace")


def clone(path: str, *, read_only: bool = False) -> int:
    """Return a detached mount of a file or directory of this mount namespace; its file descriptor."""
    tree = call("open_tree", _OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        if read_only:
            call("mount_setattr", _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _READ_ONLY, len(_READ_ONLY))
    except BaseException:
        os.close(tree)
        raise
    return tree


def move(tree: int, path: str) -> None:
    """Attach a detached mount, over whatever is there."""
    call("move_mount", _MOVE_MOUNT, tree, b"", _AT_FDCWD, path.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def list_in_user_space() -> list[str]:
    """List where this mount namespace has file systems of processes (FUSE), which may answer nobody any more."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        place, _, about = line.partition(" - ")
        if about.startswith("fuse"):
            found.append(place.split()[4])
    return found


def unmount(path: str, *, busy: bool) -> bool:
    """Unmount what is at a path, and no link; say whether that went.

    Args:
        path: where.
        busy: also what is in use: it is out of sight at once, and ends with its last user.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if busy else 0)
    return bool(libc.umount2(os.fsencode(path), flags) == 0)
