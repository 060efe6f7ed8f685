# SPDX-License-Identifier: Apache-2.0
"""What a server has written where the engine stores on btrfs: there, each container is a snapshot of its image.

A snapshot shares its files with what it was taken of, inode numbers and change times included, and every change of a
file, of its content, attributes or links, gives it another change time. So a comparison of both trees finds exactly
what was written since, without reading a file.
"""

# Names are bytes of strangers, so os and not pathlib:
# ruff: noqa: PTH108, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from dockstack.compute.privileged import copying, trees

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/btrfs.h; each request's structure is named behind it
_INO_LOOKUP = 0xD0009412  # btrfs_ioctl_ino_lookup_args: treeid, objectid, name
_QUOTA_CTL = 0xC0109428  # btrfs_ioctl_quota_ctl_args: cmd, status
_QGROUP_LIMIT = 0x8030942B  # btrfs_ioctl_qgroup_limit_args: qgroupid, then flags, referenced, exclusive, two reserves
_FS_INFO = 0x8400941F  # btrfs_ioctl_fs_info_args: two numbers, then the file system's uuid
_FS_INFO_BYTES = 1024
_ROOT_INODE = 256
_ENABLE, _ENABLE_SIMPLE = 1, 4
_LIMIT_REFERENCED = 1
SIMPLE, FULL = "squota", "qgroup"  # the kernel's names of the ways to count

_IDENTITY = re.compile(r"[0-9a-f]{64}")  # of a container, and of its subvolume
_NAME_BYTES = 100
BASE = "-init"  # the engine's snapshot of the image, of which it takes the container's


@copying.entrypoint
def enable_quotas(root: str) -> str:
    """Have quotas on an engine's file system, simple ones where the kernel has them; again is fine.

    The engine would take full ones. They cost more, and the kernel stops counting when it finds them inconsistent,
    which it does (6.18) when a subvolume with a quota is deleted: no limit holds from then on. Simple ones charge
    what is written to the subvolume that writes it, and nothing can go wrong with that.

    Args:
        root: the engine's data root.

    Returns:
        ``SIMPLE``, or ``FULL`` where the kernel has only those or they were on already.

    Raises:
        OSError: it is no btrfs.
    """
    with _opened(os.path.join(root, "btrfs")) as top:
        found = bytearray(_FS_INFO_BYTES)
        fcntl.ioctl(top, _FS_INFO, found)
        try:
            fcntl.ioctl(top, _QUOTA_CTL, bytearray(struct.pack("=QQ", _ENABLE_SIMPLE, 0)))
        except OSError as error:
            if error.errno != errno.EINVAL:  # the kernel knows no such quotas
                raise
            return FULL
    path = f"/sys/fs/btrfs/{uuid.UUID(bytes=bytes(found[16:32]))}/qgroups/mode"
    with open(path, encoding="ascii") as file:
        return file.read(_NAME_BYTES).strip()


@copying.entrypoint
def limit(root: str, container_id: str, size: int) -> None:
    """Hold a container's subvolume to a size, whether its container runs or not; the same again is fine.

    The engine remembers the size that it was given at the create, in a file, and sets it again at each start. That
    would undo this limit, and needs free space that a full server does not have. So the file is removed.

    Args:
        root: the engine's data root.
        container_id: whose, in full.
        size: bytes.

    Raises:
        OSError: the engine has no such subvolume.
    """
    subvolume = _find(root, container_id)
    # By way of the file system's top, since a change by way of the subvolume would count to it.
    with _opened(os.path.join(root, "btrfs")) as top, _opened(subvolume) as directory:
        found = bytearray(struct.pack("=QQ4080x", 0, _ROOT_INODE))
        fcntl.ioctl(directory, _INO_LOOKUP, found)
        (tree,) = struct.unpack_from("=Q", found)
        fcntl.ioctl(top, _QUOTA_CTL, bytearray(struct.pack("=QQ", _ENABLE, 0)))
        fcntl.ioctl(top, _QGROUP_LIMIT, struct.pack("=6Q", tree, _LIMIT_REFERENCED, size, 0, 0, 0))
    try:
        os.unlink(os.path.join(root, "btrfs/quotas", os.path.basename(subvolume)))
    except FileNotFoundError:
        return


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Entry(NamedTuple):
    """One file of a layer."""

    name: bytes  # below the root; b"" for the root itself
    deleted: bool = False  # the image has it, the server not
    opaque: bool = False  # a directory in the place of another of the image, whose files do not show in it


@copying.entrypoint
def locate(root: str, container_id: str) -> str:
    """Return the subvolume that is a container's root file system.

    Args:
        root: the engine's data root.
        container_id: whose, in full.

    Raises:
        OSError: the engine has none.
        ValueError: what it says of it is no name of one.
    """
    return _find(root, container_id)


def _find(root: str, container_id: str) -> str:
    if not root.startswith("/") or os.path.realpath(root) != root or not _IDENTITY.fullmatch(container_id):
        raise ValueError(f"{container_id!r} in {root!r} is no container of an engine")
    with open(os.path.join(root, "image/btrfs/layerdb/mounts", container_id, "mount-id"), encoding="ascii") as file:
        name = file.read(_NAME_BYTES).strip()
    if not _IDENTITY.fullmatch(name):
        raise ValueError(f"{name!r} is no subvolume of a container")
    return os.path.join(root, "btrfs/subvolumes", name)


def changed(base: bytes, layer: bytes, names: trees.Names) -> Iterator[Entry]:
    """Yield what differs between two trees, in the words of an overlay: parents first, in the order of names.

    Args:
        base: the tree as it was.
        layer: a snapshot of it that was written to; nothing may use it meanwhile.
        names: how many files it may have.
    """
    told: set[bytes] = set()  # directories
    waiting = [(b"", True)]
    while waiting:
        name, comparable = waiting.pop()
        new = os.lstat(os.path.join(layer, name))
        old = _look(os.path.join(base, name)) if comparable else None
        is_directory = stat.S_ISDIR(new.st_mode)
        kept = is_directory and old is not None and old.st_ino == new.st_ino
        if old is None or not _same(old, new):
            yield from _untold_parents(name, told)
            yield Entry(name, opaque=is_directory and not kept and old is not None and stat.S_ISDIR(old.st_mode))
            told |= {name} if is_directory else set()
        inside = names.list(os.path.join(layer, name) if name else layer) if is_directory else []
        for gone in sorted(_names(base, name).difference(inside)) if kept else ():
            yield from _untold_parents(os.path.join(name, gone), told)
            yield Entry(os.path.join(name, gone), deleted=True)
        waiting += [(os.path.join(name, each), kept) for each in inside]


def _untold_parents(name: bytes, told: set[bytes]) -> Iterator[Entry]:
    """Yield the directories on the way to a file that were not yielded yet."""
    parents = []
    while name and (name := os.path.dirname(name)) not in told:
        parents.append(name)
    told.update(parents)
    yield from map(Entry, reversed(parents))


def _same(old: os.stat_result, new: os.stat_result) -> bool:
    return (old.st_ino, old.st_ctime_ns, old.st_mode) == (new.st_ino, new.st_ctime_ns, new.st_mode)


def _look(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _names(tree: bytes, name: bytes) -> set[bytes]:
    with os.scandir(os.path.join(tree, name) if name else tree) as entries:
        return {entry.name for entry in entries}
