# SPDX-License-Identifier: Apache-2.0
"""The RFB server: its messages and pixels by equality, and a picture as a client sees it."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import zlib

import pytest

from dockstack.compute.consoles.vnc import messages
from dockstack.compute.consoles.vnc.__main__ import serve
from dockstack.compute.consoles.vnc.desktop import MOST_TYPED, Desktop, Run, Sight, find_changes
from dockstack.compute.consoles.vnc.glyphs import NoFont, load_face
from dockstack.compute.consoles.vnc.messages import (
    BrokenProtocol,
    Cut,
    Encodings,
    Ignored,
    Key,
    PixelFormat,
    UpdateRequest,
    WantedSize,
    read_message,
)
from dockstack.compute.consoles.vnc.pixels import Pixels, Zrle
from dockstack.compute.consoles.vnc.screen import Cell
from rfb_client import POINTER, RAW, SIZE, ZRLE, RfbClient

pytestmark = pytest.mark.unit

NOVNC = PixelFormat(red_shift=0, green_shift=8, blue_shift=16)
MESSAGES = [
    (b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", *NOVNC), NOVNC),
    (struct.pack(">BxHii", 2, 2, 16, -308), Encodings((16, -308))),
    (struct.pack(">BBHHHH", 3, 1, 0, 0, 800, 456), UpdateRequest(incremental=True)),
    (struct.pack(">BBxxI", 4, 1, 0xFF0D), Key(0xFF0D, down=True)),
    (struct.pack(">BBHH", 5, 1, 10, 10), Ignored()),
    (struct.pack(">BxxxI", 6, 3) + b"a\xe9b", Cut("aéb")),
    (struct.pack(">BxHHBxIHHHHI", 251, 640, 480, 1, 0, 0, 0, 640, 480, 0), WantedSize(640, 480)),
]


@pytest.mark.parametrize(("said", "meant"), MESSAGES)
def test_what_a_viewer_says(said, meant):
    assert read_message(said + b"more") == (meant, len(said))
    for end in range(len(said)):
        assert read_message(said[:end]) == (None, 0)


@pytest.mark.parametrize("said", [b"\xff", b"\x96\0", struct.pack(">BxxxI", 6, 1 << 31)])
def test_what_makes_no_sense_is_refused(said):
    with pytest.raises(BrokenProtocol):
        read_message(said)


def test_what_is_said_to_a_viewer():
    shape = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
    assert messages.server_init(800, 456, "web") == struct.pack(">HH", 800, 456) + shape + b"\0\0\0\x03web"
    name = messages.desktop_name("x")
    assert name == struct.pack(">HHHHiI", 0, 0, 0, 0, -307, 1) + b"x"
    size = messages.desktop_size(20, 10, messages.SizeNews(1, 0))
    assert size == struct.pack(">HHHHiBxxxIHHHHI", 1, 0, 20, 10, -308, 1, 0, 0, 0, 20, 10, 0)
    assert messages.update([name, size]) == b"\0\0\0\x02" + name + size


@pytest.mark.parametrize(
    ("wanted", "compact", "pixel"),
    [
        (PixelFormat(), False, b"\x03\x02\x01\x00"),
        (PixelFormat(), True, b"\x03\x02\x01"),
        (NOVNC, True, b"\x01\x02\x03"),
        (PixelFormat(big_endian=1), False, b"\x00\x01\x02\x03"),
        (PixelFormat(big_endian=1), True, b"\x01\x02\x03"),
        (PixelFormat(red_shift=24, green_shift=16, blue_shift=8), True, b"\x03\x02\x01"),
        (PixelFormat(big_endian=1, red_shift=24, green_shift=16, blue_shift=8), True, b"\x01\x02\x03"),
        (PixelFormat(depth=32), True, b"\x03\x02\x01\x00"),
        (PixelFormat(16, 16, 0, 1, 31, 63, 31, 11, 5, 0), True, b"\x00\x00"),
        (PixelFormat(8, 8, 0, 1, 7, 7, 3, 0, 3, 6), False, b"\x00"),
    ],
)
def test_pixels(wanted, compact, pixel):
    pixels = Pixels(wanted, compact=compact)
    assert pixels.build(0x010203) == pixel
    assert pixels.size == len(pixel)


def test_pixels_of_few_bits():
    assert Pixels(PixelFormat(16, 16, 0, 1, 31, 63, 31, 11, 5, 0), compact=False).build(0xFF8000) == b"\x00\xfc"
    assert Pixels(PixelFormat(8, 8, 0, 1, 7, 7, 3, 0, 3, 6), compact=False).build(0xFFFFFF) == b"\xff"


@pytest.mark.parametrize("wanted", [PixelFormat(bits=24), PixelFormat(true_colour=0), PixelFormat(8, 8, red_shift=16)])
def test_pixels_that_there_are_not(wanted):
    with pytest.raises(BrokenProtocol):
        Pixels(wanted, compact=False)


def test_zrle_is_one_stream_of_tiles():
    zrle, inflate = Zrle(), zlib.decompressobj()
    dots = [bytes(range(99)) + bytes(99)] * 2  # 66 pixels: two tiles
    for _ in range(2):
        encoded = zrle.encode(dots, 3)
        assert struct.unpack(">I", encoded[:4])[0] == len(encoded) - 4
        tile = b"\0" + dots[0][: 64 * 3] * 2
        assert inflate.decompress(encoded[4:]) == tile + b"\x01\0\0\0"


A, B = Cell("a"), Cell("b")


@pytest.mark.parametrize(
    ("before", "now", "changes"),
    [
        (None, Sight(([A, A], [A, A]), None), [Run(0, 0, 2), Run(1, 0, 2)]),
        (Sight(([A, A],), (0, 1)), Sight(([A, A],), (0, 1)), []),
        (Sight(([A, A, A],), None), Sight(([A, B, A],), None), [Run(0, 1, 2)]),
        (Sight(([A] * 9,), None), Sight(([B, *[A] * 7, B],), None), [Run(0, 0, 1), Run(0, 8, 9)]),
        (Sight(([A] * 5,), None), Sight(([B, A, A, A, B],), None), [Run(0, 0, 5)]),
        (Sight(([A] * 3, [A] * 3), (0, 0)), Sight(([A] * 3, [A] * 3), (1, 2)), [Run(0, 0, 1), Run(1, 2, 3)]),
        (Sight(([A],), (0, 0)), Sight(([A],), None), [Run(0, 0, 1)]),
        (Sight(([A],), None), Sight(([A, A],), None), [Run(0, 0, 2)]),
    ],
)
def test_only_what_has_changed_is_drawn(before, now, changes):
    assert find_changes(before, now) == changes


def test_a_host_without_the_font_says_which(tmp_path):
    with pytest.raises(NoFont, match="apt-get install fonts-dejavu-core"):
        load_face(tmp_path)


@pytest.fixture
def look():
    """Open a viewer on a console whose other end the test holds."""
    opened = []

    def make(*encodings):
        sockets = [*socket.socketpair(), *socket.socketpair()]
        far, viewer, console, line = sockets
        viewer.setblocking(False)
        console.setblocking(False)
        arguments = (viewer, console, Desktop(load_face()), selectors.DefaultSelector())
        thread = threading.Thread(target=serve, args=arguments, daemon=True)
        thread.start()
        opened.append(([*sockets, arguments[-1]], thread))
        line.settimeout(60)
        return RfbClient(far, *([encodings] if encodings else [])), line

    yield make
    for sockets, thread in opened:
        sockets[0].close()
        thread.join(60)
        assert not thread.is_alive(), "it ends with its viewer"
        for each in sockets:
            each.close()


@pytest.mark.parametrize("encodings", [(), (RAW,), (ZRLE,), (RAW, ZRLE)])
def test_a_client_sees_what_the_terminal_shows(look, encodings):
    client, line = look(*encodings)
    line.sendall(b"\x1b]2;web\x07\x1b[1mWelcome\x1b[0m\r\n$ ls\r\nfile")
    shown = client.until("file")
    assert [text for text in shown.splitlines() if text] == ["Welcome", "$ ls", "file"]
    assert (ZRLE in client.kinds) == (not encodings or encodings[0] == ZRLE)


def test_names_pointers_and_bells(look):
    client, line = look()
    line.sendall(b"\x1b]2;web\x07\aok")
    client.until("ok")
    while client.name != "web":
        client.take()
    assert client.bells == 1
    assert POINTER in client.kinds
    assert len(client.pointer) == 4 * 7 * 16 + 16


def test_only_little_is_sent_for_a_key(look):
    client, line = look(RAW)
    client.until("")
    client.take()
    client.kinds.clear()
    line.sendall(b"a")
    client.until("a")
    assert client.kinds == [RAW]


def test_keys_and_pastes_reach_the_console(look):
    client, line = look()
    client.type("ls\r")
    client.press(0xFFE3, ord("c"))
    client.paste("é\n")
    wanted = b"ls\r\x03\xc3\xa9\r"
    assert read(line, len(wanted)) == wanted
    line.sendall(b"\x1b[?1h\x1b[?2004hok")
    client.until("ok")
    client.press(0xFF52)
    client.paste("x")
    wanted = b"\x1bOA\x1b[200~x\x1b[201~"
    assert read(line, len(wanted)) == wanted


def test_the_window_decides_on_the_size(look):
    client, line = look()
    line.sendall(b"\x1b[18t")
    assert read(line, 10) == b"\x1b[8;24;80t"
    client.until("")
    while client.reasons != [0]:
        client.take()
    client.want_size(1004, 580)
    assert read(line, 11) == b"\x1b[8;30;100t"
    while client.reasons != [0, 1]:
        client.take()
    assert (client.width, client.height) == (1004, 580)
    line.sendall(b"\x1b[30;97Hlast")
    assert client.until("last").splitlines()[29].endswith("last")
    background = bytes((0x10, 0x14, 0x1A))
    assert bytes(client.framebuffer).endswith(background * 10 * 1004), "below the last whole line"
    assert all(bytes(client.framebuffer).startswith(background * 4, 3 * (1004 * row - 4)) for row in range(1, 581))


@pytest.mark.parametrize("size", [(100, 580), (1004, 80), (60000, 580), (1004, 60000)])
def test_a_window_out_of_all_proportion_changes_nothing(look, size):
    client, line = look()
    client.take()
    client.want_size(*size)
    while client.reasons != [0, 1]:
        client.take()
    assert client.statuses == [0, 3]
    assert (client.width, client.height) == (800, 456)
    line.sendall(b"ok")
    client.until("ok")


def test_a_viewer_without_sizes_is_not_told_any(look):
    client, line = look(RAW)
    line.sendall(b"ok")
    client.until("ok")
    assert SIZE not in client.kinds


@pytest.mark.parametrize("said", [b"RFB 003.003\n", b"RFB 003.008\n\x02", b"RFB 003.008\n\x01\x01\xff"])
def test_who_speaks_something_else_is_hung_up_on(said):
    with pytest.raises(BrokenProtocol):
        Desktop(load_face()).receive(said)


def test_who_says_nothing_is_hung_up_on(monkeypatch):
    monkeypatch.setattr("dockstack.compute.consoles.vnc.__main__.GREETING_SECONDS", -1.0)
    (near, far), (console, line) = socket.socketpair(), socket.socketpair()
    selector, refusal = selectors.DefaultSelector(), pytest.raises(BrokenProtocol, match="did not introduce itself")
    with near, far, console, line, selector, refusal:
        serve(near, console, Desktop(load_face()), selector)


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def test_who_asks_without_end_is_not_answered_without_end():
    desktop = Desktop(load_face())
    for _ in range(100):
        desktop.hear(b"\x1b[6n" * 1000)
    assert MOST_TYPED <= len(desktop.typed) < 2 * MOST_TYPED
