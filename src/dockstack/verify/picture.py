# SPDX-License-Identifier: Apache-2.0
"""A small VNC client: as much of RFB 3.8 (RFC 6143) as it takes to see that something is drawn."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from dockstack.verify.console import SECONDS, NoConsole

if TYPE_CHECKING:
    from dockstack.verify.console import ConsoleClient

RETURN = 0xFF0D
_VERSION = b"RFB 003.008\n"
_NO_SECURITY = b"\x01\x01"
_UPDATE, _BELL = 0, 2
_RAW = 0


class Picture:
    """A viewer that asks for plain pixels.

    Attributes:
        name: what the console is called.
    """

    def __init__(self, console: ConsoleClient) -> None:
        """Do the handshake, and request the whole picture.

        Raises:
            NoConsole: the answer is not RFB.
        """
        self._console, self._seen = console, b""
        self._answer(_VERSION, _VERSION)
        self._answer(_NO_SECURITY, b"\x01")
        self._answer(bytes(4), b"\x01")
        self._size = struct.unpack(">HH", self._take(4))
        self._take(16)
        self.name = self._take(struct.unpack(">I", self._take(4))[0]).decode()
        self._console.write(struct.pack(">BxHi", 2, 1, _RAW))
        self._ask(incremental=False)

    def press(self, keysym: int) -> None:
        """Press a key and release it."""
        for down in (1, 0):
            self._console.write(struct.pack(">BBxxI", 4, down, keysym))

    def take_colours(self, seconds: float = SECONDS) -> set[int]:
        """Wait for the next update; return the colours in it.

        Raises:
            NoConsole: none came in time.
        """
        while (kind := self._take(1, seconds)[0]) == _BELL:
            pass
        if kind != _UPDATE:
            raise NoConsole(f"The VNC console sent a message of the unknown type {kind}.")
        colours: set[int] = set()
        _, count = struct.unpack(">BH", self._take(3))
        for _ in range(count):
            _, _, width, height, _ = struct.unpack(">HHHHi", self._take(12))
            colours.update(memoryview(self._take(4 * width * height)).cast("I"))
        self._ask(incremental=True)
        return colours

    def _ask(self, *, incremental: bool) -> None:
        self._console.write(struct.pack(">BBHHHH", 3, incremental, 0, 0, *self._size))

    def _answer(self, wanted: bytes, answer: bytes) -> None:
        received = self._take(len(wanted))
        if received != wanted:
            raise NoConsole(f"The VNC console said {received!r}, not {wanted!r}.")
        self._console.write(answer)

    def _take(self, size: int, seconds: float = SECONDS) -> bytes:
        deadline = time.monotonic() + seconds
        while len(self._seen) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoConsole(f"The VNC console said nothing for {seconds:.0f} s.")
            self._seen += self._console.read(left)  # Nova's proxy sends an empty frame after the greeting
        taken, self._seen = self._seen[:size], self._seen[size:]
        return taken
