# SPDX-License-Identifier: Apache-2.0
"""Blobs on the disk: each once, under its digest, and never half.

A blob is written where uploads are and gets its place as a second name when it is whole and on the disk: whatever has
its place is whole, and if the database fails then, the upload is still there. Two processes may work on one directory:
what is decided about a blob's place is decided under a lock.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.oci.documents import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20


class BlobStore:
    """The directories of one registry."""

    def __init__(self, directory: Path) -> None:
        """Have them; what is in them stays.

        Args:
            directory: where they are, all in one file system.
        """
        self._blobs, self.uploads, self.workspace = (directory / name for name in ("blobs", "uploads", "work"))
        for made in (self._blobs, self.uploads, self.workspace):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = directory / "lock"

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Let nobody else keep or remove a blob meanwhile."""
        with self._lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def path(self, digest: Digest) -> Path:
        """Return a blob's place."""
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def has(self, digest: Digest) -> bool:
        """Whether it is there."""
        return self.path(digest).exists()

    def keep(self, temporary: Path, digest: Digest) -> None:
        """Give a whole blob, which is on the disk already, its place: what was there may have suffered on the disk.

        It has its first name, too, until that is removed; nobody may write to it by that any more. It counts as new
        from now on, so that nobody takes it away before what uses it is known.
        """
        place = self.path(digest)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        second = self.uploads / f"{temporary.name}.kept"  # left by a process that dies here, it goes as uploads go
        second.unlink(missing_ok=True)
        os.link(temporary, second)
        os.utime(second)
        second.replace(place)
        second.unlink(missing_ok=True)  # still there if its place was the same file's already
        flush(place.parent)

    def remove(self, digest: Digest) -> None:
        """Remove a blob; absent is fine. Whoever reads it reads on."""
        self.path(digest).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[Digest, os.stat_result]]:
        """List what is there."""
        for path in self._blobs.glob("*/*/*"):
            yield Digest(path.parent.parent.name, path.name), path.stat()


def flush(path: Path) -> None:
    """Have a file's bytes, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
