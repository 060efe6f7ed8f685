# SPDX-License-Identifier: Apache-2.0
"""Colours and styles of characters: how programs choose them (SGR), and what they look like."""

from __future__ import annotations

from typing import NamedTuple

from dockstack.compute.consoles.vnc.screen import DEFAULT_COLOUR, TRUE_COLOUR, Pen, Style
from dockstack.compute.consoles.vnc.sequences import number_of

FOREGROUND, BACKGROUND, CURSOR = 0xDBE3EC, 0x10141A, 0x4AA8FF  # as on the page of the serial console

_NAMED = (
    *(0x2B3542, 0xF0705A, 0x3FB950, 0xD9A53B, 0x4A90E2, 0xC678DD, 0x36B3C2, 0xC5CFDA),
    *(0x5C6A7A, 0xFF8F7A, 0x63D673, 0xF2C55C, 0x7AB8FF, 0xDDA0F0, 0x62D5E0, 0xFFFFFF),
)
_STEPS = (0, 95, 135, 175, 215, 255)  # of xterm's cube of 216 colours
_CUBE = tuple(red << 16 | green << 8 | blue for red in _STEPS for green in _STEPS for blue in _STEPS)
_GREYS = tuple(0x010101 * level for level in range(8, 248, 10))
PALETTE = (*_NAMED, *_CUBE, *_GREYS)

_SETS = {
    1: Style.BOLD,
    2: Style.FAINT,
    3: Style.ITALIC,
    4: Style.UNDERLINE,
    7: Style.INVERSE,
    8: Style.HIDDEN,
    9: Style.STRUCK,
    21: Style.UNDERLINE,
}
_CLEARS = {
    22: Style.BOLD | Style.FAINT,
    23: Style.ITALIC,
    24: Style.UNDERLINE,
    27: Style.INVERSE,
    28: Style.HIDDEN,
    29: Style.STRUCK,
}
_NO_UNDERLINE = [4, 0]  # "4:0"
_EIGHT = 8
_CHOOSE_FOREGROUND, _CHOOSE_BACKGROUND = 38, 48
_BY_NUMBER, _BY_VALUE = 5, 2


class Ink(NamedTuple):
    """What a cell is drawn with: two colours as 0xRRGGBB."""

    foreground: int
    background: int


def apply_rendition(pen: Pen, parameters: str) -> Pen:
    """Return the pen that "CSI parameters m" makes of another one."""
    waiting = [_numbers_of(parameter) for parameter in parameters.split(";")]
    while waiting:
        pen = _apply(pen, waiting)
    return pen


def _apply(pen: Pen, waiting: list[list[int]]) -> Pen:
    """Obey the first of several parameters, and take what belongs to it."""
    first = waiting.pop(0)
    number = first[0]
    if number in {_CHOOSE_FOREGROUND, _CHOOSE_BACKGROUND}:
        colour = _extended_colour(first[1:], waiting)
        if colour is None:
            return pen
        return pen._replace(foreground=colour) if number == _CHOOSE_FOREGROUND else pen._replace(background=colour)
    if number == 0:
        return Pen()
    if number in _CLEARS or first == _NO_UNDERLINE:
        return pen._replace(style=pen.style & ~_CLEARS.get(number, Style.UNDERLINE))
    if number in _SETS:
        return pen._replace(style=pen.style | _SETS[number])
    return _apply_named(pen, number)


def _apply_named(pen: Pen, number: int) -> Pen:
    tens, ones = divmod(number, 10)
    colour = ones if ones < _EIGHT else DEFAULT_COLOUR
    match tens:
        case 3:
            return pen._replace(foreground=colour)
        case 4:
            return pen._replace(background=colour)
        case 9 if ones < _EIGHT:
            return pen._replace(foreground=_EIGHT + ones)
        case 10 if ones < _EIGHT:
            return pen._replace(background=_EIGHT + ones)
    return pen


def _extended_colour(own: list[int], waiting: list[list[int]]) -> int | None:
    """Read the rest of "38;5;n", "38;2;r;g;b", or the same with colons (where a colour space may stand first)."""
    if own:
        kind, *values = own
        if kind == _BY_VALUE and len(values) > 3:  # noqa: PLR2004 - red, green, blue
            values = values[1:]
    else:
        kind = waiting.pop(0)[0] if waiting else 0
        count = {_BY_NUMBER: 1, _BY_VALUE: 3}.get(kind, 0)
        values = [each[0] for each in waiting[:count]]
        del waiting[:count]
    values = [min(255, value) for value in values]
    match kind, values:
        case 5, [number, *_]:
            return number
        case 2, [red, green, blue, *_]:
            return TRUE_COLOUR | red << 16 | green << 8 | blue
    return None


def ink_of(pen: Pen) -> Ink:
    """Return the colours that a pen writes with; bold makes the eight dark ones bright, as terminals do."""
    number = pen.foreground
    if pen.style & Style.BOLD and 0 <= number < _EIGHT:
        number += _EIGHT
    ink = Ink(value_of(number, FOREGROUND), value_of(pen.background, BACKGROUND))
    if pen.style & Style.INVERSE:
        ink = Ink(ink.background, ink.foreground)
    if pen.style & Style.FAINT:
        ink = ink._replace(foreground=mix(ink.foreground, ink.background, 128))
    return ink._replace(foreground=ink.background) if pen.style & Style.HIDDEN else ink


def value_of(colour: int, default: int) -> int:
    """Return a colour as 0xRRGGBB."""
    if colour == DEFAULT_COLOUR:
        return default
    return colour & 0xFFFFFF if colour & TRUE_COLOUR else PALETTE[colour]


def mix(above: int, below: int, share: int) -> int:
    """Return one colour over another; ``share`` of 255 of it covers."""
    value = 0
    for shift in (16, 8, 0):
        over, under = above >> shift & 0xFF, below >> shift & 0xFF
        value |= (over * share + under * (255 - share) + 127) // 255 << shift
    return value


def _numbers_of(parameter: str) -> list[int]:
    return [number_of(each) for each in parameter.split(":")]
