# SPDX-License-Identifier: Apache-2.0
"""Strangers' bytes, read with bounds: decompression that stops at a bomb, paths that stay inside their root."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import zstandard

from dockstack.oci.documents import ImageRejected, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Chunk = bytes | memoryview

CHUNK = 1 << 20
MEMORY_LIMIT = 144 << 20  # for one decoder's window; `xz -9` and `zstd --long=27` fit
PLAUSIBLE_RATIO = 250  # of an archive that unpacks to more than the disk explains
MAGIC = 6  # bytes that tell every compression that we know
MIN_MEMBER = 512  # bytes that a member holds on average: one block of a tar
MEMBERS = 1000  # that hold next to nothing; an image whose files are compressed one by one (eStargz) has few such
_SLICE = 64 << 10  # of compressed data at a time: a decoder copies what it has not used yet, once for each member

_CORRUPT = "It was damaged or cut off on its way: write it again and compare checksums."


@dataclass(frozen=True)
class ImageLimits:
    """How much of a stranger's image is read before it is refused."""

    max_unpacked_bytes: int = 20 << 30  # all layers of the image, uncompressed; the flavor's disk
    max_spooled_bytes: int = 40 << 30  # the whole archive without its outer compression: every platform, every blob
    max_entries: int = 1_000_000  # files and directories in all layers together
    max_archive_entries: int = 10_000  # blobs and directories of the archive itself
    max_json_bytes: int = 4 << 20  # one manifest, index or configuration

    @property
    def explained_bytes(self) -> int:
        """What an archive may unpack to however small it came: an image that fills its disk, twice, with its frame."""
        return 2 * self.max_unpacked_bytes + (64 << 20)


class _Decompressor(Protocol):
    """The interface that zlib, bz2 and lzma almost share."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Chunk, max_length: int, /) -> bytes: ...


class _Zlib:
    """zlib's object, keeping unconsumed input itself as bz2's and lzma's do."""

    def __init__(self) -> None:
        """Expect a gzip member."""
        self._object = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        """Whether the member ended (its checksum was compared)."""
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""
        return self._object.unused_data

    def decompress(self, data: Chunk, max_length: int) -> bytes:
        """Decode at most ``max_length`` bytes."""
        waiting = self._object.unconsumed_tail
        return self._object.decompress(waiting + data if waiting else data, max_length)


_DECOMPRESSORS: dict[bytes, tuple[str, Callable[[], _Decompressor]]] = {
    b"\x1f\x8b": ("gzip", _Zlib),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)),
}
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a frame of something else, with which pzstd begins (RFC 8878)


def compression(head: bytes) -> str | None:
    """Tell a stream's compression by its first bytes; None if it is not compressed."""
    if head.startswith(_ZSTD) or _ZSTD_SKIPPED.match(head):
        return "zstd"
    return next((name for magic, (name, _) in _DECOMPRESSORS.items() if head.startswith(magic)), None)


def decoded(chunks: Iterable[Chunk], explained: int | None = None) -> Iterator[Chunk]:
    """Decompress a stream, or pass it on if it is not compressed.

    How much comes of it is for the caller to bound: a preallocated file of zeros is as legal as any other. Only where
    nothing explains the size, a ratio that no real content has tells a bomb.

    Args:
        chunks: the stream.
        explained: bytes up to which the ratio does not matter; None: the caller counts, whatever the ratio.

    Yields:
        chunks of at most ``CHUNK`` bytes (as they came, if not compressed).

    Raises:
        ImageRejected: the stream is corrupt, cut off, looks like a bomb, or unpacks to next to nothing.
    """
    source = iter(chunks)
    head: Chunk = b""
    while len(head) < MAGIC and (chunk := next(source, None)) is not None:
        head = bytes(head) + bytes(chunk) if head else chunk
    name = compression(bytes(head[:MAGIC]))
    rest = _Counted(head, source)
    if name is None:
        yield from rest
        return
    written = 0
    for data in _unzstd(rest) if name == "zstd" else _members(name, rest):
        written += len(data)
        if explained is not None and written > max(explained, PLAUSIBLE_RATIO * rest.count):
            raise ImageRejected(
                f"The image archive unpacks to more than {explained >> 20} MiB ({name}), more than the disk explains.",
                "Choose a flavor with a larger disk, or a smaller image.",
            )
        rest.unpacked = written
        if data:
            yield data


class _Counted:
    """Iterate over chunks of compressed data in small slices, and refuse those that unpack to next to nothing.

    Empty members, frames that are to be skipped and empty blocks cost a decoder much time a byte and never touch a
    limit of what an image unpacks to.
    """

    def __init__(self, head: Chunk, rest: Iterator[Chunk]) -> None:
        """Start with ``head``."""
        self._head: Chunk | None = head
        self._rest = rest
        self.count = 0  # bytes taken
        self.unpacked = 0  # bytes that came of them, as whoever decodes says

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        """Return the next chunk."""
        head, self._head = self._head, None
        chunk = next(self._rest) if head is None else head
        self.count += len(chunk)
        return chunk

    def slices(self) -> Iterator[memoryview]:
        """Iterate over small slices.

        Raises:
            ImageRejected: much was taken and next to nothing came of it.
        """
        for chunk in self:
            for start in range(0, len(chunk), _SLICE):
                yield memoryview(chunk)[start : start + _SLICE]
            if self.count > 2 * self.unpacked + (2 << 20):
                raise _empty("data")


def _empty(what: str) -> ImageRejected:
    return ImageRejected(f"The image is full of compressed {what} without content.", "Compress it again.")


def _members(name: str, source: _Counted) -> Iterator[bytes]:
    """Decode the members of a gzip, bzip2 or xz stream one after another; zeros may pad the end."""
    make = next(make for known, make in _DECOMPRESSORS.values() if known == name)
    decompressor: _Decompressor | None = None
    members = written = 0
    for piece in source.slices():
        data: Chunk = piece
        while data or decompressor is not None:
            if decompressor is None:
                data = bytes(data).lstrip(b"\0") if members else data
                if not data:
                    source.count -= len(piece)  # padding is no data
                    break
                decompressor, members = make(), members + 1
                if members > MEMBERS + written // MIN_MEMBER:
                    raise _empty(f"{name} members")
            output = _step(name, decompressor, data)
            data = b""
            written += len(output)
            yield output
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
            elif len(output) < CHUNK:
                break
    if decompressor is not None:
        raise _corrupt(name, "the stream ends within a member")


def _step(name: str, decompressor: _Decompressor, data: Chunk) -> bytes:
    try:
        return decompressor.decompress(data, CHUNK)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise _corrupt(name, str(error)) from error


def _corrupt(name: str, details: str) -> ImageRejected:
    return ImageRejected(f"The image's {name} data is corrupt.", _CORRUPT, details)


def _unzstd(source: _Counted) -> Iterator[bytes]:
    """Decode zstd frames, pulling so that each piece is bounded."""
    pull = _Pull(source.slices())
    decompressor = zstandard.ZstdDecompressor(max_window_size=MEMORY_LIMIT)
    with decompressor.stream_reader(
        cast("BinaryIO", pull), read_size=_SLICE, read_across_frames=True, closefd=False
    ) as reader:
        while True:
            try:
                piece = reader.read(CHUNK)
            except zstandard.ZstdError as error:
                raise _corrupt("zstd", str(error)) from error
            if not piece:
                return
            yield piece


class _Pull:
    """The ``read`` that zstandard asks for, over chunks of any size."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        """Read nothing yet."""
        self._chunks = chunks
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes; none at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)


def inside(name: str) -> tuple[str, ...] | None:
    """Split a tar path into its parts as an extraction would resolve it; None if it leaves the root."""
    parts = name.removeprefix("./").strip("/").split("/")
    if not ("" in parts or "." in parts or ".." in parts):  # as nearly all
        return tuple(parts)
    parts = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def require_inside(name: str) -> tuple[str, ...]:
    """Split a tar path into its parts.

    Raises:
        ImageRejected: it leaves the root.
    """
    parts = inside(name)
    if parts is None:
        raise ImageRejected(
            f"The image has an entry outside its root: {shown(name)}.",
            "Do not use it: no tool that makes images writes such a path.",
        )
    return parts
