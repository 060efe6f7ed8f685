# SPDX-License-Identifier: Apache-2.0
"""A terminal as programs know it by the name xterm-256color: they write to its screen, and may be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.consoles.vnc.colours import apply_rendition
from dockstack.compute.consoles.vnc.screen import Pen, Screen
from dockstack.compute.consoles.vnc.sequences import Control, Escape, Reader, Sequence, Text, Title

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.consoles.vnc.sequences import Token

# DEC's private modes (xterm's "DEC Private Mode Set").
APPLICATION_CURSOR, ORIGIN, AUTOWRAP, CURSOR_VISIBLE = 1, 6, 7, 25
ALTERNATE_SCREENS = {47, 1047, 1049}
SAVED_CURSOR, SAVED_CURSOR_AND_ALTERNATE = 1048, 1049
BRACKETED_PASTE = 2004
# Of the standard's own modes, remembered as negative numbers.
INSERT, NEW_LINE = 4, 20

_AT_FIRST = frozenset({AUTOWRAP, CURSOR_VISIBLE})
_WHO = b"\x1b[?62;22c"  # a VT220 with colours
_WHO_MORE = b"\x1b[>1;10;0c"
_SIZE_IN_CHARACTERS = 18
_LINES = str.maketrans("`afgjklmnopqrstuvwxyz{|}~", "◆▒°±┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")  # DEC Special Graphics


class Terminal:
    """A screen, and who writes to it.

    Attributes:
        answers: what programs asked for, to be typed to them.
        title: what they call the window.
        bells: how often the bell rang.
    """

    def __init__(self, rows: int, columns: int) -> None:
        """Switch it on."""
        self.screen = Screen(rows, columns)
        self.modes = set(_AT_FIRST)
        self.answers = bytearray()
        self.title = ""
        self.bells = 0
        self._reader = Reader()
        self._sets = ["B", "B"]  # G0 and G1
        self._set = 0
        self._last = ""

    def feed(self, data: bytes) -> None:
        """Show what was written."""
        for token in self._reader.feed(data):
            self._obey(token)

    def resize(self, rows: int, columns: int) -> None:
        """Take another size."""
        self.screen.resize(rows, columns)

    @property
    def size_report(self) -> bytes:
        """The size in characters, as xterm reports it."""
        return f"\x1b[8;{self.screen.rows};{self.screen.columns}t".encode()

    def _obey(self, token: Token) -> None:
        match token:
            case Text(text):
                self._write(text)
            case Control(character):
                self._control(character)
            case Escape(between, final):
                self._escape(between, final)
            case Title(text):
                self.title = text
            case Sequence(prefix="", between="", final="m"):
                cursor = self.screen.cursor
                cursor.pen = apply_rendition(cursor.pen, token.parameters)
            case Sequence(prefix="", between=""):
                self._command(token)
            case Sequence():
                self._private(token)

    def _write(self, text: str) -> None:
        if self._sets[self._set] == "0":
            text = text.translate(_LINES)
        self._last = text[-1]
        self.screen.write(text)

    def _control(self, character: str) -> None:
        screen = self.screen
        match character:
            case "\a":
                self.bells += 1
            case "\b":
                screen.move_columns(-1)
            case "\t":
                screen.tabulate(1)
            case "\n" | "\v" | "\f":
                screen.feed_line()
                if -NEW_LINE in self.modes:
                    screen.set_column(0)
            case "\r":
                screen.set_column(0)
            case "\x0e" | "\x0f":
                self._set = int(character == "\x0e")

    def _escape(self, between: str, final: str) -> None:
        screen = self.screen
        match between, final:
            case "", "7":
                screen.save_cursor()
            case "", "8":
                screen.restore_cursor()
            case "", "D":
                screen.feed_line()
            case "", "E":
                screen.feed_line()
                screen.set_column(0)
            case "", "M":
                screen.feed_line_back()
            case "", "H":
                screen.set_tab()
            case "", "c":
                self._reset()
            case "#", "8":
                screen.fill("E")
            case "(" | ")", _:
                self._sets[int(between == ")")] = final

    def _command(self, said: Sequence) -> None:
        verb = _VERBS.get(said.final)
        if verb is not None:
            verb(self.screen, said)
            return
        match said.final:
            case "b":
                self._write(self._last * min(said.number(1), self.screen.rows * self.screen.columns))
            case "h" | "l":
                self._set_modes(said.numbers, on=said.final == "h")
            case "c":
                self.answers += _WHO
            case "n" | "t":
                self._report(said)

    def _report(self, said: Sequence) -> None:
        cursor = self.screen.cursor
        match said.final, said.number(0):
            case "n", 5:
                self.answers += b"\x1b[0n"
            case "n", 6:
                row = cursor.row - (self.screen.top if self.screen.from_margin else 0)
                self.answers += f"\x1b[{row + 1};{cursor.column + 1}R".encode()
            case "t", number if number == _SIZE_IN_CHARACTERS:
                self.answers += self.size_report

    def _private(self, said: Sequence) -> None:
        match said.prefix, said.between, said.final:
            case "?", "", "h" | "l":
                for mode in said.numbers:
                    self._set_private_mode(mode, on=said.final == "h")
            case "?", "$", "p":
                mode = said.number(0)
                self.answers += f"\x1b[?{mode};{1 if mode in self.modes else 2}$y".encode()
            case ">", "", "c":
                self.answers += _WHO_MORE
            case "?", "", "J" | "K":
                self._command(Sequence("", said.parameters, "", said.final))
            case "", "!", "p":
                self._reset_softly()

    def _set_modes(self, modes: list[int], *, on: bool) -> None:
        for mode in modes:
            if mode == INSERT:
                self.screen.inserts = on
            elif mode == NEW_LINE:
                self._remember(-NEW_LINE, on=on)

    def _set_private_mode(self, mode: int, *, on: bool) -> None:
        screen = self.screen
        self._remember(mode, on=on)
        if mode == AUTOWRAP:
            screen.wraps = on
        elif mode == ORIGIN:
            screen.from_margin = on
            screen.move(0, 0)
        if on and mode in {SAVED_CURSOR, SAVED_CURSOR_AND_ALTERNATE}:
            screen.save_cursor()
        if mode in ALTERNATE_SCREENS:
            screen.show_alternate(alternate=on)
        if not on and mode in {SAVED_CURSOR, SAVED_CURSOR_AND_ALTERNATE}:
            screen.restore_cursor()

    def _remember(self, mode: int, *, on: bool) -> None:
        if on:
            self.modes.add(mode)
        else:
            self.modes.discard(mode)

    def _reset_softly(self) -> None:
        self.modes = set(_AT_FIRST)
        self._sets, self._set = ["B", "B"], 0
        screen = self.screen
        screen.wraps, screen.inserts, screen.from_margin = True, False, False
        screen.top, screen.bottom = 0, screen.rows - 1
        screen.cursor.pen = Pen()

    def _reset(self) -> None:
        self.screen = Screen(self.screen.rows, self.screen.columns)
        self._reset_softly()


def _move_to(screen: Screen, said: Sequence) -> None:
    screen.move(said.number(1) - 1, said.number(1, 1) - 1)


def _move_rows_to_edge(screen: Screen, said: Sequence) -> None:
    screen.move_rows(said.number(1) * (1 if said.final == "E" else -1))
    screen.set_column(0)


def _clear_tabs(screen: Screen, said: Sequence) -> None:
    if said.number(0) in {0, 3}:
        screen.clear_tabs(everywhere=said.number(0) == 3)  # noqa: PLR2004 - TBC's parameter for all


_VERBS: dict[str, Callable[[Screen, Sequence], None]] = {
    "@": lambda screen, said: screen.insert_characters(said.number(1)),
    "A": lambda screen, said: screen.move_rows(-said.number(1)),
    "B": lambda screen, said: screen.move_rows(said.number(1)),
    "C": lambda screen, said: screen.move_columns(said.number(1)),
    "D": lambda screen, said: screen.move_columns(-said.number(1)),
    "E": _move_rows_to_edge,
    "F": _move_rows_to_edge,
    "G": lambda screen, said: screen.set_column(said.number(1) - 1),
    "H": _move_to,
    "I": lambda screen, said: screen.tabulate(said.number(1)),
    "J": lambda screen, said: screen.erase_screen(said.number(0)),
    "K": lambda screen, said: screen.erase_line(said.number(0)),
    "L": lambda screen, said: screen.insert_lines(said.number(1)),
    "M": lambda screen, said: screen.insert_lines(-said.number(1)),
    "P": lambda screen, said: screen.delete_characters(said.number(1)),
    "S": lambda screen, said: screen.scroll(said.number(1)),
    "T": lambda screen, said: screen.scroll(-said.number(1)),
    "X": lambda screen, said: screen.erase_characters(said.number(1)),
    "Z": lambda screen, said: screen.tabulate(-said.number(1)),
    "`": lambda screen, said: screen.set_column(said.number(1) - 1),
    "a": lambda screen, said: screen.move_columns(said.number(1)),
    "d": lambda screen, said: screen.move(said.number(1) - 1, screen.cursor.column),
    "e": lambda screen, said: screen.move_rows(said.number(1)),
    "f": _move_to,
    "g": _clear_tabs,
    "r": lambda screen, said: screen.set_margins(said.number(1) - 1, said.number(screen.rows, 1) - 1),
    "s": lambda screen, _: screen.save_cursor(),
    "u": lambda screen, _: screen.restore_cursor(),
}
