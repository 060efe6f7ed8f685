# SPDX-License-Identifier: Apache-2.0
"""A small RFB client, written from RFC 6143 apart from the server: it keeps the picture and reads its text."""

from __future__ import annotations

import struct
import time
import zlib
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

from dockstack.compute.consoles.vnc.glyphs import Glyphs, load_face
from dockstack.compute.consoles.vnc.messages import PixelFormat
from dockstack.compute.consoles.vnc.pixels import Pixels
from dockstack.compute.consoles.vnc.screen import Cell, Pen, Style

if TYPE_CHECKING:
    import socket

RAW, ZRLE, POINTER, NAME, SIZE = 0, 16, -239, -307, -308
# What noVNC asks for: red first, then green, then blue.
FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)


class RfbClient:
    """One viewer."""

    def __init__(self, connection: socket.socket, encodings=(ZRLE, RAW, POINTER, NAME, SIZE)) -> None:
        self.connection = connection
        self.connection.settimeout(90)
        self.bells, self.pointer = 0, b""
        self.reasons, self.statuses = [], []
        self.kinds: list[int] = []
        self._inflate = zlib.decompressobj()
        self._greet()
        self.connection.sendall(b"\0\0\0\0" + FORMAT)
        self.connection.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
        self.ask(incremental=False)

    def _greet(self) -> None:
        assert self._read(12) == b"RFB 003.008\n"
        self.connection.sendall(b"RFB 003.008\n")
        assert self._read(2) == b"\x01\x01"
        self.connection.sendall(b"\x01")
        assert self._read(4) == bytes(4)
        self.connection.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self._read(4))
        self._read(16)
        self.name = self._read(struct.unpack(">I", self._read(4))[0]).decode()
        self.framebuffer = bytearray(3 * self.width * self.height)

    def ask(self, *, incremental: bool) -> None:
        request = struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height)
        with suppress(BrokenPipeError, ConnectionResetError):  # it hung up, which the next read tells
            self.connection.sendall(request)

    def press(self, *keysyms: int) -> None:
        """Press keys in order, and release them the other way round."""
        for keysym in keysyms:
            self.connection.sendall(struct.pack(">BBxxI", 4, 1, keysym))
        for keysym in reversed(keysyms):
            self.connection.sendall(struct.pack(">BBxxI", 4, 0, keysym))

    def type(self, text: str) -> None:
        for character in text:
            self.press(0xFF0D if character == "\r" else ord(character))

    def paste(self, text: str) -> None:
        self.connection.sendall(struct.pack(">BxxxI", 6, len(text)) + text.encode("latin-1"))

    def want_size(self, width: int, height: int) -> None:
        screen = struct.pack(">IHHHHI", 0, 0, 0, width, height, 0)
        self.connection.sendall(struct.pack(">BxHHBx", 251, width, height, 1) + screen)

    def take(self) -> None:
        """Read one message; ask for the next update after one."""
        kind = self._read(1)
        if kind == b"\x02":
            self.bells += 1
            return
        assert kind == b"\x00", f"an unknown message {kind!r}"
        _, count = struct.unpack(">BH", self._read(3))
        for _ in range(count):
            self._rectangle(*struct.unpack(">HHHHi", self._read(12)))
        self.ask(incremental=True)

    def until(self, text: str, seconds: float = 90) -> str:
        """Look until the picture shows a text; return all that it shows."""
        deadline = time.monotonic() + seconds
        while text not in (shown := self.read_text()):
            assert time.monotonic() < deadline, f"no {text!r} in:\n{shown}"
            self.take()
        return shown

    def read_text(self) -> str:
        """Return what the picture shows."""
        return read_text(bytes(self.framebuffer), self.width)

    def _rectangle(self, left: int, top: int, width: int, height: int, encoding: int) -> None:
        self.kinds.append(encoding)
        if encoding == SIZE:
            self._read(4 + 16)
            self.reasons.append(left)
            self.statuses.append(top)
            if top == 0:
                self.width, self.height = width, height
                self.framebuffer = bytearray(3 * width * height)
        elif encoding == NAME:
            self.name = self._read(struct.unpack(">I", self._read(4))[0]).decode()
        elif encoding == POINTER:
            self.pointer = self._read(4 * width * height + (width + 7) // 8 * height)
        elif encoding == RAW:
            data = self._read(4 * width * height)
            colours = b"".join(data[at : at + 3] for at in range(0, len(data), 4))
            self._draw(left, top, width, colours)
        else:
            assert encoding == ZRLE
            self._tiles(left, top, width, height)

    def _tiles(self, left: int, top: int, width: int, height: int) -> None:
        data = self._inflate.decompress(self._read(struct.unpack(">I", self._read(4))[0]))
        for y, x in product(range(0, height, 64), range(0, width, 64)):
            columns, rows = min(64, width - x), min(64, height - y)
            kind, data = data[0], data[1:]
            assert kind in (0, 1)
            size = 3 * (columns * rows if kind == 0 else 1)
            content, data = data[:size], data[size:]
            self._draw(left + x, top + y, columns, content if kind == 0 else content * (columns * rows))
        assert not data

    def _draw(self, left: int, top: int, width: int, colours: bytes) -> None:
        for number in range(len(colours) // (3 * width)):
            start = 3 * ((top + number) * self.width + left)
            self.framebuffer[start : start + 3 * width] = colours[3 * width * number : 3 * width * (number + 1)]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self.connection.recv(size - len(data))
            except ConnectionResetError:  # it hung up with input of ours unread
                piece = b""
            assert piece, "hung up"
            data += piece
        return data


def read_text(picture: bytes, width: int) -> str:
    """Read a picture of 3 bytes a pixel, character by character, as this package draws them."""
    face, known, pitch = load_face(), _known_tiles(), 3 * width
    lines = []
    for top in range(0, len(picture) // pitch - face.height + 1, face.height):
        rows = [picture[pitch * row : pitch * (row + 1)] for row in range(top, top + face.height)]
        starts = range(0, pitch - 3 * face.width + 1, 3 * face.width)
        cells = (b"".join(row[start : start + 3 * face.width] for row in rows) for start in starts)
        lines.append("".join(known.get(cell, "�") for cell in cells).rstrip())
    return "\n".join(lines)


def _known_tiles() -> dict[bytes, str]:
    """Return what printable ASCII looks like, plain, bold and below the cursor."""
    if not _TILES:
        glyphs = Glyphs(load_face(), Pixels(PixelFormat(red_shift=0, blue_shift=16), compact=True))
        for character in map(chr, range(0x20, 0x7F)):
            for style in (Style.PLAIN, Style.BOLD):
                cell = Cell(character, Pen(style=style))
                _TILES.setdefault(b"".join(glyphs.lines(cell)), character)
                _TILES.setdefault(b"".join(glyphs.lines(cell, under_cursor=True)), character)
    return _TILES


_TILES: dict[bytes, str] = {}
