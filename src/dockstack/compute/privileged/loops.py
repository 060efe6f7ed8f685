# SPDX-License-Identifier: Apache-2.0
"""Loop devices: files as block devices, each with a label by which it is found again.

A loop device gets its file and its label in one step of the kernel, so that there is none of ours without a label
whatever dies in between. The machine's loop devices are everybody's: what bears no label of this host is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator  # noqa: TC003 - mypy wants it for the decorated function
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockstack.names import MOUNTED_BYTES, REVOKED_BYTES

# linux/loop.h
_SET_STATUS, _GET_STATUS, _CLEAR, _SET_CAPACITY, _CONFIGURE = 0x4C04, 0x4C05, 0x4C01, 0x4C07, 0x4C0A
_GET_FREE = 0x4C82
_READ_ONLY, _AUTOCLEAR, _DIRECT = 1, 4, 16
_INFO = struct.Struct("=5Q4I64s64s32s2Q")  # struct loop_info64
_DEVICE, _INODE, _SIZE_LIMIT, _FLAGS, _NAME = 0, 1, 4, 8, 9  # in it
_CONFIG = struct.Struct("=2I")  # struct loop_config: this, a loop_info64, and 64 bytes of nothing
_RESERVED = bytes(64)

_TRIES = 100  # others take free devices, too
_PATIENCE, _INTERVAL = 2.0, 0.02  # seconds

_SYSFS = Path("/sys/block")
_NODES = Path("/dev")


@dataclass(frozen=True)
class Loop:
    """A loop device that has a file."""

    number: int
    label: str
    file: tuple[int, int]  # device and inode of it
    revoked: bool = False  # it is kept only by a process that has it open still
    mounted: bool = False  # by the mount broker, by a device of its own (``mounts/loops.py``)

    @property
    def device(self) -> int:
        """Its device number, which is more than the loop's where the kernel gives loops partitions."""
        return _find_device(self.number)


def find_all(prefix: str, passing: Callable[[str], bool] = lambda _path: False) -> list[Loop]:
    """List the loop devices whose labels begin so.

    Args:
        prefix: of their labels.
        passing: says of a file, by its path, that its device is passed by: the kernel tells a device's label only when
            it has asked the file, which takes as long as whoever serves it takes to answer.
    """
    found = []
    for path in _SYSFS.glob("loop*/loop"):
        with contextlib.suppress(OSError):  # it lost its file meanwhile
            if passing(os.fsdecode((path / "backing_file").read_bytes().rstrip(b"\n"))):
                continue
            number = int(path.parent.name.removeprefix("loop"))
            info = _read(number)
            if _label_of(info).startswith(prefix):
                file, limit = (_decode(info[_DEVICE]), info[_INODE]), info[_SIZE_LIMIT]
                states = {"revoked": limit == REVOKED_BYTES, "mounted": limit == MOUNTED_BYTES}
                found.append(Loop(number, _label_of(info), file, **states))
    return found


def make(path: str, label: str) -> Loop:
    """Make a file a block device; where it cannot be written, nor can the device.

    Raises:
        OSError: the file cannot be had, or the kernel has no device to spare.
    """
    file, read_only = _open_file(path)
    try:
        about = os.fstat(file)
        info = [0] * 9 + [label.encode(), b"", b"", 0, 0]
        info[_FLAGS] = _DIRECT | (_READ_ONLY if read_only else 0)
        wanted = _CONFIG.pack(file, 0) + _INFO.pack(*info) + _RESERVED
        for _ in range(_TRIES):
            number = _find_free()
            with _opened(number) as device:
                try:
                    fcntl.ioctl(device, _CONFIGURE, wanted)
                except OSError as error:
                    if error.errno == errno.EBUSY:  # somebody else was faster
                        continue
                    raise
                return Loop(number, label, (about.st_dev, about.st_ino))
        raise OSError(errno.EBUSY, "no loop device stays free")
    finally:
        os.close(file)


def revoke(loop: Loop) -> None:
    """Take a device away, also from a process that has it open still: what was written is kept, no more comes.

    The kernel lets go of the file when the last one closes the device. Until then all but its first bytes are gone.
    """
    with contextlib.suppress(FileNotFoundError), _opened(loop.number) as device:
        try:
            info = _unpack(fcntl.ioctl(device, _GET_STATUS, bytes(_INFO.size)))
            if _label_of(info) != loop.label:
                return
            with contextlib.suppress(OSError):  # a device for reading only
                os.fsync(device)
            info[_SIZE_LIMIT] = REVOKED_BYTES
            info[_FLAGS] |= _AUTOCLEAR
            fcntl.ioctl(device, _SET_STATUS, _INFO.pack(*info))
            fcntl.ioctl(device, _CLEAR)
        except OSError as error:
            if error.errno != errno.ENXIO:  # it has lost its file already
                raise


def drop_dead(path: Path) -> None:
    """Take away the devices over the file of a file system in user space that has died.

    The kernel says nothing of such a device but that file's name, which another host's has, too; for a second it still
    says on what file system that is. One that is open goes when it is closed.
    """
    mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    dead = {None, *(words[2] for words in mounted if words[4] == str(path))}
    for backing in _SYSFS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            number = int(backing.parents[1].name.removeprefix("loop"))
            if backing.read_bytes().rstrip(b"\n") == os.fsencode(path) and _find_file_system(number) in dead:
                with _opened(number) as device:
                    fcntl.ioctl(device, _CLEAR)


def flush(loop: Loop) -> None:
    """Have on its file what was written to a device; one that has lost its file, or is for reading only, is fine.

    Raises:
        OSError: some of it is lost.
    """
    try:
        with _opened(loop.number) as device:
            os.fsync(device)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENXIO, errno.EROFS, errno.EBADF):
            raise


@contextmanager
def locked(loop: Loop) -> Iterator[None]:
    """Keep the mount broker from mounting a volume by its own device; one that checks it for too long is passed by.

    It looks at the record again when it is done, so that goes first.
    """
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(FileNotFoundError):
            device, deadline = opened.enter_context(_opened(loop.number)), time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(_INTERVAL)
        yield


def grow(loop: Loop) -> None:
    """Let a device have the size that its file has now."""
    with _opened(loop.number) as device:
        fcntl.ioctl(device, _SET_CAPACITY)


def _open_file(path: str) -> tuple[int, bool]:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC), False
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), True


def _find_file_system(number: int) -> str | None:
    """Return where a device's file is, as mountinfo has it; None if that answers no more."""
    try:
        found = _decode(_read(number)[_DEVICE])
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return None
        raise
    return f"{os.major(found)}:{os.minor(found)}"


def _read(number: int) -> list[Any]:
    with _opened(number, os.O_RDONLY) as device:
        return _unpack(fcntl.ioctl(device, _GET_STATUS, bytes(_INFO.size)))


def _unpack(info: bytes) -> list[Any]:
    return list(_INFO.unpack(info))


def _label_of(info: list[Any]) -> str:
    return bytes(info[_NAME]).rstrip(b"\0").decode("ascii", "replace")


def _decode(device: int) -> int:
    """Read a device's number as the kernel encodes it for this call (huge_encode_dev)."""
    return os.makedev((device & 0xFFF00) >> 8, (device & 0xFF) | ((device >> 12) & 0xFFF00))


def _find_device(number: int) -> int:
    major, _, minor = (_SYSFS / f"loop{number}/dev").read_text().partition(":")
    return os.makedev(int(major), int(minor))


def _find_free() -> int:
    control = os.open(_NODES / "loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _GET_FREE)
    finally:
        os.close(control)


@contextmanager
def _opened(number: int, flags: int = os.O_RDWR) -> Iterator[int]:
    """Open a loop device, whose node the kernel does not make where /dev is no file system of its own."""
    path = _NODES / f"loop{number}"
    wanted = _find_device(number)
    with contextlib.suppress(FileExistsError):
        os.mknod(path, stat.S_IFBLK | 0o600, wanted)
    try:
        device = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if flags != os.O_RDWR or error.errno not in (errno.EROFS, errno.EACCES):
            raise
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(device).st_rdev != wanted:
            raise OSError(errno.ENODEV, f"{path} is another device")
        yield device
    finally:
        os.close(device)
