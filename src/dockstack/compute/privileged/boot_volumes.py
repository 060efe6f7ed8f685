# SPDX-License-Identifier: Apache-2.0
"""Volumes that become root file systems: an image's bytes, as Cinder has copied them, give way to an empty ext4.

Cinder puts a container's image on a volume as the archive that it is. Where the volume still holds exactly those bytes,
it gets an empty file system, which the runtime fills from the container's own files at its first start (``editor.py``).
A volume that holds anything else is left as it is. Every step leaves a state that the next try recognises: first a mark
in the sector that ext4 does not use, last the file system's first block, whose label says that nothing is in it yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
from typing import TYPE_CHECKING

from dockstack.compute.privileged import attaching, volumes
from dockstack.names import HALF_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = b"dockstack: this volume is about to become a root file system\n"
_FIRST = 4096  # bytes: what is written last
_SUPERBLOCK, _MAGIC, _LABEL = 1024, slice(56, 58), slice(120, 136)  # ext4: struct ext4_super_block
_EXT4 = b"\x53\xef"
_BLKZEROOUT = 0x127F  # linux/fs.h
_CHUNK = 4 << 20
_DIGESTS = {32: hashlib.md5, 64: hashlib.sha256, 128: hashlib.sha512}  # by the digits of what Glance says
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@attaching.entrypoint
def prepare(server: str, volume: str, size: int, checksum: str) -> bool:
    """Have a file system on a volume that a server holds and boots from; one that is there stays.

    Args:
        server: its uuid.
        volume: its uuid.
        size: bytes of the image that the volume was made of.
        checksum: the image's, in hexadecimal digits.

    Returns:
        Whether it is there now; otherwise the volume holds something else, which is left alone.

    Raises:
        OSError: it could not be made.
    """
    number = volumes.number_of(volumes.read(server, volume))
    device = volumes.open_device(number, os.O_RDWR | os.O_EXCL)
    try:
        head = os.pread(device, _FIRST, 0)
        superblock = head[_SUPERBLOCK:]
        if superblock[_MAGIC] == _EXT4 and superblock[_LABEL].rstrip(b"\0") != HALF_LABEL:
            return True
        begun = superblock[_MAGIC] == _EXT4 or head.startswith(_MARK)
        if not begun and not _holds(device, size, checksum):
            return False
        _format(device, volumes.measure(number), size)
    finally:
        os.close(device)
    return True


def _holds(device: int, size: int, checksum: str) -> bool:
    """Whether a volume begins with exactly these bytes: then nobody has written to it, and Glance has them, too.

    Of an image whose checksum is not known, or none that is, nothing tells.
    """
    algorithm = _DIGESTS.get(len(checksum))
    if algorithm is None:
        return False
    digest = algorithm(usedforsecurity=False)
    offset = 0
    while offset < size:
        data = os.pread(device, min(_CHUNK, size - offset), offset)
        if not data:
            return False
        digest.update(data)
        offset += len(data)
    return size > 0 and digest.hexdigest() == checksum


def _format(device: int, size: int, used: int) -> None:
    """Make an empty ext4, whose first block comes when all else is there; what an image had beyond it is cleared."""
    volumes.write_all(device, _MARK, 0)
    os.fsync(device)
    cleared = min(-(-used // _FIRST) * _FIRST, size // _FIRST * _FIRST)
    if cleared > _FIRST:
        fcntl.ioctl(device, _BLKZEROOUT, struct.pack("=QQ", _FIRST, cleared - _FIRST))
    model = os.memfd_create("file-system", os.MFD_CLOEXEC)
    try:
        os.truncate(model, size)
        options = ["-q", "-F", "-t", "ext4", "-b", str(_FIRST), "-m", "1", "-L", HALF_LABEL.decode()]
        options += ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
        command = ["mke2fs", *options, f"/proc/self/fd/{model}"]
        made = subprocess.run(command, pass_fds=[model], check=False, capture_output=True, env=_PATH)
        if made.returncode:
            raise OSError(f"mke2fs: {made.stderr.decode(errors='replace').strip()[-300:]}")
        for offset, data in _written(model):
            volumes.write_all(device, data, offset)
        os.fsync(device)
        volumes.write_all(device, os.pread(model, _FIRST, 0), 0)
        os.fsync(device)
    finally:
        os.close(model)


def _written(model: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is in a sparse file, but for its first block."""
    end, offset = os.fstat(model).st_size, _FIRST
    while offset < end:
        try:
            offset = os.lseek(model, offset, os.SEEK_DATA)
        except OSError:  # nothing more
            return
        stop = os.lseek(model, offset, os.SEEK_HOLE)
        while offset < stop:
            data = os.pread(model, min(_CHUNK, stop - offset), offset)
            yield offset, data
            offset += len(data)
