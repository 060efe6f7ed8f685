# SPDX-License-Identifier: Apache-2.0
"""A terminal's screen: lines of cells, a cursor, and all that moves, inserts, erases and scrolls them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import NamedTuple

DEFAULT_COLOUR = -1
TRUE_COLOUR = 1 << 24  # added to 0xRRGGBB; below it stands a number of the palette
TAB = 8
_LONGEST_CLUSTER = 4  # characters of one cell: a letter and its accents
RIGHT_HALF = "\0"  # begins the text of the second cell of a wide character


class Style(IntFlag):
    """How a character is shown."""

    PLAIN = 0
    BOLD = 1
    FAINT = 2
    ITALIC = 4
    UNDERLINE = 8
    INVERSE = 16
    HIDDEN = 32
    STRUCK = 64


class Pen(NamedTuple):
    """How characters are written from now on; colours are numbers of the palette, true ones or the default."""

    foreground: int = DEFAULT_COLOUR
    background: int = DEFAULT_COLOUR
    style: Style = Style.PLAIN


class Cell(NamedTuple):
    """What one place of the screen shows."""

    text: str = " "
    pen: Pen = Pen()


Line = list[Cell]


@dataclass
class Cursor:
    """Where and how the next character is written.

    Attributes:
        wrapping: the last column is full; the next character begins a line.
    """

    row: int = 0
    column: int = 0
    pen: Pen = field(default_factory=Pen)
    wrapping: bool = False


class Screen:
    """Lines and a cursor; every argument is brought into bounds."""

    def __init__(self, rows: int, columns: int) -> None:
        """Start empty."""
        self.rows, self.columns = rows, columns
        self.cursor = Cursor()
        self.lines = [self._blank_line() for _ in range(rows)]
        self.wraps, self.inserts = True, False
        self.from_margin = False  # origin mode: rows count from the top margin
        self.top, self.bottom = 0, rows - 1
        self._saved = Cursor()
        self._tabs = set(range(TAB, columns, TAB))
        self._other: list[Line] | None = None  # the main screen's lines while the alternate one is shown

    # -- writing

    def write(self, text: str) -> None:
        """Show characters at the cursor."""
        cells = self._cells_of(text)
        while cells:
            if self.cursor.wrapping:
                self._wrap()
            room = self.columns - self.cursor.column
            taken = cells[:room]
            if len(cells) > room and cells[room].text.startswith(RIGHT_HALF):
                taken = taken[:-1]
            if not taken:  # half a wide character's room
                if not self.wraps:
                    return
                self._wrap()
                continue
            if not self.wraps and len(cells) > room:
                taken = [*taken[:-1], cells[-1]]
                cells = taken
            self._put(taken)
            del cells[: len(taken)]

    def _put(self, cells: list[Cell]) -> None:
        line, start = self.lines[self.cursor.row], self.cursor.column
        if self.inserts:
            self.insert_characters(len(cells))
        end = start + len(cells)
        if line[start].text.startswith(RIGHT_HALF) and start:
            line[start - 1] = Cell(" ", line[start - 1].pen)
        if end < self.columns and line[end].text.startswith(RIGHT_HALF):
            line[end] = Cell(" ", line[end].pen)
        line[start:end] = cells
        self.cursor.column = min(end, self.columns - 1)
        self.cursor.wrapping = self.wraps and end == self.columns

    def _cells_of(self, text: str) -> list[Cell]:
        pen = self.cursor.pen
        if text.isascii():
            return [Cell(character, pen) for character in text]
        cells: list[Cell] = []
        for character in text:
            width = width_of(character)
            if width:
                cells.append(Cell(character, pen))
                cells.extend([Cell(RIGHT_HALF + character, pen)] * (width - 1))
            elif cells:
                cells[-1] = _accented(cells[-1], character)
            else:
                self._accent_last(character)
        return cells

    def _accent_last(self, accent: str) -> None:
        """Put an accent on the character before the cursor."""
        column = self.cursor.column - (0 if self.cursor.wrapping else 1)
        if column >= 0:
            line = self.lines[self.cursor.row]
            line[column] = _accented(line[column], accent)

    def _wrap(self) -> None:
        self.cursor.column = 0
        self.feed_line()

    # -- moving

    def move(self, row: int, column: int) -> None:
        """Go to a place of the screen; in origin mode, of the margins."""
        first, last = (self.top, self.bottom) if self.from_margin else (0, self.rows - 1)
        self.cursor.row = max(first, min(last, row + first))
        self.cursor.column = max(0, min(self.columns - 1, column))
        self.cursor.wrapping = False

    def move_rows(self, distance: int) -> None:
        """Go down, or up; a margin is not crossed from inside."""
        row = self.cursor.row
        first = self.top if row >= self.top else 0
        last = self.bottom if row <= self.bottom else self.rows - 1
        self.cursor.row = max(first, min(last, row + distance))
        self.cursor.wrapping = False

    def move_columns(self, distance: int) -> None:
        """Go right, or left."""
        self.cursor.column = max(0, min(self.columns - 1, self.cursor.column + distance))
        self.cursor.wrapping = False

    def set_column(self, column: int) -> None:
        """Go to a column of the line."""
        self.move_columns(column - self.cursor.column)

    def feed_line(self) -> None:
        """Go down one line; the bottom margin scrolls."""
        if self.cursor.row == self.bottom:
            self.scroll(1)
        elif self.cursor.row < self.rows - 1:
            self.cursor.row += 1
        self.cursor.wrapping = False

    def feed_line_back(self) -> None:
        """Go up one line; the top margin scrolls."""
        if self.cursor.row == self.top:
            self.scroll(-1)
        elif self.cursor.row > 0:
            self.cursor.row -= 1
        self.cursor.wrapping = False

    def tabulate(self, count: int) -> None:
        """Go to the next tabulators, or to earlier ones."""
        for _ in range(min(abs(count), self.columns)):
            column = self.cursor.column
            if count > 0:
                self.set_column(min((tab for tab in self._tabs if tab > column), default=self.columns - 1))
            else:
                self.set_column(max((tab for tab in self._tabs if tab < column), default=0))

    def set_tab(self) -> None:
        """Put a tabulator here."""
        self._tabs.add(self.cursor.column)

    def clear_tabs(self, *, everywhere: bool) -> None:
        """Take the tabulator here away, or all."""
        self._tabs = set() if everywhere else self._tabs - {self.cursor.column}

    def save_cursor(self) -> None:
        """Remember where and how is written."""
        self._saved = replace(self.cursor)

    def restore_cursor(self) -> None:
        """Return to what was remembered."""
        self.cursor = replace(
            self._saved, row=min(self._saved.row, self.rows - 1), column=min(self._saved.column, self.columns - 1)
        )

    # -- lines and characters

    def set_margins(self, top: int, bottom: int) -> None:
        """Scroll only these lines; too few are all."""
        top, bottom = max(0, top), min(self.rows - 1, bottom)
        self.top, self.bottom = (top, bottom) if top < bottom else (0, self.rows - 1)
        self.move(0, 0)

    def scroll(self, count: int) -> None:
        """Move the lines between the margins up, or down."""
        self._shift(self.top, count)

    def insert_lines(self, count: int) -> None:
        """Open lines at the cursor; a negative number takes them out."""
        if self.top <= self.cursor.row <= self.bottom:
            self._shift(self.cursor.row, -count)
            self.set_column(0)

    def _shift(self, top: int, count: int) -> None:
        """Move lines up, or down, between a line and the bottom margin."""
        height = self.bottom + 1 - top
        kept = self.lines[top : self.bottom + 1]
        blank = [self._blank_line() for _ in range(min(abs(count), height))]
        kept = kept[count:] + blank if count > 0 else blank + kept[: max(0, height + count)]
        self.lines[top : self.bottom + 1] = kept

    def insert_characters(self, count: int) -> None:
        """Open blanks at the cursor."""
        line, column = self.lines[self.cursor.row], self.cursor.column
        line[column:column] = [self._blank()] * min(count, self.columns - column)
        del line[self.columns :]
        self.cursor.wrapping = False

    def delete_characters(self, count: int) -> None:
        """Take characters out at the cursor."""
        line, column = self.lines[self.cursor.row], self.cursor.column
        del line[column : column + count]
        line += [self._blank()] * (self.columns - len(line))
        self.cursor.wrapping = False

    def erase_characters(self, count: int) -> None:
        """Make characters from the cursor on blank."""
        self._erase(self.cursor.row, self.cursor.column, self.cursor.column + count)

    def erase_line(self, part: int) -> None:
        """Make blank: 0 what follows the cursor, 1 what is before it, 2 all of its line."""
        column = self.cursor.column
        start, end = {0: (column, self.columns), 1: (0, column + 1), 2: (0, self.columns)}.get(part, (0, 0))
        self._erase(self.cursor.row, start, end)

    def erase_screen(self, part: int) -> None:
        """Make blank: 0 what follows the cursor, 1 what is before it, 2 all."""
        row = self.cursor.row
        rows = {0: range(row + 1, self.rows), 1: range(row), 2: range(self.rows)}.get(part, range(0))
        for each in rows:
            self._erase(each, 0, self.columns)
        if part in {0, 1}:
            self.erase_line(part)

    def fill(self, text: str) -> None:
        """Show one character everywhere (DECALN)."""
        self.lines = [[Cell(text)] * self.columns for _ in range(self.rows)]

    def _erase(self, row: int, start: int, end: int) -> None:
        line, end = self.lines[row], min(end, self.columns)
        line[start:end] = [self._blank()] * (end - start)
        self.cursor.wrapping = False

    # -- the whole

    def show_alternate(self, *, alternate: bool) -> None:
        """Show the other screen, which begins empty, or the main one as it was left."""
        if alternate and self._other is None:
            self._other, self.lines = self.lines, [self._blank_line() for _ in range(self.rows)]
        elif not alternate and self._other is not None:
            self.lines, self._other = self._other, None

    def resize(self, rows: int, columns: int) -> None:
        """Take another size; what is above the cursor goes before what stands around it."""
        surplus = max(0, self.cursor.row - rows + 1)
        self.lines = self._fit(self.lines[surplus:], rows, columns)
        if self._other is not None:
            self._other = self._fit(self._other, rows, columns)
        self.cursor.row -= surplus
        self.cursor.column = min(self.cursor.column, columns - 1)
        self.cursor.wrapping = False
        self._tabs |= set(range((self.columns // TAB + 1) * TAB, columns, TAB))
        self.rows, self.columns = rows, columns
        self.top, self.bottom = 0, rows - 1

    def _fit(self, lines: list[Line], rows: int, columns: int) -> list[Line]:
        fitting = [line[:columns] + [Cell()] * (columns - len(line)) for line in lines[:rows]]
        return fitting + [[Cell()] * columns for _ in range(rows - len(fitting))]

    def _blank(self) -> Cell:
        return Cell(" ", Pen(background=self.cursor.pen.background))

    def _blank_line(self) -> Line:
        return [self._blank()] * self.columns


def width_of(character: str) -> int:
    """Return how many columns a character takes: 0 for an accent, 2 for most of East Asia's and for pictures."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _accented(cell: Cell, accent: str) -> Cell:
    return Cell(unicodedata.normalize("NFC", cell.text + accent)[:_LONGEST_CLUSTER], cell.pen)
