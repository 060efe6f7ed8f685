# SPDX-License-Identifier: Apache-2.0
"""What a program writes to its terminal, cut into text, controls and sequences (ECMA-48, xterm's additions)."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 64 * 1024  # characters of a sequence that has not ended; what is longer is none


class Text(NamedTuple):
    """Characters to show."""

    text: str


class Control(NamedTuple):
    """One control character."""

    character: str


class Escape(NamedTuple):
    """ESC and a final character, with what stands between."""

    between: str
    final: str


class Sequence(NamedTuple):
    """CSI and a final character: ``prefix`` is one of "<=>?" or empty, ``parameters`` as written."""

    prefix: str
    parameters: str
    between: str
    final: str

    @property
    def numbers(self) -> list[int]:
        """The parameters; 0 for one that is left out."""
        return [number_of(parameter) for parameter in self.parameters.split(";")]

    def number(self, default: int, index: int = 0) -> int:
        """Return a parameter that is not 0, or else the default."""
        numbers = self.numbers
        return (numbers[index] if index < len(numbers) else 0) or default


class Title(NamedTuple):
    """The window's name."""

    text: str


Token = Text | Control | Escape | Sequence | Title

_LARGEST = 65535
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|\x1b\[(?P<prefix>[<-?]?)(?P<parameters>[0-?]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|\x1b\](?P<command>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # strings for devices that we are not
    r"|\x1b(?P<escape>[ -/]*)(?P<last>[0-OQ-WYZ\\`-~])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f])"
    r"|\x1b\[[0-?]*[ -/]*|[\x1b\x7f-\x9f]"  # broken off, or of no meaning here
)
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$")


class Reader:
    """Reads what a program writes; pieces may be cut anywhere."""

    def __init__(self) -> None:
        """Start without anything kept back."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, data: bytes) -> Iterator[Token]:
        """Yield what is complete."""
        text = self._begun + self._decoder.decode(data)
        begun = _BEGUN.search(text, max(0, len(text) - LONGEST))
        self._begun = "" if begun is None else begun.group()
        for found in _TOKEN.finditer(text, 0, len(text) - len(self._begun)):
            token = _build(found)
            if token is not None:
                yield token


def number_of(parameter: str) -> int:
    """Return a parameter's number; 0 if it is left out or none."""
    return min(_LARGEST, int(parameter[:6])) if parameter.isascii() and parameter.isdigit() else 0


def _build(found: re.Match[str]) -> Token | None:
    kind = found.lastgroup
    if kind == "text":
        return Text(found.group())
    if kind == "control":
        return Control(found.group())
    if kind == "final":
        return Sequence(found["prefix"], found["parameters"], found["between"], found["final"])
    if kind == "last":
        return Escape(found["escape"], found["last"])
    if kind == "command":
        number, _, text = found["command"].partition(";")
        return Title(text) if number in {"0", "2"} else None
    return None
