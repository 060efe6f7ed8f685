# SPDX-License-Identifier: Apache-2.0
"""Loop devices: a volume's bytes under a second device that its server cannot write to, while they are mounted.

Whoever has a volume may write to its device at any time, also under a mounted file system, where the kernel expects no
stranger's bytes. So what is mounted is another loop device over the same file, and the volume's own ends after its
first kilobyte meanwhile, as do those that other hosts of the machine have over that file: an open descriptor of it
does not help. The kernel forgets the second device with its last
mount (autoclear), and whoever finds the first one short with no second gives it back its size. So nothing needs to be
written down, and no death of a process leaves anything behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.names import MOUNTED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAJOR = 7
VOLUME_LABEL = b"dockstack:"  # what the labels of volumes' own devices begin with; the volume's uuid follows
MOUNTED_LABEL = b"dockmount:"  # as long, as a label has 63 bytes
SHORT = MOUNTED_BYTES  # a forced detach leaves another number of bytes, and is not undone

_BLOCK = Path("/sys/block")
_DEVICES = Path("/sys/dev/block")

# linux/loop.h
_SET_STATUS, _GET_STATUS, _CONFIGURE, _GET_FREE = 0x4C04, 0x4C05, 0x4C0A, 0x4C82
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_STATUS = struct.Struct("=QQQQQIIII64s64s32s2Q")
_BLKFLSBUF = 0x1261
_TRIES = 20


@dataclass(frozen=True)
class Status:
    """What the kernel says of a loop device.

    Attributes:
        backing: device and inode of its file.
        limit: bytes of the file that it shows; 0 for all.
        flags: LO_FLAGS_*.
        label: the name that whoever made it gave it.
    """

    backing: tuple[int, int]
    limit: int
    flags: int
    label: bytes


@dataclass(frozen=True)
class Loop:
    """An open loop device.

    Attributes:
        name: such as loop3.
        descriptor: of its node.
        device: its number.
        status: as it was when it was opened.
    """

    name: str
    descriptor: int
    device: int
    status: Status


def name_of(major: int, minor: int) -> str | None:
    """Return the name of a loop device that has a file, else None."""
    path = _DEVICES / f"{major}:{minor}"
    return path.resolve().name if major == MAJOR and (path / "loop").is_dir() else None


@contextmanager
def opened(name: str) -> Iterator[Loop]:
    """Open a loop device for as long as the block runs.

    Raises:
        OSError: it has no file any more.
    """
    descriptor = _open_node(name, os.O_RDONLY)
    try:
        yield _look(name, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(name: str, seconds: float) -> Iterator[tuple[Loop, ...]]:
    """Open a volume's device, and those that other hosts of this machine have of it; be the only one who swaps them.

    They are locked in the order of their names, the same for all; the one that was asked for is returned first.

    Raises:
        OSError: it has no file any more, or somebody else works on one of them for too long.
    """
    deadline = time.monotonic() + seconds
    with opened(name) as loop, ExitStack() as stack:
        found: dict[str, Loop] = {}
        for each in sorted({name, *_find(loop, VOLUME_LABEL)}):
            with suppress(OSError) if each != name else nullcontext():
                other = loop if each == name else stack.enter_context(opened(each))
                _lock(other, deadline)
                found[each] = _look(each, other.descriptor)
        first = found.pop(name)
        yield first, *(each for each in found.values() if each.status.backing == first.status.backing)


def _lock(loop: Loop, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(loop.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"somebody works on {loop.name}") from None
            time.sleep(0.02)
        else:
            return


def is_volume(loop: Loop, volume: str) -> bool:
    """Whether a device is this volume's own now, and has not been taken away."""
    with suppress(OSError):
        found = _look(loop.name, loop.descriptor).status
        return found.label.startswith(VOLUME_LABEL + f"{volume}:".encode()) and found.limit in (0, SHORT)
    return False


def is_mounted_as_ext4(name: str) -> bool:
    """Whether the kernel has a file system of this device."""
    return Path("/proc/fs/ext4", name).is_dir()


def find_mounted(volume: Loop) -> str | None:
    """Return the name of the second device of a volume, if it has one that was not taken away."""
    return next(iter(_find(volume, MOUNTED_LABEL)), None)


def find_volume(mounted: Loop) -> str | None:
    """Return the name of a volume's own device over the file of a second one, if there is one."""
    return next(iter(_find(mounted, VOLUME_LABEL)), None)


def _find(loop: Loop, label: bytes) -> list[str]:
    """Return the names of devices over the file of one, with labels that begin so, without those that were taken away.

    Devices over files of other names are not asked: the kernel asks their files then, and one may answer nobody.
    """
    names, file = [], _read_file(loop.name)
    for name in _names():
        with suppress(OSError):
            if _read_file(name) != file:
                continue
            with opened(name) as other:
                found = other.status
            if found.backing == loop.status.backing and found.label.startswith(label) and found.limit in (0, SHORT):
                names.append(name)
    return names


def shorten(volume: Loop) -> None:
    """Keep everybody from writing to a volume through its own device; what was written is on its file then."""
    if _look(volume.name, volume.descriptor).status.limit == 0:
        os.fsync(volume.descriptor)
        _limit(volume, SHORT)


def give_back(volume: Loop) -> None:
    """Let a volume's own device have its size again, if we took that."""
    if _look(volume.name, volume.descriptor).status.limit == SHORT:
        _limit(volume, 0)


@contextmanager
def second(volume: Loop, *, read_only: bool) -> Iterator[Loop]:
    """Have a second device over a volume's file; it is gone after the block, if nothing has mounted it."""
    file = os.open(_read_file(volume.name), (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(file)
        if (found.st_dev, found.st_ino) != volume.status.backing:
            raise FileNotFoundError(errno.ENOENT, f"{volume.name}'s file is not where the kernel says")
        flags = _AUTOCLEAR | volume.status.flags & _DIRECT_IO | (_READ_ONLY if read_only else 0)
        name, descriptor = configure(file, flags, MOUNTED_LABEL + volume.status.label.removeprefix(VOLUME_LABEL))
    finally:
        os.close(file)
    try:
        yield _look(name, descriptor)
    finally:
        os.close(descriptor)


def configure(file: int, flags: int, label: bytes) -> tuple[str, int]:
    """Make a loop device; return its name and an open descriptor.

    Args:
        file: an open one.
        flags: LO_FLAGS_*.
        label: by which it is found.
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            name = f"loop{fcntl.ioctl(control, _GET_FREE)}"
            descriptor = _open_node(name, os.O_RDWR)
            status = _STATUS.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, label[:63], b"", b"", 0, 0)
            try:
                fcntl.ioctl(descriptor, _CONFIGURE, struct.pack("=II", file, 0) + status + bytes(64))
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:  # somebody was faster
                    raise
            else:
                return name, descriptor
        raise BlockingIOError(errno.EAGAIN, "others take each free loop device")
    finally:
        os.close(control)


def unsettled_volumes() -> tuple[str, ...]:
    """Return names of volumes' devices that are short while there is no second one, or whole beside one; reads only.

    The latter comes when another host of the machine attaches what is mounted already.
    """
    files: dict[bytes, list[tuple[str, int, bool]]] = {}
    for name in _names():
        with suppress(OSError, ValueError):
            about = _BLOCK / name / "loop"
            limit, autoclear = int((about / "sizelimit").read_text()), (about / "autoclear").read_text().strip() == "1"
            files.setdefault((about / "backing_file").read_bytes(), []).append((name, limit, autoclear))
    found = []
    for loops in files.values():
        mounted = any(autoclear and not limit for _, limit, autoclear in loops)
        wrong = 0 if mounted else SHORT
        found += [name for name, limit, autoclear in loops if limit == wrong and not autoclear]
    return tuple(found)


def _read_file(name: str) -> bytes:
    """Return the path of a device's file, as the kernel remembers it."""
    return (_BLOCK / name / "loop/backing_file").read_bytes().rstrip(b"\n")


def _names() -> list[str]:
    return sorted(path.name for path in _BLOCK.glob("loop*") if (path / "loop").is_dir())


def _look(name: str, descriptor: int) -> Loop:
    device, inode, _, _, limit, _, _, _, flags, label, _, _, _, _ = _STATUS.unpack(_status(descriptor))
    found = os.fstat(descriptor)
    return Loop(name, descriptor, found.st_rdev, Status((_number(device), inode), limit, flags, label.rstrip(b"\0")))


def _number(encoded: int) -> int:
    """Read a device's number as the kernel encodes it for this call (huge_encode_dev)."""
    return os.makedev((encoded & 0xFFF00) >> 8, (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00))


def _status(descriptor: int) -> bytearray:
    status = bytearray(_STATUS.size)
    fcntl.ioctl(descriptor, _GET_STATUS, status, True)
    return status


def _limit(volume: Loop, limit: int) -> None:
    status = _status(volume.descriptor)
    struct.pack_into("=Q", status, 4 * 8, limit)
    for _ in range(_TRIES):
        try:
            fcntl.ioctl(volume.descriptor, _SET_STATUS, status)
            break
        except BlockingIOError:  # a page was written to meanwhile
            time.sleep(0.02)
    else:
        raise BlockingIOError(errno.EAGAIN, f"{volume.name} is written to all the time")
    fcntl.ioctl(volume.descriptor, _BLKFLSBUF)  # nobody reads what was cached before


def _open_node(name: str, flags: int) -> int:
    """Open a loop device, whose node the kernel does not make where /dev is no file system of its own."""
    path = Path("/dev", name)
    major, _, minor = (_BLOCK / name / "dev").read_text().partition(":")
    wanted = os.makedev(int(major), int(minor))
    with suppress(FileExistsError):
        os.mknod(path, stat.S_IFBLK | 0o600, wanted)
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    if os.fstat(descriptor).st_rdev != wanted:
        os.close(descriptor)
        raise FileNotFoundError(errno.ENODEV, f"{path} is another device")
    return descriptor
