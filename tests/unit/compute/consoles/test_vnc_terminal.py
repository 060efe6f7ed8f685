# SPDX-License-Identifier: Apache-2.0
"""The terminal of VNC consoles: what programs write, and what the screen then shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.compute.consoles.vnc.colours import PALETTE, Ink, apply_rendition, ink_of, mix
from dockstack.compute.consoles.vnc.screen import DEFAULT_COLOUR, TRUE_COLOUR, Pen, Style
from dockstack.compute.consoles.vnc.sequences import Control, Escape, Reader, Sequence, Text, Title
from dockstack.compute.consoles.vnc.terminal import APPLICATION_CURSOR, BRACKETED_PASTE, CURSOR_VISIBLE, Terminal

pytestmark = pytest.mark.unit

WRITTEN = b"\x1b]0;web\x07a\xc3\xa4\xe6\xbc\xa2\x1b[1;31mb\x1b[?25l\x1bP+q544e\x1b\\\x1b(0q\r\n\x1b[>4;1m\x1b[2 q"
READ = [
    Title("web"),
    Text("aä漢"),
    Sequence("", "1;31", "", "m"),
    Text("b"),
    Sequence("?", "25", "", "l"),
    Escape("(", "0"),
    Text("q"),
    Control("\r"),
    Control("\n"),
    Sequence(">", "4;1", "", "m"),
    Sequence("", "2", " ", "q"),
]


def show(written: bytes | str, rows: int = 4, columns: int = 10) -> Terminal:
    terminal = Terminal(rows, columns)
    terminal.feed(written.encode() if isinstance(written, str) else written)
    return terminal


def text_of(terminal: Terminal) -> list[str]:
    return ["".join(cell.text for cell in line if cell.text[0] != "\0").rstrip() for line in terminal.screen.lines]


def place_of(terminal: Terminal) -> tuple[int, int]:
    return terminal.screen.cursor.row, terminal.screen.cursor.column


def test_what_is_written_is_cut_into_what_it_means():
    assert list(Reader().feed(WRITTEN)) == READ


@pytest.mark.parametrize("cut", range(1, len(WRITTEN)))
def test_pieces_may_end_anywhere(cut):
    reader = Reader()
    tokens = [*reader.feed(WRITTEN[:cut]), *reader.feed(WRITTEN[cut:])]
    joined = [token for token in tokens if not isinstance(token, Text)]
    assert joined == [token for token in READ if not isinstance(token, Text)]
    assert "".join(token.text for token in tokens if isinstance(token, Text)) == "aä漢bq"


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_whatever_is_written_keeps_the_screen_whole(pieces):
    terminal = Terminal(5, 20)
    for piece in pieces:
        terminal.feed(piece.replace(b"\x00", b"\x1b["))
    assert [len(line) for line in terminal.screen.lines] == [20] * 5
    row, column = place_of(terminal)
    assert 0 <= row < 5
    assert 0 <= column < 20


@pytest.mark.parametrize(
    ("written", "shown", "place"),
    [
        ("ab\r\nc", ["ab", "c"], (1, 1)),
        ("0123456789", ["0123456789"], (0, 9)),
        ("0123456789a", ["0123456789", "a"], (1, 1)),
        ("\x1b[?7l0123456789ab", ["012345678b"], (0, 9)),
        ("1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"], (3, 1)),
        ("abc\x1b[2Dx", ["axc"], (0, 2)),
        ("abc\x1b[1G\x1b[4hx", ["xabc"], (0, 1)),
        ("abc\x1b[1G\x1b[@", [" abc"], (0, 0)),
        ("abcd\x1b[2G\x1b[2P", ["ad"], (0, 1)),
        ("abcd\x1b[2G\x1b[2X", ["a  d"], (0, 1)),
        ("abcd\x1b[3G\x1b[K", ["ab"], (0, 2)),
        ("abcd\x1b[3G\x1b[1K", ["   d"], (0, 2)),
        ("ab\r\ncd\r\nef\x1b[2;2H\x1b[J", ["ab", "c"], (1, 1)),
        ("ab\r\ncd\r\nef\x1b[2;1H\x1b[1J", ["", " d", "ef"], (1, 0)),
        ("ab\x1b[2J", [], (0, 2)),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[L", ["1", "", "2", "3"], (1, 0)),
        ("1\r\n2\r\n3\x1b[1;1H\x1b[M", ["2", "3"], (0, 0)),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\n", ["1", "3", "", "4"], (2, 0)),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2;1H\x1bM", ["1", "", "2", "4"], (1, 0)),
        ("1\r\n2\r\n3\r\n4\x1b[S", ["2", "3", "4"], (3, 1)),
        ("1\r\n2\r\n3\r\n4\x1b[99T", [], (3, 1)),
        ("a\tb", ["a       b"], (0, 9)),
        ("\x1b[3gab\tc", ["ab       c"], (0, 9)),
        ("ab\x1b7\x1b[4;4H\x1b8c", ["abc"], (0, 3)),
        ("x\x1b[3b", ["xxxx"], (0, 4)),
        ("\x1b(0lqk\x1b(Bq", ["┌─┐q"], (0, 4)),
        ("漢字", ["漢字"], (0, 4)),
        ("012345678漢", ["012345678", "漢"], (1, 2)),
        ("漢\x1b[2Gx", [" x"], (0, 2)),
        ("漢\x1b[1Gx", ["x"], (0, 1)),
        ("e\u0301\u0301\u0301\u0301\u0301\u0301", ["é\u0301\u0301\u0301"], (0, 1)),
        ("e", ["e"], (0, 1)),
        ("\x1b[2;3r\x1b[?6hx", ["", "x"], (1, 1)),
        ("a\x1b[5;5", ["a"], (0, 1)),
        ("a\x1b[999;999Hb", ["a", "", "", "         b"], (3, 9)),
        ("\x1b#8", ["EEEEEEEEEE"] * 4, (0, 0)),
        ("ab\x1bcd", ["d"], (0, 1)),
    ],
)
def test_what_the_screen_shows(written, shown, place):
    terminal = show(written)
    assert text_of(terminal) == shown + [""] * (4 - len(shown))
    assert place_of(terminal) == place


def test_the_other_screen_leaves_the_first_as_it_was():
    terminal = show("shell\r\n$ \x1b[?1049h\x1b[Heditor")
    assert text_of(terminal)[0] == "editor"
    terminal.feed(b"\x1b[?1049l")
    assert text_of(terminal)[:2] == ["shell", "$"]
    assert place_of(terminal) == (1, 2)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("\x1b[c", b"\x1b[?62;22c"),
        ("\x1b[>c", b"\x1b[>1;10;0c"),
        ("\x1b[5n", b"\x1b[0n"),
        ("ab\x1b[6n", b"\x1b[1;3R"),
        ("\x1b[18t", b"\x1b[8;4;10t"),
        ("\x1b[?2004h\x1b[?2004$p", b"\x1b[?2004;1$y"),
        ("\x1b[?1000$p", b"\x1b[?1000;2$y"),
        ("\x1b[22;0;0t\x1b[>4;1m\x1bP$qm\x1b\\", b""),
    ],
)
def test_what_programs_ask_is_answered(asked, answer):
    assert bytes(show(asked).answers) == answer


def test_modes_title_and_bell():
    terminal = show("\x1b[?1h\x1b[?2004h\x1b[?25l\x1b]2;web\x07\a\a")
    assert {APPLICATION_CURSOR, BRACKETED_PASTE} <= terminal.modes
    assert CURSOR_VISIBLE not in terminal.modes
    assert (terminal.title, terminal.bells) == ("web", 2)


@pytest.mark.parametrize(
    ("rows", "columns", "shown", "place"),
    [
        (4, 20, ["1", "2", "3", "$"], (3, 1)),
        (2, 10, ["3", "$"], (1, 1)),
        (6, 10, ["1", "2", "3", "$", "", ""], (3, 1)),
    ],
)
def test_another_size_keeps_the_cursors_line(rows, columns, shown, place):
    terminal = show("1\r\n2\r\n3\r\n$")
    terminal.resize(rows, columns)
    assert text_of(terminal) == shown
    assert place_of(terminal) == place
    assert terminal.size_report == f"\x1b[8;{rows};{columns}t".encode()


@pytest.mark.parametrize(
    ("parameters", "pen"),
    [
        ("", Pen()),
        ("0", Pen()),
        ("1;4", Pen(style=Style.BOLD | Style.UNDERLINE)),
        ("4:3", Pen(style=Style.UNDERLINE)),
        ("4;4:0", Pen()),
        ("1;2;22", Pen()),
        ("31;42", Pen(1, 2)),
        ("91;102", Pen(9, 10)),
        ("31;39", Pen()),
        ("38;5;200", Pen(200)),
        ("48;2;1;2;3;7", Pen(DEFAULT_COLOUR, TRUE_COLOUR | 0x010203, Style.INVERSE)),
        ("38:2::1:2:3", Pen(TRUE_COLOUR | 0x010203)),
        ("38:5:7", Pen(7)),
        ("38;5", Pen()),
        ("38", Pen()),
        ("38;2;1", Pen()),
        ("99;110;1000", Pen()),
        ("x;1", Pen(style=Style.BOLD)),
    ],
)
def test_colours_and_styles(parameters, pen):
    assert apply_rendition(Pen(), parameters) == pen


def test_what_a_pen_looks_like():
    assert ink_of(Pen(1, 4)) == Ink(PALETTE[1], PALETTE[4])
    assert ink_of(Pen(1, 4, Style.BOLD)) == Ink(PALETTE[9], PALETTE[4])
    assert ink_of(Pen(1, 4, Style.INVERSE)) == Ink(PALETTE[4], PALETTE[1])
    assert ink_of(Pen(1, 4, Style.HIDDEN)) == Ink(PALETTE[4], PALETTE[4])
    assert ink_of(Pen(TRUE_COLOUR | 0x0A0B0C, 231)) == Ink(0x0A0B0C, 0xFFFFFF)
    assert mix(0xFF00FF, 0x00FF00, 255) == 0xFF00FF
    assert mix(0xFF00FF, 0x00FF00, 0) == 0x00FF00
    assert mix(0xFFFFFF, 0, 128) == 0x808080
