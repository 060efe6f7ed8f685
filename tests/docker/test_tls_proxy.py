# SPDX-License-Identifier: Apache-2.0
"""The proxy that ends TLS: a real HAProxy with the file and the certificate of a cloud, before servers of the tests."""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler

import pytest

from tls_proxy import INSIDE, OUTSIDE, SECONDS, tls_proxy


class Telling(BaseHTTPRequestHandler):
    """Answers with what it was asked, and would keep the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        text = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class Echoing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True  # its port is held for it


@contextmanager
def serving(port, handler):
    with Server((INSIDE, port), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """The ports of what is behind the proxy, and whom its clients trust."""
    assert shutil.which("haproxy"), "these tests need a proxy: apt-get install haproxy"
    with (
        tls_proxy(tmp_path, monkeypatch) as (ports, authority),
        serving(ports.keystone, Telling),
        serving(ports.rabbitmq, Echoing),
    ):
        yield ports, ssl.create_default_context(cadata=authority)


def test_an_api_is_told_that_it_was_asked_over_https_whatever_the_client_says(cloud):
    ports, trusted = cloud
    connection = HTTPSConnection(OUTSIDE, ports.keystone, timeout=SECONDS, context=trusted)
    with closing(connection):
        connection.request("GET", "/", headers={"X-Forwarded-Proto": "http"})
        answer = connection.getresponse()
        told = answer.read().decode().lower().splitlines()
    assert answer.will_close, "a connection is for one request"
    assert [line for line in told if line.startswith("x-forwarded-proto")] == ["x-forwarded-proto: https"]


def test_the_message_bus_is_a_stream_over_tls(cloud):
    ports, trusted = cloud
    plain = socket.create_connection((OUTSIDE, ports.rabbitmq), SECONDS)
    with trusted.wrap_socket(plain, server_hostname=OUTSIDE) as stream:
        stream.sendall(b"AMQP\x00\x00\x09\x01")
        assert stream.recv(8) == b"AMQP\x00\x00\x09\x01"


def test_nobody_gets_in_in_clear(cloud):
    ports, _ = cloud
    for port, greeting in ((ports.keystone, b"GET / HTTP/1.0\r\n\r\n"), (ports.rabbitmq, b"AMQP\x00\x00\x09\x01")):
        with socket.create_connection((OUTSIDE, port), SECONDS) as plain:
            plain.sendall(greeting)
            with suppress(ConnectionResetError):
                assert plain.recv(4) not in {b"HTTP", b"AMQP"}
