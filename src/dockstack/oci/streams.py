# SPDX-License-Identifier: Apache-2.0
"""Strangers' bytes, read with bounds: decompression that stops at a bomb, tar entries that stop at a lie."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import zstandard

from dockstack.oci.documents import ImageRejected, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK = 1 << 20
MEMORY_LIMIT = 192 << 20  # for one decoder's window; `xz -9` and `zstd --long=27` fit
RATIO_FLOOR = 64 << 20  # a bomb is not told from a file of zeros before it is worth telling
HEADER_LIMIT = 1 << 20  # tarfile reads a pax or long-name header whole; Go's reader has the same limit
MAGIC = 6  # bytes that tell every compression that we know

_CORRUPT = "It was damaged or cut off on its way: write it again and compare checksums."


@dataclass(frozen=True)
class ImageLimits:
    """How much of a stranger's image is read before it is refused."""

    max_unpacked_bytes: int = 20 << 30  # all layers of the image, uncompressed; the flavor's disk
    max_spooled_bytes: int = 40 << 30  # the whole archive without its outer compression: every platform, every blob
    max_entries: int = 1_000_000  # files and directories in all layers together
    max_archive_entries: int = 10_000  # blobs and directories of the archive itself
    max_json_bytes: int = 4 << 20  # one manifest, index or configuration
    max_ratio: int = 250  # of a compressed stream, beyond RATIO_FLOOR


class _Decompressor(Protocol):
    """The interface that zlib, bz2 and lzma almost share."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


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

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decode at most ``max_length`` bytes."""
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


_DECOMPRESSORS: dict[bytes, tuple[str, Callable[[], _Decompressor]]] = {
    b"\x1f\x8b": ("gzip", _Zlib),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)),
}
_ZSTD = b"\x28\xb5\x2f\xfd"


def compression(head: bytes) -> str | None:
    """Tell a stream's compression by its first bytes; None if it is not compressed."""
    if head.startswith(_ZSTD):
        return "zstd"
    return next((name for magic, (name, _) in _DECOMPRESSORS.items() if head.startswith(magic)), None)


def decoded(chunks: Iterable[bytes], max_ratio: int) -> Iterator[bytes]:
    """Decompress a stream, or pass it on if it is not compressed.

    Yields:
        chunks of at most ``CHUNK`` bytes (as they came, if not compressed).

    Raises:
        ImageRejected: the stream is corrupt, cut off, or unpacks to more than ``max_ratio`` times its size.
    """
    source = iter(chunks)
    head = b""
    while len(head) < MAGIC and (chunk := next(source, None)) is not None:
        head += chunk
    name = compression(head)
    rest = _Counted(head, source)
    if name is None:
        yield from rest
        return
    written = 0
    try:
        for data in _unzstd(rest) if name == "zstd" else _members(head, rest):
            written += len(data)
            if written > RATIO_FLOOR and written > max_ratio * rest.count:
                raise ImageRejected(
                    f"The image unpacks to more than {max_ratio} times its size ({name}): it looks like a bomb.",
                    "If it is meant to hold that many zeros, give it uncompressed.",
                )
            yield data
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise ImageRejected(f"The image's {name} data is corrupt.", _CORRUPT, str(error)) from error


class _Counted:
    """Iterate over chunks and count what was consumed."""

    def __init__(self, head: bytes, rest: Iterator[bytes]) -> None:
        """Start with ``head``."""
        self._head: bytes | None = head
        self._rest = rest
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next chunk."""
        head, self._head = self._head, None
        chunk = next(self._rest) if head is None else head
        self.count += len(chunk)
        return chunk


def _members(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decode the members of a gzip, bzip2 or xz stream one after another; zeros may pad the end."""
    make = next(make for magic, (_, make) in _DECOMPRESSORS.items() if head.startswith(magic))
    decompressor: _Decompressor | None = None
    padding = False
    for chunk in chunks:
        data = chunk
        while data or decompressor is not None:
            if decompressor is None:
                data = data.lstrip(b"\0") if padding else data
                if not data:
                    break
                decompressor = make()
            piece = decompressor.decompress(data, CHUNK)
            data = b""
            if piece:
                yield piece
            if decompressor.eof:
                data, decompressor, padding = decompressor.unused_data, None, True
            elif len(piece) < CHUNK:
                break
    if decompressor is not None:
        raise EOFError("the stream ends within a member")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decode zstd frames, pulling so that each piece is bounded."""
    source = cast("BinaryIO", _Pull(chunks))
    decompressor = zstandard.ZstdDecompressor(max_window_size=MEMORY_LIMIT)
    with decompressor.stream_reader(source, read_size=CHUNK, read_across_frames=True, closefd=False) as reader:
        while piece := reader.read(CHUNK):
            yield piece


class _Pull:
    """The ``read`` that zstandard asks for, over chunks of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Read nothing yet."""
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes; none at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        data, self._left = self._left[:size], self._left[size:]
        return data


class TarStream(io.RawIOBase):
    """Chunks as the forward-only file that tarfile reads; refuses headers that would fill the memory."""

    def __init__(self, chunks: Iterable[bytes], observe: Callable[[bytes], object] = len) -> None:
        """Call ``observe`` with every byte that passes, also with those skipped."""
        self._chunks = iter(chunks)
        self._observe = observe
        self._left = memoryview(b"")
        self._position = 0
        self.last = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skip forward; stops at the end as files do not, so that the next read sees it."""
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("this stream only goes forward")
        while self._position < offset and self._pass(min(CHUNK, offset - self._position)):
            pass
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read exactly ``size`` bytes, less at the end.

        Raises:
            ImageRejected: more than ``HEADER_LIMIT`` are asked for at once, which only a hostile header causes.
        """
        if not 0 <= size <= HEADER_LIMIT + 2 * tarfile.BLOCKSIZE:
            raise ImageRejected(
                "The image has a tar header of more than 1 MiB.", "Write it again with an ordinary tar."
            )
        pieces = []
        while size and (piece := self._pass(size)):
            pieces.append(piece)
            size -= len(piece)
        self.last = b"".join(pieces)
        return self.last

    def drain(self) -> None:
        """Read to the end, so that whoever observes sees every byte."""
        while self._pass(CHUNK):
            pass

    def _pass(self, size: int) -> memoryview | bytes:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._observe(chunk)
            self._left = memoryview(chunk)
        piece, self._left = self._left[:size], self._left[size:]
        self._position += len(piece)
        return piece


def tar_members(stream: TarStream, *, complete: bool) -> Iterator[tarfile.TarInfo]:
    """Iterate over a tar's entries without extracting; at the end the whole stream has been read.

    Args:
        stream: the archive.
        complete: insist on the end mark; a layer may lack it, because its digest already proves it whole.

    Raises:
        ImageRejected: it is no tar, it is damaged, or it ends before its end mark.
    """
    try:
        with tarfile.TarFile(fileobj=cast("BinaryIO", stream)) as archive:
            while (member := archive.next()) is not None:
                yield member
                cast("Any", archive).members.clear()  # it would keep a million of them
    except (tarfile.TarError, ValueError, OverflowError, io.UnsupportedOperation) as error:
        raise ImageRejected("The image is no tar archive, or a damaged one.", _CORRUPT, str(error)) from error
    marked = len(stream.last) == tarfile.BLOCKSIZE and not stream.last.strip(b"\0")
    if not marked and (complete or stream.last):
        raise ImageRejected("The image's tar archive is damaged or ends too early.", _CORRUPT)
    stream.drain()


def file_chunks(file: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    """Read a slice of a file; other readers of the same file do not disturb it."""
    end = offset + size
    while offset < end:
        file.seek(offset)
        data = file.read(min(CHUNK, end - offset))
        if not data:
            raise ImageRejected(f"The image ends {end - offset} bytes too early.", _CORRUPT)
        offset += len(data)
        yield data


def inside(name: str) -> tuple[str, ...] | None:
    """Split a tar path into its parts as an extraction would resolve it; None if it leaves the root."""
    parts: list[str] = []
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
