# SPDX-License-Identifier: Apache-2.0
"""Layers that came from registries, kept as they came: images that share some fetch those once.

A layer is kept for the registry that gave it, and only given out again while that registry says that whoever asks may
read it there. So nobody gets at a layer by knowing its digest, not even a registry.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from dockstack.oci.remote.session import CHUNK, Broken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dockstack.oci.documents import Descriptor
    from dockstack.oci.remote.repository import Repository

_PART = ".part"


class KeptBlobs:
    """A directory of layers, which forgets those that were asked for longest ago."""

    def __init__(self, directory: Path, most: int) -> None:
        """Keep at most so many bytes there; 0: keep nothing."""
        self._directory = directory
        self._most = most

    def sweep(self) -> None:
        """Remove what a dead process has left half-written, and what is too much."""
        for path in self._directory.glob(f"*{_PART}*"):
            path.unlink(missing_ok=True)
        self._shrink()

    def read(self, repository: Repository, blob: Descriptor) -> Iterator[bytes]:
        """Read a blob, from here if it is kept.

        Raises:
            ImageRejected, RegistryError: as ``Repository.blob``.
        """
        if not 0 < blob.size <= self._most // 2:  # one image's large layer would drive all others out
            yield from repository.blob(blob.digest, blob.size)
            return
        name = hashlib.sha256(f"{repository.origin} {blob.digest}".encode()).hexdigest()
        path = self._directory / name
        if path.exists() and repository.has_blob(blob.digest):
            yield from _verified(path, blob)
        else:
            yield from self._keep(path, repository.blob(blob.digest, blob.size))
            self._shrink()

    def _keep(self, path: Path, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass a blob on and keep it once it is whole; a full disk keeps nothing, and disturbs nobody."""
        part = path.with_name(f"{path.name}{_PART}{os.urandom(4).hex()}")
        file = None
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = part.open("xb")
        try:
            for chunk in chunks:
                if file is not None:
                    try:
                        file.write(chunk)
                    except OSError:
                        file.close()
                        file = None
                yield chunk
            if file is not None:
                with suppress(OSError):
                    file.flush()
                    part.rename(path)
        finally:
            if file is not None:
                file.close()
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _shrink(self) -> None:
        with suppress(OSError):
            found = [(path, path.stat()) for path in self._directory.iterdir() if _PART not in path.name]
            size = sum(stat.st_size for _, stat in found)
            for path, stat in sorted(found, key=lambda item: item[1].st_mtime):
                if size <= self._most:
                    return
                path.unlink(missing_ok=True)
                size -= stat.st_size


def _verified(path: Path, blob: Descriptor) -> Iterator[bytes]:
    """Read a kept blob; one that the disk has spoilt is forgotten, and fetched at the next try."""
    state = hashlib.new(blob.digest.algorithm)
    try:
        with path.open("rb") as file:
            os.utime(path)
            while chunk := file.read(CHUNK):
                state.update(chunk)
                yield chunk
    except OSError as error:
        raise Broken("A layer that this host has kept cannot be read.", "Try again.", str(error)) from error
    if state.hexdigest() != blob.digest.hex:
        path.unlink(missing_ok=True)
        raise Broken("A layer that this host has kept was damaged on its disk.", "Try again: it is fetched anew.")
