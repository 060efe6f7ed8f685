# SPDX-License-Identifier: Apache-2.0
"""Files of the workspace that have no name, so that not even a kill leaves anything of them.

A spool is appended to and read anywhere, by descriptor: two processes may have the same one.
"""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from dockstack.oci.streams import Chunk

_ZEROS = bytes(1 << 20)
_LEAST_HOLE = 64 << 10  # bytes; a file system keeps what is smaller by blocks anyway
_CHUNK = 128 << 10  # each copy of it on the way to the engine fits a cache; one of 1 MiB is new memory every time


class WorkspaceFull(DockstackError):  # noqa: N818 - said of the workspace, as people say it
    """The host has no room to check the image; no fault of the image."""


class Extent(NamedTuple):
    """A slice of a spool."""

    spool: int  # which of a workspace's spools
    offset: int
    size: int
    layer: str = ""  # the digest of the layer whose file it is a part of; none's if empty

    def ends_at(self, spool: int, offset: int) -> bool:
        """Whether it ends there."""
        return (self.spool, self.offset + self.size) == (spool, offset)


class Spool:
    """A file that grows."""

    def __init__(self, descriptor: int, progress: Callable[[int], object] = int) -> None:
        """Start with an empty file.

        Args:
            descriptor: the file's, open for reading and writing.
            progress: told of each number of bytes that were written.
        """
        self._descriptor = descriptor
        self._progress = progress
        self.size = 0

    def write(self, data: Chunk) -> None:
        """Append; zeros take no room on the disk.

        Raises:
            WorkspaceFull: the file system is full.
        """
        left = memoryview(data)
        try:
            if _is_hole(left):
                self.size += len(left)
                os.ftruncate(self._descriptor, self.size)
                left = left[:0]
            while left:
                written = os.pwrite(self._descriptor, left, self.size)
                self.size += written
                left = left[written:]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise WorkspaceFull(
                "The host has no room left to check the image.", "Free space on it, or boot on another host."
            ) from error
        self._progress(len(data))

    def truncate(self, size: int) -> None:
        """Forget what was appended beyond ``size``."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        """Read a slice; other readers of the same file do not disturb it."""
        return read_slice(self._descriptor, offset, size)


def _is_hole(data: memoryview) -> bool:
    """Whether there is nothing but zeros, told by a glance in nearly all cases where there is more."""
    if len(data) < _LEAST_HOLE or len(data) > len(_ZEROS) or data[0] or data[-1] or data[len(data) // 2]:
        return False
    return bytes(data) == _ZEROS[: len(data)]


def open_spools(stack: ExitStack, workspace: Path, count: int) -> tuple[int, ...]:
    """Make files without a name that ``stack`` closes, and return their descriptors.

    Raises:
        OSError: the workspace is not there, or the process has too many files open.
    """
    descriptors = []
    for _ in range(count):
        file = tempfile.TemporaryFile(dir=workspace, prefix="spool-", buffering=0)  # noqa: SIM115 - the stack closes it
        descriptors.append(stack.enter_context(file).fileno())
    return tuple(descriptors)


def read_slice(descriptor: int, offset: int, size: int) -> Iterator[bytes]:
    """Read a slice of a file, in chunks.

    Raises:
        OSError: the file ends before.
    """
    while size:
        data = os.pread(descriptor, min(_CHUNK, size), offset)
        if not data:
            raise OSError(errno.EIO, "a file of the workspace is shorter than what was written to it")
        offset, size = offset + len(data), size - len(data)
        yield data
