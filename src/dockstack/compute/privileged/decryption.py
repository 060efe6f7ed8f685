# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes of this host: opened with their key, for as long as a server holds them, and closed.

What is opened is a file like any other to who makes a device of it. A volume that has never been used gets its header
here, as Cinder has it; one that holds anything else than LUKS is not touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Iterator  # noqa: TC003 - mypy wants it for the decorated function
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from dockstack.compute.privileged import attaching, loops, storage_daemon
from dockstack.names import DECRYPTED_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

PROGRAM = "cryptsetup"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROUNDS = 1000  # the least that there may be
_MAGIC = b"LUKS\xba\xbe"
_VERSION = 1
_FORMAT = slice(6, 104)  # version, cipher and hash: what a header begins with after its name, and is never a secret
_PAYLOAD = slice(104, 108)  # of a header of version 1: where the volume's own bytes begin, in sectors
_SECTOR = 512
_DIGEST_ROUNDS = 164  # what follows are the places of fields, each 4 bytes
_HEADER_SECTORS = 2  # before any key
_SLOTS, _SLOT_BYTES, _FIRST_SLOT = 8, 48, 208
_IN_USE, _FREE = 0x00AC71F3, 0x0000DEAD  # what a slot for a passphrase begins with
_STRIPES = 4000  # LUKS On-Disk Format Specification 1.2.3: the only number there is
_KEY_BYTES = (32, 64)
_MOST_ROUNDS = 40_000_000  # of all slots together: some 20 seconds; cryptsetup makes slots of two on any machine
_UNUSED = 16 << 20  # bytes that are zero at the beginning of a volume that nothing was written to


@attaching.entrypoint
def decrypt(volume: str, path: str, key: bytes, cipher: tuple[str, int]) -> str:
    """Have a volume decrypted, and return the file that it then is; again is fine.

    Args:
        volume: its uuid.
        path: the file or block device that is encrypted.
        key: what opens it.
        cipher: its name and the bits of its key, for a volume that has no header yet.

    Raises:
        OSError: it cannot be.
        ValueError: it holds something that is not LUKS.
    """
    directory = _find(volume)
    with _locked(directory):
        if not storage_daemon.is_running(directory):
            _clear(directory)
            _prepare(path, key, cipher)
            try:
                storage_daemon.start(directory, path, key)
            except BaseException:
                _clear(directory)
                raise
    return str(directory / storage_daemon.PLAIN)


def close(volume: str, unless: Callable[[], bool] = lambda: False, *, wait: bool = True) -> None:
    """Have a volume decrypted no more; absent is success. Its devices go first.

    Args:
        volume: its uuid.
        unless: says that it is to stay open, asked when nobody else can change that any more.
        wait: for others who work on it.

    Raises:
        BlockingIOError: another one does, and is not to be waited for.
    """
    directory = _find(volume)
    if directory.exists():
        with _locked(directory, wait=wait):
            if not unless():
                _clear(directory)


def kept(volume: str, path: str) -> AbstractContextManager[None]:
    """Have nobody close a volume, if a path is what ``decrypt`` has returned of it; else this does nothing."""
    directory = _find(volume)
    return _locked(directory) if path == str(directory / storage_daemon.PLAIN) else nullcontext()


@attaching.entrypoint
def find_open(volume: str) -> str:
    """Return the file that an encrypted volume is, if it is open here; else nothing."""
    directory = _find(volume)
    return str(directory / storage_daemon.PLAIN) if storage_daemon.is_running(directory) else ""


def has_died(volume: str) -> bool:
    """Say whether a volume was open, and what it is read and written by is no more."""
    directory = _find(volume)
    return directory.exists() and not storage_daemon.is_running(directory)


def others_than(volume: str) -> Callable[[str], bool]:
    """Return what says whether a path is the file of a decrypted volume, and not of this one; it asks no file."""
    own = str(DECRYPTED_DIRECTORY / volume / storage_daemon.PLAIN)
    return lambda path: path.startswith(f"{DECRYPTED_DIRECTORY}/") and path != own


def list_open() -> list[str]:
    """List the volumes that are decrypted, or of which a process that was killed has left something."""
    return sorted(path.name for path in DECRYPTED_DIRECTORY.glob("*") if _UUID.fullmatch(path.name))


def grow(volume: str) -> None:
    """Let an open volume have the size that what is encrypted has now; one that is not encrypted is fine."""
    directory = _find(volume)
    if storage_daemon.is_running(directory):
        with _locked(directory), open(storage_daemon.find_source(directory), "rb") as file:  # noqa: PTH123
            offset = int.from_bytes(file.read(_PAYLOAD.stop)[_PAYLOAD], "big") * _SECTOR
            storage_daemon.grow(directory, file.seek(0, os.SEEK_END) - offset)


def _find(volume: str) -> Path:
    if not _UUID.fullmatch(volume):
        raise ValueError(f"{volume!r} is no volume")
    return DECRYPTED_DIRECTORY / volume


def _clear(directory: Path) -> None:
    """End what there is. Devices over it are dead then, and known by the name of their file while that is there."""
    storage_daemon.stop(directory)
    loops.drop_dead(directory / storage_daemon.PLAIN)
    storage_daemon.forget(directory)


def _prepare(path: str, key: bytes, cipher: tuple[str, int]) -> None:
    """Give a volume its header, if it is as Cinder makes one; the name that LUKS goes by comes last."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        start = os.pread(descriptor, _UNUSED, 0)
        if start.startswith(_MAGIC):
            version = int.from_bytes(start[_FORMAT][:2], "big")
            if version != _VERSION:
                raise ValueError(f"it is LUKS {version}, and this host reads LUKS {_VERSION}")
            _check(start, os.lseek(descriptor, 0, os.SEEK_END))
            return
        header = _make_header(key, cipher)
        begun = start[: len(_MAGIC)] == bytes(len(_MAGIC)) and start[_FORMAT] == header[_FORMAT]
        if any(start) and not begun:
            raise ValueError("it holds something, and that is not encrypted")
        for part in (slice(len(_MAGIC), _SECTOR), slice(_SECTOR, None), slice(0, len(_MAGIC))):
            os.lseek(descriptor, part.start, os.SEEK_SET)
            with open(descriptor, "wb", buffering=0, closefd=False) as file:
                file.write(header[part])
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(header: bytes, size: int) -> None:
    """Refuse a header that would have its reader work or read without bound: it may be a stranger's, of an image.

    Raises:
        ValueError: it is such a one, or no header at all.
    """
    if len(header) < _FIRST_SLOT + _SLOTS * _SLOT_BYTES:
        raise ValueError("its LUKS header is not whole")
    payload, key_bytes = struct.unpack_from(">II", header, _PAYLOAD.start)
    (rounds,) = struct.unpack_from(">I", header, _DIGEST_ROUNDS)
    if key_bytes not in _KEY_BYTES or not 0 < payload * _SECTOR < min(_UNUSED + 1, size) or not rounds:
        raise ValueError("its LUKS header has a key, or room for keys, as none has")
    material = -(-key_bytes * _STRIPES // _SECTOR)
    for slot in range(_SLOTS):
        place = _FIRST_SLOT + slot * _SLOT_BYTES
        state, turns = struct.unpack_from(">II", header, place)
        offset, stripes = struct.unpack_from(">II", header, place + _SLOT_BYTES - 8)
        inside = _HEADER_SECTORS <= offset <= payload - material
        if state not in {_IN_USE, _FREE} or stripes != _STRIPES or not inside:
            raise ValueError(f"slot {slot} of its LUKS header is as none is")
        if state == _IN_USE:
            rounds += turns
    if rounds > _MOST_ROUNDS:
        raise ValueError(f"its LUKS header asks for {rounds} rounds of work, and {_MOST_ROUNDS} are the most")


def _make_header(key: bytes, cipher: tuple[str, int]) -> bytes:
    """Return what a LUKS volume begins with, up to its own bytes.

    The key is as random as a key can be, so nothing is gained by letting who guesses it wait.
    """
    memory = os.memfd_create("luks-header", os.MFD_CLOEXEC)
    try:
        os.ftruncate(memory, _UNUSED)
        name, bits = cipher
        line = [PROGRAM, "luksFormat", "--batch-mode", "--type", "luks1", "--key-file", "-", "--hash", "sha256"]
        line += ["--cipher", name, "--key-size", str(bits), "--pbkdf-force-iterations", str(_ROUNDS)]
        line.append(f"/proc/self/fd/{memory}")
        made = subprocess.run(line, check=False, input=key, capture_output=True, pass_fds=(memory,))
        if made.returncode:
            raise OSError(f"{PROGRAM} makes no LUKS header: {made.stderr.decode(errors='replace').strip()}")
        start = os.pread(memory, _UNUSED, 0)
        return start[: int.from_bytes(start[_PAYLOAD], "big") * _SECTOR]
    finally:
        os.close(memory)


@contextmanager
def _locked(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Have a volume to oneself, also from the process of a nova-compute that has just been killed."""
    DECRYPTED_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(DECRYPTED_DIRECTORY / f".{directory.name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
