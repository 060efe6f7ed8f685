# SPDX-License-Identifier: Apache-2.0
"""Archives that our own check wrote, read forward: each blob as a file."""

from __future__ import annotations

import tarfile
from typing import IO, TYPE_CHECKING, Any

from dockstack.oci.documents import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUFFER = 1 << 20
_SMALL = 4 << 20
_BLOBS = "blobs/"


class _Forward:
    """A stream as what tarfile reads from."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._left = b""

    def read(self, size: int) -> bytes:
        """Read so many bytes, or those that are left."""
        parts, have = [self._left], len(self._left)
        while have < size and (more := next(self._stream, b"")):
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
        self._left = data[size:]
        return data[:size]


def blobs(stream: Iterator[bytes]) -> Iterator[tuple[Digest | str, int, IO[bytes]]]:
    """Give the files of an archive, one after the other, each to be read before the next.

    Args:
        stream: what ``hybrid_archive`` writes; nobody else's, as tarfile reads it.

    Yields:
        A blob's digest, or another file's name; its size; the file.
    """
    file: Any = _Forward(stream)
    with tarfile.open(fileobj=file, mode="r|", bufsize=_BUFFER) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                name = member.name
                known = Digest.parse(name.removeprefix(_BLOBS).replace("/", ":")) if name.startswith(_BLOBS) else name
                yield known, member.size, content


def small(content: IO[bytes]) -> bytes:
    """Read a small file whole."""
    return content.read(_SMALL)
