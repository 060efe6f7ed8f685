# SPDX-License-Identifier: Apache-2.0
"""Which volumes servers hold: each a device of this host, and a record that says so before any server sees it.

A volume that is a file has one loop device on a host, whichever servers hold it. Records and devices are both gone
after a reboot of the machine; what a killed process has left of either is found by the other.

What a volume's bytes are on may answer nobody any more: a server of storage, or the process that decrypts it. So
whoever asks a file or a device has that volume to himself, and no other one; and nobody asks those of others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import struct
import threading
import time
import uuid
from collections.abc import Collection, Iterator  # noqa: TC003 - mypy wants it for the decorated function
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockstack.compute.privileged import attaching, decryption, loops, mounts
from dockstack.names import VOLUMES_DIRECTORY

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DEVICE = re.compile(r"vd[a-z]{1,2}")
_HOST = re.compile(r"[0-9a-f]{16}")
_COPY_BYTES = 4 << 20
_SECTOR = 512
_HALF = ".new"
ROOT = "vda"  # the server's root file system, which the runtime mounts
_PATIENCE, _INTERVAL = 15.0, 0.05  # seconds
_OWN, _MOUNTED = "dockstack:", "dockmount:"  # what labels begin with; the latter are the mount broker's
_KINDS = (_MOUNTED, _OWN)  # who writes, ends first
_FLUSH = 0x1261  # linux/fs.h: BLKFLSBUF
_LOCKS = ".locks"
_LOCK = struct.Struct("hhqqi4x")  # struct flock (fcntl(2)) where file offsets have 64 bits
_PLACES = (1 << 62) - 1


@attaching.entrypoint
def hold(server: str, volume: str, path: str, host: str, seen: dict[str, Any]) -> dict[str, int]:
    """Have a volume as a device of this host, and write down that a server holds it; again is fine.

    Args:
        server: its uuid.
        volume: its uuid.
        path: the file or block device that it is on this host.
        host: 16 hexadecimal digits that tell hosts of one machine apart.
        seen: its "device" in the server, such as "vdb", and whether it is "read_only" there.

    Returns:
        The device's major and minor number, and its bytes as "size".

    Raises:
        OSError: the path cannot be had, or is neither file nor block device.
    """
    _check(server, volume, device=seen["device"])
    with decryption.kept(volume, path), _alone(volume):
        number = _find_device(server, volume, path, _label(volume, host))
        numbers = {"major": os.major(number), "minor": os.minor(number)}
        seen = {"device": seen["device"], "read_only": bool(seen["read_only"])}
        _write(server, volume, {"volume": volume, "path": path, **seen, **numbers})
    return numbers | {"size": measure(number)}


@attaching.entrypoint
def let_go(server: str, volume: str, host: str) -> bool:
    """Forget that a server holds a volume; say whether no server of this host does any more. Absent is success.

    With the last one goes the loop device, also from a process that has it open. The record goes first: killed in
    between, a device is left that nobody holds, and no record of a number that soon is another volume's.

    Raises:
        OSError: what was written is lost, or it is a root file system that is still mounted; again is fine.
    """
    _check(server, volume)
    _await_unmounted(server, volume)
    for loop in _find_loops(volume, host):  # before the lock: it takes as long as a tenant has written
        if not decryption.has_died(volume):
            loops.flush(loop)
    with _alone(volume):
        last = all(found == server for found, held in _list_records() if held == volume)
        files = _list_files(volume)  # which nothing tells any more then
        _erase(server, volume)
        if last:
            with contextlib.ExitStack() as locks:
                for loop in _find(_label(volume, host), volume, files):
                    locks.enter_context(loops.locked(loop))
                for loop in _find_loops(volume, host, files):
                    loops.revoke(loop)
    if last:
        _close(volume)
    return last


@attaching.entrypoint
def list_held() -> list[list[str]]:
    """List which servers hold which volumes as which device."""
    with _records_locked():
        return [[server, volume, read(server, volume)["device"]] for server, volume in _list_records()]


@attaching.entrypoint
def list_strays(host: str) -> list[str]:
    """List the volumes that have loop devices of this host, and that no server holds: one may be on its way there.

    Those of decrypted volumes go with what decrypts (``close_left_open``).
    """
    every = [loop for kind in _KINDS for loop in _find(kind)]
    found = {loop.label.split(":")[1] for loop in every if loop.label.endswith(f":{host}") and not loop.revoked}
    return sorted(volume for volume in found if not _is_held(volume))


@attaching.entrypoint
def drop_stray(volume: str, host: str) -> None:
    """Let go of a volume's devices on this host, unless a server holds it by now; absent is success.

    Raises:
        BlockingIOError: somebody works on the volume, who may wait for its storage for ever.
    """
    with _alone(volume, wait=False):
        for loop in [] if _is_held(volume) else _find_loops(volume, host):
            if not loop.revoked:
                loops.revoke(loop)


@attaching.entrypoint
def list_left_open() -> list[str]:
    """List the encrypted volumes that are open, or half so, and that no server holds: one may be on its way there."""
    return [volume for volume in decryption.list_open() if not _is_held(volume)]


@attaching.entrypoint
def close_left_open(volume: str) -> None:
    """Have an encrypted volume open no more, unless a server holds it by now; absent is success.

    Raises:
        BlockingIOError: somebody works on the volume, who may wait for what decrypts it for ever.
    """
    _close(volume, wait=False)


@attaching.entrypoint
def grow(server: str, volume: str, host: str) -> int:
    """Let a volume have the size that its file or device has now; return its bytes."""
    _check(server, volume)
    decryption.grow(volume)
    for loop in _find_loops(volume, host):
        loops.grow(loop)
    return measure(number_of(read(server, volume)))


@attaching.entrypoint
def copy(server: str, volume: str, other: str) -> None:
    """Write all of one volume of a server over the beginning of another one; holes stay holes.

    Raises:
        ValueError: the other one is smaller, or this one is mounted.
    """
    _check(server, volume)
    _check(server, other)
    _refuse_mounted(volume)
    numbers = [number_of(read(server, each)) for each in (volume, other)]
    sizes = [measure(number) for number in numbers]
    if sizes[1] < sizes[0]:
        raise ValueError(f"volume {other} has {sizes[1]} bytes, {volume} has {sizes[0]}")
    source, destination = (
        open_device(number, flags) for number, flags in zip(numbers, (os.O_RDONLY, os.O_RDWR), strict=True)
    )
    try:
        offset = 0
        while offset < sizes[0]:
            data = os.pread(source, min(_COPY_BYTES, sizes[0] - offset), offset)
            if not data:
                raise OSError(f"volume {volume} ends at {offset}")
            if any(data) or any(os.pread(destination, len(data), offset)):
                write_all(destination, data, offset)
            offset += len(data)
        os.fsync(destination)
        _refuse_mounted(volume)
    finally:
        os.close(source)
        os.close(destination)


def read(server: str, volume: str) -> dict[str, Any]:
    """Read what is written down of a volume that a server holds.

    Raises:
        FileNotFoundError: it does not.
    """
    found = json.loads(_path(server, volume).read_bytes())
    return dict(found)


def list_of(server: str) -> list[str]:
    """List the volumes that a server holds."""
    return [volume for found, volume in _list_records() if found == server]


def number_of(record: dict[str, Any]) -> int:
    """Return the device number that a record names."""
    return os.makedev(int(record["major"]), int(record["minor"]))


def find_mounted(volume: str) -> list[int]:
    """Return the numbers of the devices by which a mount broker has mounted a volume, on this machine."""
    return [loop.device for loop in _find(f"{_MOUNTED}{volume}:", volume)]


def find_own(volume: str) -> list[int]:
    """Return the numbers of all devices that a volume is on this machine, also of those that are taken away."""
    return [loop.device for loop in _find(f"{_OWN}{volume}:", volume)]


def is_mounted(volume: str) -> bool:
    """Say whether a mount broker has mounted a volume on this machine, or is about to."""
    return bool(find_mounted(volume)) or any(loop.mounted for loop in _find(f"{_OWN}{volume}:", volume))


def measure(number: int) -> int:
    """Return how many bytes a block device has; one that ends early while it is mounted, those of its file."""
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    with contextlib.suppress(OSError):
        if int((block / "loop/sizelimit").read_text()):
            file = Path((block / "loop/backing_file").read_text().rstrip("\n"))
            return file.stat().st_size // _SECTOR * _SECTOR
    return int((block / "size").read_text()) * _SECTOR


def _close(volume: str, *, wait: bool = True) -> None:
    """Close an encrypted volume unless a server holds it, which is certain under the lock that it has then."""
    decryption.close(volume, unless=lambda: _is_held(volume), wait=wait)


def _find_device(server: str, volume: str, path: str, label: str) -> int:
    """Return the number of the device that a volume is, made if need be; the one that the server has comes first."""
    found = os.stat(path)  # noqa: PTH116
    if stat.S_ISBLK(found.st_mode):
        return found.st_rdev
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is neither a file nor a block device")
    known = _read_number(server, volume)
    every = sorted(_find(label, volume, [path]), key=lambda loop: loop.device != known)
    for loop in (loop for loop in every if not loop.revoked):
        if loop.file == (found.st_dev, found.st_ino):
            return loop.device
        if _is_held(volume):
            raise OSError(f"another file than {path} is volume {volume} here, and a server holds it")
        loops.revoke(loop)
    return loops.make(path, label).device


def _read_number(server: str, volume: str) -> int | None:
    try:
        return number_of(read(server, volume))
    except FileNotFoundError:
        return None


def _await_unmounted(server: str, volume: str) -> None:
    """Wait until no process of a server has its root file system any more: the kernel writes it out with the last one.

    Raises:
        OSError: one has it for too long (EBUSY).
    """
    try:
        record = read(server, volume)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + _PATIENCE
    while record["device"] == ROOT:
        try:
            os.close(open_device(number_of(record), os.O_RDONLY | os.O_EXCL))
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENODEV):  # the device is gone
                return
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(_INTERVAL)
        else:
            return


def _refuse_mounted(volume: str) -> None:
    if is_mounted(volume):
        raise ValueError(f"volume {volume} is mounted")


def open_device(number: int, flags: int) -> int:
    """Open a device of this host by its number, whatever name it has.

    Raises:
        OSError: it is mounted, and was to be had alone (O_EXCL: EBUSY), or cannot be had.
    """
    name = f".{os.major(number)}-{os.minor(number)}.{threading.get_native_id()}"  # others may open it, too
    path = Path("/dev") / f"dockstack{name}"
    path.unlink(missing_ok=True)
    os.mknod(path, stat.S_IFBLK | 0o600, number)
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    finally:
        path.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write bytes at a place of an open file or device."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def write_out(number: int) -> None:
    """Have on a device what was written to it, and to a file system on it, in whichever mount namespace it is mounted.

    Raises:
        OSError: some of it is lost.
    """
    try:
        device = open_device(number, os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # it went meanwhile, which has written it out
            return
        raise
    try:
        fcntl.ioctl(device, _FLUSH)
        os.fsync(device)
    finally:
        os.close(device)


def _is_held(volume: str) -> bool:
    return any(held == volume for _, held in _list_records())


def _list_records() -> list[tuple[str, str]]:
    """List servers and the volumes that they hold."""
    return [(path.parent.name, path.stem) for path in sorted(VOLUMES_DIRECTORY.glob("*/*.json"))]


def _write(server: str, volume: str, record: dict[str, Any]) -> None:
    path = _path(server, volume)
    with _records_locked():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new = path.with_suffix(_HALF)
        new.write_text(json.dumps(record))
        new.rename(path)


def _erase(server: str, volume: str) -> None:
    path = _path(server, volume)
    with _records_locked():
        for each in (path, path.with_suffix(_HALF)):
            each.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds others, or none any more
            path.parent.rmdir()


def _path(server: str, volume: str) -> Path:
    return VOLUMES_DIRECTORY / server / f"{volume}.json"


def _label(volume: str, host: str) -> str:
    """Return the label of a volume's loop device: 63 characters, which is what the kernel keeps."""
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} names no host")
    return f"{_OWN}{volume}:{host}"


def _labels(volume: str, host: str) -> list[str]:
    """Return the labels of its loop device, and of those that the mount broker has beside it."""
    own = _label(volume, host)
    return [own.replace(_OWN, kind, 1) for kind in _KINDS]


def _find_loops(volume: str, host: str, files: Collection[str | None] = ()) -> list[loops.Loop]:
    return [loop for label in _labels(volume, host) for loop in _find(label, volume, files)]


def _find(prefix: str, volume: str = "", files: Collection[str | None] = ()) -> list[loops.Loop]:
    """List the loop devices whose labels begin so, without those over other volumes that a process may have to answer.

    Args:
        prefix: of their labels.
        volume: the one whose file is asked, whoever serves it.
        files: it is, besides those that records name.
    """
    decrypted, own = decryption.others_than(volume), {*files, *_list_files(volume)}
    tails = {_tail(str(file)) for file in own}
    served = [] if None in own else [f"{place}/" for place in mounts.list_in_user_space()]

    def passes(file: str) -> bool:
        if decrypted(file):
            return True
        named = (volume and volume in file) or _tail(file) in tails
        return not named and file.startswith(tuple(served))

    return loops.find_all(prefix, passing=passes)


def _list_files(volume: str) -> set[str | None]:
    """List the files that a volume is by records of it; None is of a record that names none, as older ones are."""
    found: set[str | None] = set()
    for server, held in _list_records():
        if held == volume:
            with contextlib.suppress(FileNotFoundError):  # it was let go of meanwhile
                found.add(read(server, held).get("path"))
    return found


def _tail(path: str) -> tuple[str, ...]:
    """Return by what a file is known, whatever links lead to its share."""
    return Path(path.removesuffix(" (deleted)")).parts[-2:]


def _check(server: str, volume: str, device: str = "vda") -> None:
    if not _UUID.fullmatch(server) or not _UUID.fullmatch(volume) or not _DEVICE.fullmatch(device):
        raise ValueError(f"{server!r}, {volume!r} and {device!r} are no volume of a server")


@contextmanager
def _alone(volume: str, *, wait: bool = True) -> Iterator[None]:
    """Have a volume to oneself, also from the process of a nova-compute that has just been killed.

    Its number is a place in one file, of which the kernel locks a byte, so that no file of its own stays.

    Raises:
        BlockingIOError: another one has it, and is not to be waited for.
    """
    how = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    place = uuid.UUID(volume).int & _PLACES
    with _opened_locks() as descriptor:
        fcntl.fcntl(descriptor, how, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        yield


@contextmanager
def _records_locked() -> Iterator[None]:
    """Have the records to oneself, for a moment: who has this lock asks no file and no device of anything."""
    with _opened_locks() as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened_locks() -> Iterator[int]:
    VOLUMES_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(VOLUMES_DIRECTORY / _LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
