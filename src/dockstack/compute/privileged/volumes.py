# SPDX-License-Identifier: Apache-2.0
"""Which volumes servers hold: each a device of this host, and a record that says so before any server sees it.

A volume that is a file has one loop device on a host, whichever servers hold it. Records and devices are both gone
after a reboot of the machine; what a killed process has left of either is found by the other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterator  # noqa: TC003 - mypy wants it for the decorated function
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockstack.compute.privileged import attaching, decryption, loops
from dockstack.names import VOLUMES_DIRECTORY

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DEVICE = re.compile(r"vd[a-z]{1,2}")
_HOST = re.compile(r"[0-9a-f]{16}")
_COPY_BYTES = 4 << 20
_SECTOR = 512
_HALF = ".new"
_ROOT = "vda"  # the server's root file system, which the runtime mounts
_PATIENCE, _INTERVAL = 15.0, 0.05  # seconds
_OWN, _MOUNTED = "dockstack:", "dockmount:"  # what labels begin with; the latter are the mount broker's
_KINDS = (_MOUNTED, _OWN)  # who writes, ends first


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
    with decryption.kept(volume, path), _locked():
        number = _find_device(server, volume, path, _label(volume, host))
        numbers = {"major": os.major(number), "minor": os.minor(number)}
        seen = {"device": seen["device"], "read_only": bool(seen["read_only"])}
        _write(server, volume, {"volume": volume, **seen, **numbers})
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
    with _locked():
        last = all(found == server for found, held in _list_records() if held == volume)
        for path in (_path(server, volume), _path(server, volume).with_suffix(_HALF)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds others, or none any more
            _path(server, volume).parent.rmdir()
        if last:
            with contextlib.ExitStack() as locks:
                for loop in loops.find_all(_label(volume, host)):
                    locks.enter_context(loops.locked(loop))
                for loop in _find_loops(volume, host):
                    loops.revoke(loop)
    if last:
        _close(volume)
    return last


@attaching.entrypoint
def list_held() -> list[list[str]]:
    """List which servers hold which volumes as which device."""
    with _locked():
        return [[server, volume, read(server, volume)["device"]] for server, volume in _list_records()]


@attaching.entrypoint
def drop_strays(host: str) -> list[str]:
    """Let go of the loop devices of this host that no server holds; return their volumes."""
    with _locked():
        held = {volume for _, volume in _list_records()}
        every = [loop for kind in _KINDS for loop in loops.find_all(kind)]
        found = [loop for loop in every if loop.label.endswith(f":{host}")]
        strays = [(loop.label.split(":")[1], loop) for loop in found if not loop.revoked]
        dropped = [volume for volume, _ in strays if volume not in held]
        for volume, loop in strays:
            if volume in dropped:
                loops.revoke(loop)
    return sorted(set(dropped))


@attaching.entrypoint
def list_left_open() -> list[str]:
    """List the encrypted volumes that are open, or half so, and that no server holds: one may be on its way there."""
    with _locked():
        held = {volume for _, volume in _list_records()}
        return [volume for volume in decryption.list_open() if volume not in held]


@attaching.entrypoint
def close_left_open(volume: str) -> None:
    """Have an encrypted volume open no more, unless a server holds it by now; absent is success."""
    _close(volume)


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


def number_of(record: dict[str, Any]) -> int:
    """Return the device number that a record names."""
    return os.makedev(int(record["major"]), int(record["minor"]))


def find_mounted(volume: str) -> list[int]:
    """Return the numbers of the devices by which a mount broker has mounted a volume, on this machine."""
    return [loop.device for loop in loops.find_all(f"{_MOUNTED}{volume}:")]


def find_own(volume: str) -> list[int]:
    """Return the numbers of all devices that a volume is on this machine, also of those that are taken away."""
    return [loop.device for loop in loops.find_all(f"{_OWN}{volume}:")]


def is_mounted(volume: str) -> bool:
    """Say whether a mount broker has mounted a volume on this machine, or is about to."""
    return bool(find_mounted(volume)) or any(loop.mounted for loop in loops.find_all(f"{_OWN}{volume}:"))


def measure(number: int) -> int:
    """Return how many bytes a block device has; one that ends early while it is mounted, those of its file."""
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    with contextlib.suppress(OSError):
        if int((block / "loop/sizelimit").read_text()):
            file = Path((block / "loop/backing_file").read_text().rstrip("\n"))
            return file.stat().st_size // _SECTOR * _SECTOR
    return int((block / "size").read_text()) * _SECTOR


def _close(volume: str) -> None:
    """Close an encrypted volume unless a server holds it.

    Its own lock is enough, which ``hold`` has, too: what was written goes to the disk, and others need not wait for it.
    """

    def is_held() -> bool:
        with _locked():
            return any(held == volume for _, held in _list_records())

    decryption.close(volume, unless=is_held)


def _find_device(server: str, volume: str, path: str, label: str) -> int:
    """Return the number of the device that a volume is, made if need be; the one that the server has comes first."""
    found = os.stat(path)  # noqa: PTH116
    if stat.S_ISBLK(found.st_mode):
        return found.st_rdev
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is neither a file nor a block device")
    known = _read_number(server, volume)
    every = sorted(loops.find_all(label), key=lambda loop: loop.device != known)
    for loop in (loop for loop in every if not loop.revoked):
        if loop.file == (found.st_dev, found.st_ino):
            return loop.device
        if any(held == volume for _, held in _list_records()):
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
    while record["device"] == _ROOT:
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
    name = f".{os.major(number)}-{os.minor(number)}"
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


def _list_records() -> list[tuple[str, str]]:
    """List servers and the volumes that they hold."""
    return [(path.parent.name, path.stem) for path in sorted(VOLUMES_DIRECTORY.glob("*/*.json"))]


def _write(server: str, volume: str, record: dict[str, Any]) -> None:
    path = _path(server, volume)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    new = path.with_suffix(_HALF)
    new.write_text(json.dumps(record))
    new.rename(path)


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


def _find_loops(volume: str, host: str) -> list[loops.Loop]:
    return [loop for label in _labels(volume, host) for loop in loops.find_all(label)]


def _check(server: str, volume: str, device: str = "vda") -> None:
    if not _UUID.fullmatch(server) or not _UUID.fullmatch(volume) or not _DEVICE.fullmatch(device):
        raise ValueError(f"{server!r}, {volume!r} and {device!r} are no volume of a server")


@contextmanager
def _locked() -> Iterator[None]:
    """Have records and devices to oneself, also from the process of a nova-compute that has just been killed."""
    VOLUMES_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(VOLUMES_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
