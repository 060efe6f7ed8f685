# SPDX-License-Identifier: Apache-2.0
"""The small RFB viewer against the RFB server that it is made for."""

from __future__ import annotations

import pytest

from dockstack.compute.consoles.vnc.desktop import Desktop
from dockstack.compute.consoles.vnc.glyphs import load_face
from dockstack.verify.console import NoConsole
from dockstack.verify.picture import RETURN, Picture

pytestmark = pytest.mark.unit


class Line:
    """A connection without anything in between."""

    def __init__(self) -> None:
        self.desktop = Desktop(load_face(), "web")

    def write(self, data: bytes) -> None:
        self.desktop.receive(data)

    def read(self, _seconds: float) -> bytes:
        self.desktop.paint()
        said = bytes(self.desktop.outgoing[:1000])
        del self.desktop.outgoing[:1000]
        return said


class Stranger(Line):
    def read(self, _seconds: float) -> bytes:
        return b"HTTP/1.1 200 OK\r\n\r\n"


def test_letters_have_more_colours_than_nothing():
    line = Line()
    picture = Picture(line)
    assert picture.name == "web"
    assert len(picture.take_colours()) == 2
    with pytest.raises(NoConsole, match="said nothing"):
        picture.take_colours(0.1)
    line.desktop.hear(b"\aletters")
    assert len(picture.take_colours()) > 8
    picture.press(RETURN)
    assert line.desktop.typed == b"\r"


def test_who_speaks_something_else_is_told_of():
    with pytest.raises(NoConsole, match=r"not b'RFB 003\.008"):
        Picture(Stranger())
