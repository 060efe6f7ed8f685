# SPDX-License-Identifier: Apache-2.0
"""A stranger's tar archive as a stream of blocks: exact reads forward, and the numbers in its headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockstack.oci.documents import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLOCK = 512
MAX_HEADER = 1 << 20  # one extended header, or one map of a sparse file; Go's reader has the same limit
DAMAGED = "It was damaged or cut off on its way, or made to do harm: write it again with an ordinary tar."

_OCTAL = re.compile(rb"[0-7]*")


class TarStream:
    """Chunks of an archive as a forward-only source of exact reads."""

    def __init__(
        self, chunks: Iterable[bytes | memoryview], observe: Callable[[bytes | memoryview], object] = len
    ) -> None:
        """Call ``observe`` with every chunk that passes, also with those that are skipped."""
        self._chunks = iter(chunks)
        self._observe = observe
        self._left = memoryview(b"")
        self._end = 0  # of the chunks that came

    @property
    def position(self) -> int:
        """How many bytes were read or skipped."""
        return self._end - len(self._left)

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, at most ``MAX_HEADER`` and a block; fewer at the end."""
        if len(self._left) >= size:
            piece, self._left = bytes(self._left[:size]), self._left[size:]
            return piece
        return b"".join(self.pieces(size))

    def peek(self, size: int) -> bytes:
        """Look at the next bytes; fewer at the end."""
        if len(self._left) < size:
            parts = [self._left, *self._more(size - len(self._left))]
            self._left = memoryview(b"".join(parts))
        return bytes(self._left[:size])

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Read ``size`` bytes as they come, piece by piece; fewer at the end. May be left before its end."""
        while size and (self._left or self._next()):
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> bool:
        """Skip bytes; False if the end came first."""
        for piece in self.pieces(size):
            size -= len(piece)
        return not size

    def drain(self) -> None:
        """Read to the end, so that whoever observes sees every byte."""
        self._left = memoryview(b"")
        while self._next():
            self._left = memoryview(b"")

    def _next(self) -> bool:
        for chunk in self._chunks:
            self._observe(chunk)
            self._end += len(chunk)
            if len(chunk):
                self._left = memoryview(chunk)
                return True
        return False

    def _more(self, size: int) -> Iterator[memoryview]:
        while size > 0 and self._next():
            size -= len(self._left)
            yield self._left


def number(field: bytes) -> int:
    """Read a header's number: octal digits, or base 256 where the first bit is set.

    Raises:
        ImageRejected: it is none, or a negative or vast one.
    """
    if field[:1] >= b"\x80":
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        if field[0] & 0x40 or value >= 1 << 63:
            raise malformed("number")
        return value
    digits = field.strip(b" \0")
    if not _OCTAL.fullmatch(digits):
        raise malformed("number")
    return int(digits or b"0", 8)


def ends_early() -> ImageRejected:
    """Say that the archive ends where more must come."""
    return ImageRejected("The image's tar archive is damaged or ends too early.", DAMAGED)


def malformed(what: str) -> ImageRejected:
    """Say what of the archive makes no sense."""
    return ImageRejected(f"The image's tar archive is damaged: it has a malformed {what}.", DAMAGED)
