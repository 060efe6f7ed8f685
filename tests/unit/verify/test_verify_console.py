# SPDX-License-Identifier: Apache-2.0
"""The websocket client, with a proxy in this process that answers byte for byte."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from dockstack.deploy.configuration import certificates
from dockstack.verify.console import NoConsole, line_of, open_console, page_of, trust

pytestmark = pytest.mark.unit


class Proxy:
    """Accepts one websocket, sends given frames, and keeps what it receives."""

    def __init__(
        self, frames: bytes, status: str = "101 Switching Protocols", tls: ssl.SSLContext | None = None
    ) -> None:
        self.received = b""
        self._tls = tls
        self._frames, self._status = frames, status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"ws{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}/?token=t"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        if self._tls:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except ssl.SSLError:  # the client has hung up
                return
        with connection, self._listener:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            self.request = request.decode()
            key = next(line for line in self.request.splitlines() if line.startswith("Sec-WebSocket-Key")).split()[1]
            digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
            accept = base64.b64encode(digest).decode()
            answer = [f"HTTP/1.1 {self._status}", "Upgrade: websocket", "Connection: Upgrade"]
            answer += [f"Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Protocol: binary", "", ""]
            connection.sendall("\r\n".join(answer).encode() + self._frames)
            while data := connection.recv(4096):
                self.received += data

    def join(self) -> bytes:
        self._thread.join(60)
        return self.received


def unmask(frame: bytes) -> bytes:
    assert frame[0] == 0x82
    assert frame[1] & 0x80, "a client masks"
    mask, data = frame[2:6], frame[6:]
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def test_frames_of_every_length_are_read() -> None:
    frames = b"\x82\x02hi" + b"\x82\x7e\x00\xc8" + b"m" * 200 + b"\x82\x7f" + (70_000).to_bytes(8) + b"l" * 70_000
    with open_console(Proxy(frames).address) as console:
        assert console.read_until(b"l" * 70_000) == b"hi" + b"m" * 200 + b"l" * 70_000
        assert console.read(0.05) == b""


def test_what_is_typed_is_masked() -> None:
    proxy = Proxy(b"")
    with open_console(proxy.address) as console:
        console.report_size(24, 80)
    assert unmask(proxy.join()) == b"\x1b[8;24;80t"
    assert proxy.request.startswith("GET /?token=t HTTP/1.1\r\n")
    assert "Sec-WebSocket-Protocol: binary" in proxy.request
    assert "Origin:" not in proxy.request


def test_a_ping_is_answered_and_not_shown() -> None:
    proxy = Proxy(b"\x89\x01p\x82\x02hi")
    with open_console(proxy.address) as console:
        assert console.read(60) == b"hi"
    assert proxy.join()[0] == 0x8A


@pytest.mark.parametrize("end", [b"\x88\x02\x03\xe8", b"\x83\x02hi"])
def test_an_end_and_nonsense_end_it(end) -> None:
    with open_console(Proxy(end).address) as console, pytest.raises(NoConsole):
        console.read(60)


def test_a_refusal_is_told() -> None:
    with pytest.raises(NoConsole, match="403"):
        open_console(Proxy(b"", "403 Forbidden").address)


def test_nobody_there_is_told() -> None:
    with socket.socket() as held:  # so that nobody else has the port either
        held.bind(("127.0.0.1", 0))
        with pytest.raises(NoConsole, match="does not answer"):
            open_console(f"ws://127.0.0.1:{held.getsockname()[1]}/?token=t")


@pytest.fixture
def authority(tmp_path):
    """A cloud's entry in clouds.yaml that trusts an authority, and what a proxy with its certificate serves with."""
    now = datetime.now(UTC)
    own = certificates.authority(None, "dockstack", now)
    (tmp_path / "authority.pem").write_text(certificates.certificate_of(own))
    holder = certificates.Holder("proxy", ("127.0.0.1",))
    (tmp_path / "proxy.pem").write_text(certificates.issued(None, own, holder, now))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "proxy.pem")
    entry = SimpleNamespace(config=SimpleNamespace(config={"cacert": str(tmp_path / "authority.pem")}))
    return entry, serving


def test_over_tls_the_clouds_authority_is_trusted_and_what_was_read_ahead_is_told(authority) -> None:
    entry, serving = authority
    proxy = Proxy(b"\x82\x02hi\x82\x05there", tls=serving)
    with open_console(proxy.address, trust(entry)) as console:
        assert console.read(60) == b"hi"
        assert console.held()
        assert console.read(60) == b"there"
        assert not console.held()


def test_another_authoritys_proxy_is_refused(authority) -> None:
    _, serving = authority
    nobody = SimpleNamespace(config=SimpleNamespace(config={}))
    with pytest.raises(NoConsole, match="certificate verify failed"):
        open_console(Proxy(b"", tls=serving).address, trust(nobody))


def test_the_page_has_the_same_address() -> None:
    assert page_of("ws://h:6083/?token=t") == "http://h:6083/?token=t"
    assert page_of("wss://h/?token=t") == "https://h/?token=t"


def test_the_websocket_behind_a_vnc_page() -> None:
    assert line_of("http://h:6080/vnc.html?path=%3Ftoken%3Dt") == "ws://h:6080/?token=t"
    assert line_of("https://h/vnc.html?path=%2Fnovnc%3Ftoken%3Dt") == "wss://h/novnc?token=t"
