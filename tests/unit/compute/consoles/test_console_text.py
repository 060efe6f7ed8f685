# SPDX-License-Identifier: Apache-2.0
"""What viewers type and are shown, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.compute.consoles.text import Newlines, Scrollback, SizeReports, smallest, title
from dockstack.compute.engine import Size

pytestmark = pytest.mark.unit


def test_a_size_is_no_typing() -> None:
    assert SizeReports().feed(b"ls\x1b[8;24;80t -l\r") == (b"ls -l\r", Size(24, 80))


def test_the_last_of_several_sizes_counts() -> None:
    assert SizeReports().feed(b"\x1b[8;24;80t\x1b[8;50;132t") == (b"", Size(50, 132))


@pytest.mark.parametrize(("said", "size"), [(b"0;0", Size(1, 1)), (b"99999;40", Size(1000, 40))])
def test_a_size_is_bounded(said, size) -> None:
    assert SizeReports().feed(b"\x1b[8;" + said + b"t") == (b"", size)


def test_a_size_in_two_pieces() -> None:
    reports = SizeReports()

    assert reports.feed(b"a\x1b[8;2") == (b"a", None)
    assert reports.feed(b"4;80tb") == (b"b", Size(24, 80))


@pytest.mark.parametrize("key", [b"\x1b", b"\x1b[", b"\x1b[8~", b"\x1b[A", b"\x1bOP", b"\x1b[8;5~"])
def test_a_key_is_not_kept_back(key) -> None:
    assert SizeReports().feed(key) == (key, None)


@given(st.binary(max_size=200).filter(lambda data: b"\x1b[8;" not in data))
def test_all_else_is_passed_on(data) -> None:
    assert SizeReports().feed(data) == (data, None)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([b"a\nb\n"], b"a\r\nb\r\n"),
        ([b"a\r\nb"], b"a\r\nb"),
        ([b"a\r", b"\nb"], b"a\r\nb"),
        ([b"\n", b"\n"], b"\r\n\r\n"),
        ([b"a", b"", b"\n"], b"a\r\n"),
    ],
)
def test_lines_begin_at_the_left_edge(pieces, shown) -> None:
    newlines = Newlines()

    assert b"".join(newlines.feed(piece) for piece in pieces) == shown


def test_a_scrollback_keeps_whole_lines_of_the_end() -> None:
    scrollback = Scrollback(20)
    for number in range(100):
        scrollback.add(b"line %02d\r\n" % number)

    assert scrollback.replay() == b"\x1b[0mline 98\r\nline 99\r\n"


def test_a_scrollback_shows_all_while_that_is_little() -> None:
    scrollback = Scrollback(100)
    scrollback.add(b"login: ")

    assert scrollback.replay() == b"login: "


@pytest.mark.parametrize(
    "question", [b"\x1b[6n", b"\x1b[c", b"\x1b[>0c", b"\x1b[18t", b"\x05", b"\x1b[?1$p", b"\x1b[?6n", b"\x1b[14;2t"]
)
def test_a_later_viewers_terminal_is_asked_nothing(question) -> None:
    scrollback = Scrollback(100)
    scrollback.add(b"\x1b[1mbold" + question + b"\x1b[2J")

    assert scrollback.replay() == b"\x1b[1mbold\x1b[2J"


@given(st.lists(st.binary(max_size=50), max_size=50), st.integers(1, 100))
def test_a_scrollback_is_bounded(pieces, limit) -> None:
    scrollback = Scrollback(limit)
    for piece in pieces:
        scrollback.add(piece)

    assert len(scrollback.replay()) <= limit + 4


def test_the_smallest_window_decides_in_both_directions() -> None:
    assert smallest([Size(24, 200), Size(50, 80)]) == Size(24, 80)
    assert smallest([]) is None


@pytest.mark.parametrize("name", ["web", "w\x07e\x1b\\b\n", "wé\x9cb"])
def test_a_name_cannot_leave_its_sequence(name) -> None:
    said = title(name)
    assert said.startswith(b"\x1b]2;")
    assert said.endswith(b"\x07")
    assert all(character.isprintable() for character in said[4:-1].decode())
