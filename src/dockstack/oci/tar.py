# SPDX-License-Identifier: Apache-2.0
"""A stranger's tar archive, read entry by entry as the engine's reader (Go's archive/tar) reads it, only stricter.

Python's own tarfile is made for archives that one trusts: it recurses once for each extended header, keeps the maps of
sparse files in memory, and guesses where an archive is ambiguous. Here every step costs a bounded amount of memory and
time, whatever the archive says, and what two readers could understand differently is refused.

Sources: POSIX pax(1); the GNU tar manual, "Basic Tar Format"; go/src/archive/tar/reader.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dockstack.oci.documents import ImageRejected, shown
from dockstack.oci.sparse import map_size
from dockstack.oci.tar_stream import BLOCK, DAMAGED, MAX_HEADER, TarStream, ends_early, malformed, number

if TYPE_CHECKING:
    from collections.abc import Iterator

REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
DEVICES = frozenset({CHARACTER_DEVICE, BLOCK_DEVICE})
MAX_NAME = 4096  # PATH_MAX of Linux: nothing with a longer name could be unpacked
MAX_RECORDS = 4096  # of one extended header

_ZEROS = bytes(BLOCK)
_OLD_REGULAR, _SPARSE, _EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK = b"\0", b"S", b"x", b"g", b"L", b"K"
_HEADER_ONLY = frozenset({HARD_LINK, SYMBOLIC_LINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO})
_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_RECORD_VALUE = {
    "size": re.compile(r"[0-9]{1,18}"),
    "uid": re.compile(r"-?[0-9]{1,18}"),
    "gid": re.compile(r"-?[0-9]{1,18}"),
    "mtime": re.compile(r"-?[0-9]{1,18}(\.[0-9]*)?"),
    "atime": re.compile(r"-?[0-9]{1,18}(\.[0-9]*)?"),
    "ctime": re.compile(r"-?[0-9]{1,18}(\.[0-9]*)?"),
    "GNU.sparse.major": re.compile("1"),
    "GNU.sparse.minor": re.compile("0"),
    "GNU.sparse.realsize": re.compile(r"[0-9]{1,18}"),
}
# Sparse files in the pax form 1.0, of GNU tar and bsdtar; the older two are written by nobody who is not asked to
_WITHOUT_SPARSE = "Write it again without --sparse, or with `tar --format=posix --sparse`."
_PAX_SPARSE = "GNU.sparse."
_PAX_SPARSE_NAME, _PAX_SPARSE_SIZE = f"{_PAX_SPARSE}name", f"{_PAX_SPARSE}realsize"
_PAX_SPARSE_1_0 = frozenset({f"{_PAX_SPARSE}major", f"{_PAX_SPARSE}minor", _PAX_SPARSE_NAME, _PAX_SPARSE_SIZE})


class Entry(NamedTuple):
    """One entry.

    Attributes:
        name: its path, as written.
        kind: one of this module's constants.
        link: where a link points.
        size: bytes of the file when it is unpacked.
        stored: bytes of it in the archive; fewer for a sparse file.
        offset: where those begin.
        device: a device node's major and minor number.
    """

    name: str
    kind: bytes
    link: str
    size: int
    stored: int
    offset: int
    device: tuple[int, int] = (0, 0)


@dataclass
class _Extensions:
    """What the headers before an entry's own say of it."""

    records: dict[str, str] | None = None
    name: str | None = None
    link: str | None = None


def tar_entries(stream: TarStream, *, complete: bool) -> Iterator[Entry]:
    """Iterate over an archive's entries; at the end the whole stream has been read.

    Whoever iterates may read an entry's data from the stream before going on; what is left of it is skipped.

    Args:
        stream: the archive.
        complete: insist on the end mark; a layer may lack it, because its digest already proves it whole.

    Raises:
        ImageRejected: it is no tar, it is damaged or ambiguous, or it ends before its end mark.
    """
    extensions = _Extensions()
    while header := stream.read(BLOCK):
        if len(header) < BLOCK:
            raise ends_early()
        if header == _ZEROS:
            _end(stream, extensions, complete=complete)
            return
        verify_checksum(header)
        if _extend(stream, header, extensions):
            continue
        entry = _entry(stream, header, extensions)
        extensions = _Extensions()
        yield entry
        end = entry.offset + entry.stored
        if not stream.skip(end - stream.position + -entry.stored % BLOCK) and (complete or stream.position < end):
            raise ends_early()
    if complete or extensions != _Extensions():
        raise ends_early()


def verify_checksum(header: bytes) -> None:
    """Tell a header from any other block.

    Raises:
        ImageRejected: it is none.
    """
    said = number(header[148:156])
    rest = header[:148] + header[156:]
    if said == sum(rest) + 256:
        return
    if said == sum(rest) - 256 * sum(byte > 127 for byte in rest) + 256:  # noqa: PLR2004 - as signed characters
        return
    raise ImageRejected("The image is no tar archive, or a damaged one.", DAMAGED)


def _end(stream: TarStream, extensions: _Extensions, *, complete: bool) -> None:
    """Accept the end mark, two blocks of zeros, of which writers of old leave the second out."""
    second = stream.read(BLOCK)
    if second.strip(b"\0") or extensions != _Extensions() or (complete and second not in (b"", _ZEROS)):
        raise malformed("end mark")
    stream.drain()


def _extend(stream: TarStream, header: bytes, extensions: _Extensions) -> bool:
    """Take up a header that says more of the next entry; False if it is an entry's own.

    An entry may have one of each kind: which of two counts, every reader decides for itself.
    """
    kind = header[156:157]
    if kind in (_LONG_NAME, _LONG_LINK):
        text = _text(_header_data(stream, number(header[124:136]), MAX_NAME + BLOCK))
        if (extensions.name if kind == _LONG_NAME else extensions.link) is not None:
            raise malformed("pair of long names")
        if kind == _LONG_NAME:
            extensions.name = text
        else:
            extensions.link = text
        return True
    if kind not in (_EXTENDED, _GLOBAL):
        return False
    records = dict(_records(_header_data(stream, number(header[124:136]), MAX_HEADER)))
    if kind == _GLOBAL:
        if records.keys() & {"path", "linkpath", "size"}:  # Go's reader ignores it, others apply it to all that follows
            raise malformed("global header")
    elif extensions.records is not None:
        raise malformed("chain of extended headers")
    else:
        extensions.records = records
    return True


def _header_data(stream: TarStream, size: int, most: int) -> bytes:
    if size > most:
        raise ImageRejected(
            f"The image has a tar header of {size} bytes; more than {most} are not read.",
            "Write it again with an ordinary tar.",
        )
    data = stream.read(size)
    if len(data) < size or not stream.skip(-size % BLOCK):
        raise ends_early()
    return data


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Read an extended header's records: length, blank, key, "=", value, newline."""
    position = count = 0
    while position < len(data):
        count += 1
        length = _RECORD_LENGTH.match(data, position)
        end = position + int(length[1]) if length else 0
        record = data[length.end() : end - 1] if length else b""
        key, mark, value = record.partition(b"=")
        if not key or not mark or end > len(data) or data[end - 1 : end] != b"\n" or count > MAX_RECORDS:
            raise malformed("extended header")
        yield _record(key.decode("utf-8", "surrogateescape"), value)
        position = end


def _record(key: str, value: bytes) -> tuple[str, str]:
    """Check one record; what no reader of images evaluates may say what it likes."""
    if key.startswith(_PAX_SPARSE) and key not in _PAX_SPARSE_1_0:
        raise _old_sparse()
    if key in _RECORD_VALUE:
        text = value.decode("ascii", "replace")
        if text and not _RECORD_VALUE[key].fullmatch(text):
            raise malformed(f"extended header: {shown(key)} is {shown(text)}")
        return key, text
    if key in ("path", "linkpath", _PAX_SPARSE_NAME):
        if len(value) > MAX_NAME or b"\0" in value:
            raise _long_name()
        return key, value.decode("utf-8", "surrogateescape")
    return key, ""


def _entry(stream: TarStream, header: bytes, extensions: _Extensions) -> Entry:
    records = extensions.records or {}
    if (extensions.name is not None and records.get("path")) or (
        extensions.link is not None and records.get("linkpath")
    ):
        raise malformed("pair of long names")
    sparse = _PAX_SPARSE_1_0 & records.keys()
    if sparse and not sparse >= _PAX_SPARSE_1_0:
        raise _old_sparse()
    name = records.get(_PAX_SPARSE_NAME) or extensions.name or records.get("path") or _name(header)
    link = extensions.link or records.get("linkpath") or _text(header[157:257])
    size = int(records.get("size") or number(header[124:136]))
    kind = header[156:157]
    if kind == _SPARSE:
        raise ImageRejected(
            f"The image has a sparse file in GNU tar's own form, which the engine does not unpack: {shown(name)}.",
            _WITHOUT_SPARSE,
        )
    if kind == _OLD_REGULAR:
        kind = DIRECTORY if name.endswith("/") else REGULAR
    if kind in _HEADER_ONLY:
        size = 0
    elif sparse and kind == REGULAR:
        unpacked = int(records[_PAX_SPARSE_SIZE] or 0)
        stored = size - map_size(stream, size, unpacked)
        return Entry(name, REGULAR, link, unpacked, stored, stream.position)
    elif kind != REGULAR:
        raise ImageRejected(
            f"The image has an entry of a kind that the engine does not unpack: {shown(name)} ({shown(kind)[1:]}).",
            "Write it again with an ordinary tar.",
        )
    device = (number(header[329:337]), number(header[337:345])) if kind in DEVICES else (0, 0)
    return Entry(name, kind, link, size, size, stream.position, device)


def _name(header: bytes) -> str:
    """Read the path from a header, whose format decides whether it goes on in a second place."""
    name = _text(header[:100])
    magic = header[257:263]
    if magic == b"ustar\0":
        prefix = _text(header[345:476] if header[508:512] == b"tar\0" else header[345:500])
        return f"{prefix}/{name}" if prefix else name
    if magic == b"ustar " and header[263:265] == b" \0" and header[345:346] != b"\0":
        for field in (header[345:357], header[357:369]):
            number(field)  # times; an early Go wrote a path there, and reads one where they make no sense
    return name


def _text(field: bytes) -> str:
    """Read a name up to its first NUL.

    Raises:
        ImageRejected: it is longer than Linux has names.
    """
    text = field.partition(b"\0")[0]
    if len(text) > MAX_NAME:
        raise _long_name()
    return text.decode("utf-8", "surrogateescape")


def _long_name() -> ImageRejected:
    return ImageRejected(f"The image has a name of more than {MAX_NAME} bytes.", "No file system of Linux has such.")


def _old_sparse() -> ImageRejected:
    return ImageRejected(
        "The image has a sparse file in an old pax form, or a mixed one, whose map is read without a bound.",
        _WITHOUT_SPARSE,
    )
