# SPDX-License-Identifier: Apache-2.0
"""Colours as a viewer wants its pixels, and rectangles of them as RFB encodes them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from dockstack.compute.consoles.vnc.messages import BrokenProtocol, PixelFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

TILE = 64  # pixels, ZRLE's
_RAW_TILE, _SOLID_TILE = b"\x00", b"\x01"
_FAST = 1  # zlib's level: a terminal's picture is easy


class Pixels:
    """Turns colours into a viewer's pixels.

    Attributes:
        size: bytes of one.
    """

    def __init__(self, wanted: PixelFormat, *, compact: bool) -> None:
        """Prepare.

        Args:
            wanted: as the viewer said.
            compact: leave the byte out that is always 0, as ZRLE does ("CPIXEL").

        Raises:
            BrokenProtocol: there is no such format, or it has a palette.
        """
        if wanted.bits not in {8, 16, 32} or not wanted.true_colour:
            raise BrokenProtocol(f"A viewer wants pixels of {wanted.bits} bits, or with a palette.")
        if max(wanted.red_shift, wanted.green_shift, wanted.blue_shift) >= wanted.bits:
            raise BrokenProtocol("A viewer wants colours outside of its pixels.")
        self._format = wanted
        self._bytes = wanted.bits // 8
        self._kept = slice(None)
        if compact and wanted.bits == 32 and wanted.depth <= 24:  # noqa: PLR2004 - RFC 6143, 7.7.5
            self._kept = self._compact_bytes()
        self.size = len(self.build(0))

    def build(self, colour: int) -> bytes:
        """Return the pixel of 0xRRGGBB."""
        wanted = self._format
        value = _scale(colour >> 16, wanted.red_max) << wanted.red_shift
        value |= _scale(colour >> 8 & 0xFF, wanted.green_max) << wanted.green_shift
        value |= _scale(colour & 0xFF, wanted.blue_max) << wanted.blue_shift
        value &= (1 << wanted.bits) - 1
        return (value.to_bytes(self._bytes, "big" if wanted.big_endian else "little"))[self._kept]

    def _compact_bytes(self) -> slice:
        """Which three of four bytes hold all colours; all four if no three do."""
        wanted = self._format
        used = wanted.red_max << wanted.red_shift | wanted.green_max << wanted.green_shift
        used |= wanted.blue_max << wanted.blue_shift
        low, high = used < 1 << 24, not used & 0xFF
        if not low and not high:
            return slice(None)
        return slice(1, 4) if low == bool(wanted.big_endian) else slice(0, 3)


class Zrle:
    """ZRLE (RFC 6143, 7.7.6): tiles in one compressed stream that lasts as long as the connection."""

    def __init__(self) -> None:
        """Begin the stream."""
        self._stream = zlib.compressobj(_FAST)

    def encode(self, lines: Sequence[bytes], pixel: int) -> bytes:
        """Encode a rectangle.

        Args:
            lines: of compact pixels.
            pixel: bytes of one.
        """
        tiles: list[bytes] = []
        step = TILE * pixel
        for top in range(0, len(lines), TILE):
            band = lines[top : top + TILE]
            for left in range(0, len(band[0]), step):
                tiles += _tile([line[left : left + step] for line in band], pixel)
        data = self._stream.compress(b"".join(tiles)) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return len(data).to_bytes(4, "big") + data


def _tile(lines: Sequence[bytes], pixel: int) -> tuple[bytes, ...]:
    first = lines[0][:pixel]
    plain = first * (len(lines[0]) // pixel)
    return (_SOLID_TILE, first) if all(line == plain for line in lines) else (_RAW_TILE, *lines)


def _scale(value: int, largest: int) -> int:
    return (value * largest + 127) // 255
