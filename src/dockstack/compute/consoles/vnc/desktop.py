# SPDX-License-Identifier: Apache-2.0
"""An RFB server whose picture is a terminal: what a viewer and a console say, and what each of them is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dockstack.compute.consoles.vnc import keys, messages
from dockstack.compute.consoles.vnc.colours import BACKGROUND
from dockstack.compute.consoles.vnc.glyphs import Glyphs
from dockstack.compute.consoles.vnc.messages import (
    Box,
    BrokenProtocol,
    Cut,
    Encodings,
    Key,
    PixelFormat,
    SizeNews,
    UpdateRequest,
    WantedSize,
)
from dockstack.compute.consoles.vnc.pixels import Pixels, Zrle
from dockstack.compute.consoles.vnc.pointer import pointer
from dockstack.compute.consoles.vnc.terminal import (
    APPLICATION_CURSOR,
    BRACKETED_PASTE,
    CURSOR_VISIBLE,
    Terminal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.compute.consoles.vnc.glyphs import Face
    from dockstack.compute.consoles.vnc.messages import Message
    from dockstack.compute.consoles.vnc.screen import Line

ROWS, COLUMNS = 24, 80
FEWEST_ROWS, FEWEST_COLUMNS = 5, 20
MOST_ROWS, MOST_COLUMNS = 130, 420  # more than a window on the largest usual screens has
MOST_TYPED = 64 * 1024  # bytes on their way to the console
_NAME_CHARACTERS = 60  # Tempest's own client, for one, takes no longer greeting
_NEAR = 4  # cells: changes that lie closer make one rectangle


class Run(NamedTuple):
    """Cells beside each other that have changed: from ``first`` to before ``end``."""

    row: int
    first: int
    end: int


class Sight(NamedTuple):
    """What a viewer has been shown."""

    lines: tuple[Line, ...]
    cursor: tuple[int, int] | None


class Desktop:
    """One viewer's picture of one console.

    Attributes:
        outgoing: what the viewer is to be sent.
        typed: what the console is to be sent.
    """

    def __init__(self, face: Face, name: str = "Console") -> None:
        """Begin the conversation."""
        self.outgoing = bytearray(messages.VERSION)
        self.typed = bytearray()
        self._face, self._name = face, name
        self._terminal = Terminal(ROWS, COLUMNS)
        self._keyboard = keys.Keyboard()
        self._heard = bytearray()
        self._steps: list[Callable[[], bool]] = [self._read_version, self._read_security, self._read_init]
        self._format = PixelFormat()
        self._encodings: tuple[int, ...] = (messages.RAW,)
        self._zrle = Zrle()
        self._glyphs = self._make_glyphs()
        self._requested = False
        self._sight: Sight | None = None
        self._width, self._height = COLUMNS * face.width, ROWS * face.height
        self._size_news: SizeNews | None = SizeNews(messages.SERVERS_OWN, messages.FOLLOWED)
        self._said_name, self._said_pointer, self._bells = name, False, 0

    @property
    def greeted(self) -> bool:
        """Whether the viewer is through with all that comes before pictures."""
        return not self._steps

    # -- what is said to us

    def hear(self, data: bytes) -> None:
        """Take in what the console shows."""
        self._terminal.feed(data)
        if len(self.typed) < MOST_TYPED:  # a program that asks without end is not answered without end
            self.typed += self._terminal.answers
        self._terminal.answers.clear()

    def receive(self, data: bytes) -> None:
        """Take in what the viewer says.

        Raises:
            BrokenProtocol: it makes no sense.
        """
        self._heard += data
        while self._steps:
            if not self._steps[0]():
                return
            del self._steps[0]
        while True:
            message, length = messages.read_message(self._heard)
            if message is None:
                return
            del self._heard[:length]
            self._obey(message)

    def _read_version(self) -> bool:
        said = self._take(len(messages.VERSION))
        if said is not None and said != messages.VERSION:
            raise BrokenProtocol(f"A viewer speaks {said!r}, not RFB 3.8.")
        self.outgoing += messages.SECURITY_TYPES if said else b""
        return said is not None

    def _read_security(self) -> bool:
        said = self._take(1)
        if said is not None and said != messages.NO_SECURITY:
            raise BrokenProtocol("A viewer chose a security type that was not offered.")
        self.outgoing += messages.SECURITY_OK if said else b""
        return said is not None

    def _read_init(self) -> bool:
        said = self._take(1)
        if said is not None:
            self._said_name = self._title
            self.outgoing += messages.server_init(self._width, self._height, self._said_name)
        return said is not None

    def _take(self, size: int) -> bytes | None:
        if len(self._heard) < size:
            return None
        taken = bytes(self._heard[:size])
        del self._heard[:size]
        return taken

    def _obey(self, message: Message) -> None:
        match message:
            case UpdateRequest(incremental):
                self._requested = True
                self._sight = self._sight if incremental else None
            case Key(keysym, down):
                application = APPLICATION_CURSOR in self._terminal.modes
                self.typed += self._keyboard.press(keysym, down=down, application=application)
            case Cut(text):
                self.typed += keys.paste(text, bracketed=BRACKETED_PASTE in self._terminal.modes)
            case Encodings(numbers):
                self._encodings = numbers
                self._glyphs = self._make_glyphs()
            case PixelFormat():
                self._format = message
                self._glyphs = self._make_glyphs()
                self._sight, self._said_pointer = None, False
            case WantedSize(width, height):
                self._resize(width, height)

    def _resize(self, width: int, height: int) -> None:
        """Follow a window, to the pixel: whoever gets less than it wants asks again and again."""
        rows, columns = height // self._face.height, width // self._face.width
        if not (FEWEST_ROWS <= rows <= MOST_ROWS and FEWEST_COLUMNS <= columns <= MOST_COLUMNS):
            self._size_news = SizeNews(messages.CLIENTS_WISH, messages.REFUSED)
            return
        self._width, self._height = width, height
        self._terminal.resize(rows, columns)
        self.typed += self._terminal.size_report
        self._size_news = SizeNews(messages.CLIENTS_WISH, messages.FOLLOWED)
        self._sight = None

    # -- what we say

    def paint(self) -> None:
        """Send what is new, if the viewer waits for it."""
        if not self.greeted:
            return
        if self._bells != self._terminal.bells:
            self._bells = self._terminal.bells
            self.outgoing += messages.BELL
        if not self._requested:
            return
        found = self._about_desktop() or self._about_cells()
        if found:
            self.outgoing += messages.update(found)
            self._requested = False

    def _about_desktop(self) -> list[bytes]:
        """Tell of size, name and pointer; a new size alone, as all else depends on it."""
        size = self._about_size()
        if size:
            return [size]
        found = []
        if self._said_name != self._title and messages.DESKTOP_NAME in self._encodings:
            self._said_name = self._title
            found.append(messages.desktop_name(self._title))
        if not self._said_pointer and messages.CURSOR in self._encodings:
            self._said_pointer = True
            found.append(pointer(Pixels(self._format, compact=False)))
        return found

    def _about_size(self) -> bytes:
        if self._size_news is None or messages.EXTENDED_DESKTOP_SIZE not in self._encodings:
            return b""  # who does not know how to be told cannot ask for another size either
        news, self._size_news = self._size_news, None
        return messages.desktop_size(self._width, self._height, news)

    def _about_cells(self) -> list[bytes]:
        now = self._look()
        before, self._sight = self._sight, now
        found = [self._encode_cells(now, run) for run in find_changes(before, now)]
        return found + (self._edges() if before is None else [])  # in this order: they are pieces of one stream

    def _edges(self) -> list[bytes]:
        """Draw what is left of the picture beside whole cells."""
        screen = self._terminal.screen
        right, bottom = screen.columns * self._face.width, screen.rows * self._face.height
        boxes = (Box(right, 0, self._width - right, self._height), Box(0, bottom, right, self._height - bottom))
        pixel = self._glyphs.pixels.build(BACKGROUND)
        return [self._encode(box, [pixel * box.width] * box.height) for box in boxes if box.width and box.height]

    def _look(self) -> Sight:
        screen = self._terminal.screen
        place = (screen.cursor.row, screen.cursor.column) if CURSOR_VISIBLE in self._terminal.modes else None
        return Sight(tuple(list(line) for line in screen.lines), place)

    def _encode_cells(self, sight: Sight, run: Run) -> bytes:
        cells = sight.lines[run.row][run.first : run.end]
        under = sight.cursor[1] - run.first if sight.cursor and sight.cursor[0] == run.row else -1
        tiles = [self._glyphs.lines(cell, under_cursor=place == under) for place, cell in enumerate(cells)]
        width, height = self._face.width, self._face.height
        box = Box(run.first * width, run.row * height, len(cells) * width, height)
        return self._encode(box, [b"".join(parts) for parts in zip(*tiles, strict=True)])

    def _encode(self, box: Box, lines: list[bytes]) -> bytes:
        if self._compresses:
            return messages.rectangle(box, messages.ZRLE, self._zrle.encode(lines, self._glyphs.pixels.size))
        return messages.rectangle(box, messages.RAW, b"".join(lines))

    @property
    def _compresses(self) -> bool:
        best = next((each for each in self._encodings if each in {messages.RAW, messages.ZRLE}), messages.RAW)
        return best == messages.ZRLE

    @property
    def _title(self) -> str:
        return self._terminal.title[:_NAME_CHARACTERS] or self._name

    def _make_glyphs(self) -> Glyphs:
        return Glyphs(self._face, Pixels(self._format, compact=self._compresses))


def find_changes(before: Sight | None, now: Sight) -> list[Run]:
    """Return what has to be drawn for a viewer to see what is there now; all, if it has seen nothing."""
    if before is None or len(before.lines) != len(now.lines):
        return [Run(row, 0, len(line)) for row, line in enumerate(now.lines)]
    moved = {before.cursor, now.cursor} - {None} if before.cursor != now.cursor else set()
    runs: list[Run] = []
    for row, (old, new) in enumerate(zip(before.lines, now.lines, strict=True)):
        touched = {column for each_row, column in filter(None, moved) if each_row == row}
        if old != new or touched:
            runs += _runs_of(row, old, new, touched)
    return runs


def _runs_of(row: int, old: Sequence[object], new: Sequence[object], touched: set[int]) -> list[Run]:
    if len(old) != len(new):
        return [Run(row, 0, len(new))]
    runs: list[Run] = []
    for column in range(len(new)):
        if old[column] == new[column] and column not in touched:
            continue
        if runs and column - runs[-1].end <= _NEAR:
            runs[-1] = runs[-1]._replace(end=column + 1)
        else:
            runs.append(Run(row, column, column + 1))
    return runs
