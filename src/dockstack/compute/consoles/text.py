# SPDX-License-Identifier: Apache-2.0
"""A console's bytes: what viewers type, what they are shown, what a later viewer sees again."""

from __future__ import annotations

import re
from collections import deque

from dockstack.compute.engine import Size

# ECMA-48 and xterm's control sequences ("CSI Ps ; Ps ; Ps t"): 18 asks a terminal for its size in characters,
# and it answers with 8. That is how a window's size travels through a proxy that carries nothing but bytes.
ASK_SIZE = b"\x1b[18t"
_REPORT = re.compile(rb"\x1b\[8;(\d{1,5});(\d{1,5})t")
_BEGUN_REPORT = re.compile(rb"\x1b\[8;[\d;]{0,11}$")
_LARGEST = 1000  # rows or columns

# What makes a terminal answer: shown again to a later viewer, its answers would be typed into a shell.
_QUESTIONS = re.compile(
    rb"\x05|\x1b\[[>=?]?[\d;]*[cn]|\x1b\[(?:1[1-9]|2[01])(?:;\d*)*t|\x1b\[\??[\d;]*\$p|\x1bP[+$]q[^\x1b]*"
)
_RESET = b"\x1b[0m"


class SizeReports:
    """Takes a terminal's reports of its size out of what its user types."""

    def __init__(self) -> None:
        """Start without anything kept back."""
        self._begun = b""

    def feed(self, data: bytes) -> tuple[bytes, Size | None]:
        """Return what the user typed, and the size that was reported last, if any was."""
        data = self._begun + data
        sizes = [Size(_bounded(rows), _bounded(columns)) for rows, columns in _REPORT.findall(data)]
        typed = _REPORT.sub(b"", data)
        begun = _BEGUN_REPORT.search(typed)
        self._begun = begun.group() if begun else b""
        return typed[: len(typed) - len(self._begun)], sizes[-1] if sizes else None


class Newlines:
    """Makes a log's lines begin at a terminal's left edge, as its driver would (stty onlcr)."""

    def __init__(self) -> None:
        """Start at the beginning of a line."""
        self._returned = False

    def feed(self, data: bytes) -> bytes:
        """Put a carriage return before each line feed that has none."""
        before = b"\r" if self._returned else b""
        self._returned = data.endswith(b"\r")
        return re.sub(rb"(?<!\r)\n", b"\r\n", before + data)[len(before) :]


class Scrollback:
    """The end of what was shown, for viewers who come later."""

    def __init__(self, limit: int) -> None:
        """Keep about ``limit`` bytes."""
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._cut = False

    def add(self, data: bytes) -> None:
        """Remember; the oldest goes."""
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())
            self._cut = True

    def replay(self) -> bytes:
        """Return what a new viewer is shown: whole lines, and nothing that asks its terminal for an answer."""
        kept = b"".join(self._pieces)
        if len(kept) > self._limit:
            kept = kept[-self._limit :]
        if self._cut or len(kept) == self._limit:
            kept = _RESET + kept[kept.find(b"\n") + 1 :]
        return _QUESTIONS.sub(b"", kept)


def smallest(sizes: list[Size]) -> Size | None:
    """Return the size that fits into every viewer's window; None if none is known."""
    if not sizes:
        return None
    return Size(min(size.rows for size in sizes), min(size.columns for size in sizes))


def notice(text: str) -> bytes:
    """Say something that the server did not say, on a line of its own."""
    return f"\r\n\x1b[0;2m[{text}]\x1b[0m\r\n".encode()


def title(text: str) -> bytes:
    """Name the viewer's window (xterm's "OSC 2"); whatever could end or extend the sequence is left out."""
    return b"\x1b]2;" + "".join(character for character in text if character.isprintable()).encode()[:200] + b"\x07"


def _bounded(number: bytes) -> int:
    return max(1, min(_LARGEST, int(number)))
