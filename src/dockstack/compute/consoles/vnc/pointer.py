# SPDX-License-Identifier: Apache-2.0
"""The mouse's pointer, as terminals show it: without one, a viewer has none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.consoles.vnc.messages import CURSOR, Box, rectangle

if TYPE_CHECKING:
    from dockstack.compute.consoles.vnc.pixels import Pixels

_SHAPE = (  # o black, x white
    "ooo.ooo",
    "oxxoxxo",
    "oooxooo",
    *["..oxo.."] * 10,
    "oooxooo",
    "oxxoxxo",
    "ooo.ooo",
)
_WHITE, _BLACK = 0xFFFFFF, 0


def pointer(pixels: Pixels) -> bytes:
    """Build the rectangle that gives a viewer its pointer."""
    width, height = len(_SHAPE[0]), len(_SHAPE)
    picture = b"".join(pixels.build(_WHITE if each == "x" else _BLACK) for line in _SHAPE for each in line)
    mask = b"".join(_bits(line) for line in _SHAPE)
    return rectangle(Box(width // 2, height // 2, width, height), CURSOR, picture + mask)


def _bits(line: str) -> bytes:
    bits = "".join("0" if each == "." else "1" for each in line)
    size = (len(line) + 7) // 8
    return int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big")
