# SPDX-License-Identifier: Apache-2.0
"""Characters as pictures: a font of the distribution's, and lines and blocks drawn so that they join."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from dockstack.compute.consoles.vnc.colours import CURSOR, Ink, ink_of, mix
from dockstack.compute.consoles.vnc.fonts import BOLD, DIRECTORY, PACKAGE, REGULAR, SIZE
from dockstack.compute.consoles.vnc.messages import PixelFormat
from dockstack.compute.consoles.vnc.pixels import Pixels
from dockstack.compute.consoles.vnc.screen import RIGHT_HALF, Cell, Pen, Style, width_of
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from pathlib import Path


_COVERED = 255
_KEPT = 8192  # tiles, of about a kilobyte

# Of each line-drawing character its arms to the left, up, right and down: 0 none, 1 light, 2 heavy, 3 double.
_ARMS = {
    "─": (1, 0, 1, 0), "━": (2, 0, 2, 0), "│": (0, 1, 0, 1), "┃": (0, 2, 0, 2),
    "┌": (0, 0, 1, 1), "┐": (1, 0, 0, 1), "└": (0, 1, 1, 0), "┘": (1, 1, 0, 0),
    "╭": (0, 0, 1, 1), "╮": (1, 0, 0, 1), "╰": (0, 1, 1, 0), "╯": (1, 1, 0, 0),
    "┏": (0, 0, 2, 2), "┓": (2, 0, 0, 2), "┗": (0, 2, 2, 0), "┛": (2, 2, 0, 0),
    "├": (0, 1, 1, 1), "┤": (1, 1, 0, 1), "┬": (1, 0, 1, 1), "┴": (1, 1, 1, 0), "┼": (1, 1, 1, 1),
    "┣": (0, 2, 2, 2), "┫": (2, 2, 0, 2), "┳": (2, 0, 2, 2), "┻": (2, 2, 2, 0), "╋": (2, 2, 2, 2),
    "═": (3, 0, 3, 0), "║": (0, 3, 0, 3), "╔": (0, 0, 3, 3), "╗": (3, 0, 0, 3), "╚": (0, 3, 3, 0), "╝": (3, 3, 0, 0),
    "╠": (0, 3, 3, 3), "╣": (3, 3, 0, 3), "╦": (3, 0, 3, 3), "╩": (3, 3, 3, 0), "╬": (3, 3, 3, 3),
    "╴": (1, 0, 0, 0), "╵": (0, 1, 0, 0), "╶": (0, 0, 1, 0), "╷": (0, 0, 0, 1),
}  # fmt: skip
_SHADES = {"░": 64, "▒": 128, "▓": 192, "█": 255}
_LOWER_EIGHTHS = "▁▂▃▄▅▆▇"
_LEFT_EIGHTHS = "▉▊▋▌▍▎▏"


class NoFont(DockstackError):  # noqa: N818
    """There is nothing to draw characters with."""


class Face(NamedTuple):
    """A font's two weights and its cells' size."""

    regular: ImageFont.FreeTypeFont
    bold: ImageFont.FreeTypeFont
    width: int
    height: int


class Tile(NamedTuple):
    """What a cell looks like, apart from the viewer's kind of pixels."""

    text: str
    bold: bool
    underlined: bool
    struck: bool


def load_face(directory: Path = DIRECTORY) -> Face:
    """Load the font.

    Raises:
        NoFont: it is not there.
    """
    try:
        regular, bold = (
            ImageFont.truetype(BytesIO((directory / name).read_bytes()), SIZE, layout_engine=ImageFont.Layout.BASIC)
            for name in (REGULAR, BOLD)
        )
    except OSError as error:
        raise NoFont(f"No font in {directory}: {error}.", f"apt-get install {PACKAGE}") from error
    ascent, descent = regular.getmetrics()
    return Face(regular, bold, round(regular.getlength("M")), ascent + descent)


def rehearse(face: Face) -> None:
    """Draw something, so that all that drawing needs is loaded: Pillow imports parts of itself at their first use."""
    glyphs = Glyphs(face, Pixels(PixelFormat(), compact=True))
    for text in "M┌█":
        glyphs.lines(Cell(text, Pen(style=Style.BOLD | Style.UNDERLINE)))


class Glyphs:
    """Cells as lines of a viewer's pixels."""

    def __init__(self, face: Face, pixels: Pixels) -> None:
        """Start with nothing drawn yet."""
        self.pixels = pixels
        self._face = face
        self._cover = lru_cache(_KEPT)(self._draw)
        self._blend = lru_cache(512)(self._build_blend)
        self._lines = lru_cache(_KEPT)(self._build_lines)

    def lines(self, cell: Cell, *, under_cursor: bool = False) -> tuple[bytes, ...]:
        """Return a cell's picture, line by line."""
        style = cell.pen.style
        text = " " if style & Style.HIDDEN else cell.text
        ink = ink_of(cell.pen)
        if under_cursor:
            ink = Ink(ink.background if ink.background != CURSOR else ink.foreground, CURSOR)
        tile = Tile(text, bool(style & Style.BOLD), bool(style & Style.UNDERLINE), bool(style & Style.STRUCK))
        return self._lines(tile, ink)

    def _build_lines(self, tile: Tile, ink: Ink) -> tuple[bytes, ...]:
        width = self._face.width
        cover, blend = self._cover(tile), self._blend(ink)
        return tuple(
            b"".join(blend[share] for share in cover[start : start + width]) for start in range(0, len(cover), width)
        )

    def _build_blend(self, ink: Ink) -> tuple[bytes, ...]:
        return tuple(self.pixels.build(mix(ink.foreground, ink.background, share)) for share in range(256))

    def _draw(self, tile: Tile) -> bytes:
        """Return how much of each pixel a character covers, 0 to 255."""
        width, height = self._face.width, self._face.height
        right = tile.text.startswith(RIGHT_HALF)
        text = tile.text.removeprefix(RIGHT_HALF)
        columns = 2 if right or width_of(text[0]) > 1 else 1
        picture = Image.new("L", (width * columns, height))
        draw = ImageDraw.Draw(picture)
        if not _draw_shape(draw, text, width, height):
            font = self._face.bold if tile.bold else self._face.regular
            draw.text((0, 0), text, fill=_COVERED, font=font)
        baseline = self._face.regular.getmetrics()[0]
        for wanted, row in ((tile.underlined, baseline + 2), (tile.struck, baseline * 2 // 3)):
            if wanted:
                draw.line((0, row, width * columns, row), fill=_COVERED)
        left = width if right else 0
        return picture.crop((left, 0, left + width, height)).tobytes()


def _draw_shape(draw: ImageDraw.ImageDraw, text: str, width: int, height: int) -> bool:
    """Draw a character that has to reach its cell's edges; False if it is none of those."""
    if text in _ARMS:
        for arm, weight in enumerate(_ARMS[text]):
            for box in _arm_boxes(arm, weight, width, height):
                draw.rectangle(box, fill=_COVERED)
    elif text in _SHADES:
        draw.rectangle((0, 0, width, height), fill=_SHADES[text])
    elif text in _LOWER_EIGHTHS:
        eighths = _LOWER_EIGHTHS.index(text) + 1
        draw.rectangle((0, height - round(height * eighths / 8), width, height), fill=_COVERED)
    elif text in _LEFT_EIGHTHS:
        eighths = 7 - _LEFT_EIGHTHS.index(text)
        draw.rectangle((0, 0, round(width * eighths / 8) - 1, height), fill=_COVERED)
    elif text == "▀":
        draw.rectangle((0, 0, width, height - round(height / 2) - 1), fill=_COVERED)
    elif text == "▐":
        draw.rectangle((round(width / 2), 0, width, height), fill=_COVERED)
    else:
        return False
    return True


def _arm_boxes(arm: int, weight: int, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return an arm's rectangles: from the middle to the left, top, right or bottom edge."""
    across, down = (width - 1) // 2, (height - 1) // 2
    boxes = []
    for first, last in {0: [], 1: [(0, 0)], 2: [(0, 1)], 3: [(-1, -1), (1, 1)]}[weight]:
        boxes.append(
            (
                (0, down + first, across + last, down + last),
                (across + first, 0, across + last, down + last),
                (across + first, down + first, width, down + last),
                (across + first, down + first, across + last, height),
            )[arm]
        )
    return boxes
