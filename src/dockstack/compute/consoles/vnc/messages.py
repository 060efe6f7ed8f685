# SPDX-License-Identifier: Apache-2.0
"""RFB 3.8's messages (RFC 6143), and those of its registered extensions that we speak."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VERSION = b"RFB 003.008\n"
SECURITY_TYPES = b"\x01\x01"  # one: None
NO_SECURITY = b"\x01"
SECURITY_OK = b"\x00\x00\x00\x00"
BELL = b"\x02"

RAW, ZRLE = 0, 16
CURSOR, DESKTOP_NAME, EXTENDED_DESKTOP_SIZE = -239, -307, -308

LONGEST_CUT = 256 * 1024  # bytes of a text to paste

# Why a desktop's size is told, and whether a viewer's wish was followed (ExtendedDesktopSize).
SERVERS_OWN, CLIENTS_WISH = 0, 1
FOLLOWED, REFUSED = 0, 3


class BrokenProtocol(DockstackError):  # noqa: N818 - said of a viewer
    """A viewer says what RFB has no meaning for, or what we did not offer."""


class PixelFormat(NamedTuple):
    """How a viewer wants its pixels; the fields are the protocol's."""

    bits: int = 32
    depth: int = 24
    big_endian: int = 0
    true_colour: int = 1
    red_max: int = 255
    green_max: int = 255
    blue_max: int = 255
    red_shift: int = 16
    green_shift: int = 8
    blue_shift: int = 0


class Encodings(NamedTuple):
    """What a viewer understands, the best first."""

    numbers: tuple[int, ...]


class UpdateRequest(NamedTuple):
    """A viewer wants to know what has changed; or all, if it is not incremental."""

    incremental: bool


class Key(NamedTuple):
    """A key was pressed or released."""

    keysym: int
    down: bool


class Cut(NamedTuple):
    """A text to paste."""

    text: str


class WantedSize(NamedTuple):
    """A viewer's window has another size."""

    width: int
    height: int


class Ignored(NamedTuple):
    """A message without a meaning for us, such as the mouse's."""


Message = PixelFormat | Encodings | UpdateRequest | Key | Cut | WantedSize | Ignored

_FORMAT = struct.Struct(">BBBBHHHBBB3x")
_SET_FORMAT, _SET_ENCODINGS, _REQUEST, _KEY, _POINTER, _CUT, _SET_SIZE = 0, 2, 3, 4, 5, 6, 251
_HEADS = {_SET_FORMAT: 20, _SET_ENCODINGS: 4, _REQUEST: 10, _KEY: 8, _POINTER: 6, _CUT: 8, _SET_SIZE: 8}
_SCREEN_BYTES = 16


def read_message(data: bytes | bytearray) -> tuple[Message | None, int]:
    """Read one message of a viewer's.

    Returns:
        it, and its length; None and 0 if it has not come as a whole.

    Raises:
        BrokenProtocol: it is none that we know, or too long.
    """
    if not data:
        return None, 0
    kind = data[0]
    if kind not in _HEADS:
        raise BrokenProtocol(f"A viewer sent a message of the unknown type {kind}.")
    length = _HEADS[kind]
    if len(data) >= length:
        length += _tail_length(kind, data)
    if len(data) < length:
        return None, 0
    return _BUILDERS[kind](bytes(data[:length])), length


def _tail_length(kind: int, data: bytes | bytearray) -> int:
    """Return how many bytes follow a message's head."""
    if kind == _SET_ENCODINGS:
        return 4 * int(struct.unpack_from(">H", data, 2)[0])
    if kind == _SET_SIZE:
        return _SCREEN_BYTES * data[6]
    if kind == _CUT:
        size = int(struct.unpack_from(">I", data, 4)[0])
        if size > LONGEST_CUT:
            raise BrokenProtocol(f"A viewer pastes {size} bytes at once; {LONGEST_CUT} are allowed.")
        return size
    return 0


_BUILDERS: dict[int, Callable[[bytes], Message]] = {
    _SET_FORMAT: lambda data: PixelFormat(*_FORMAT.unpack_from(data, 4)),
    _SET_ENCODINGS: lambda data: Encodings(struct.unpack(f">{(len(data) - 4) // 4}i", data[4:])),
    _REQUEST: lambda data: UpdateRequest(bool(data[1])),
    _KEY: lambda data: Key(struct.unpack_from(">I", data, 4)[0], bool(data[1])),
    _POINTER: lambda _: Ignored(),
    _CUT: lambda data: Cut(data[8:].decode("latin-1")),
    _SET_SIZE: lambda data: WantedSize(*struct.unpack_from(">HH", data, 2)),
}


def server_init(width: int, height: int, name: str) -> bytes:
    """Say how large the picture is, what its pixels are at first, and what it is called."""
    text = name.encode()
    return struct.pack(">HH", width, height) + _FORMAT.pack(*PixelFormat()) + struct.pack(">I", len(text)) + text


class Box(NamedTuple):
    """Where a rectangle is."""

    left: int
    top: int
    width: int
    height: int


def rectangle(box: Box, encoding: int, content: bytes) -> bytes:
    """Build one rectangle of an update."""
    return struct.pack(">HHHHi", *box, encoding) + content


def update(rectangles: Iterable[bytes]) -> bytes:
    """Build an update."""
    found = list(rectangles)
    return struct.pack(">BxH", 0, len(found)) + b"".join(found)


class SizeNews(NamedTuple):
    """Why a size is told."""

    reason: int
    status: int


def desktop_size(width: int, height: int, news: SizeNews) -> bytes:
    """Build the rectangle that says how large the picture is: one screen, as large as all."""
    screens = struct.pack(">B3xIHHHHI", 1, 0, 0, 0, width, height, 0)
    return rectangle(Box(news.reason, news.status, width, height), EXTENDED_DESKTOP_SIZE, screens)


def desktop_name(name: str) -> bytes:
    """Build the rectangle that names the picture."""
    text = name.encode()
    return rectangle(Box(0, 0, 0, 0), DESKTOP_NAME, struct.pack(">I", len(text)) + text)
