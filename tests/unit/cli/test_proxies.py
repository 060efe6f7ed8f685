# SPDX-License-Identifier: Apache-2.0
"""Behind a proxy, this machine is spoken to directly, and an error that comes of the proxy says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dockstack.cli import proxies
from dockstack.deploy.configuration.clients import _past_the_proxy
from dockstack.errors import DockstackError
from dockstack.oci.distribution.client import Account, Client
from dockstack.oci.remote.addresses import RegistryError

pytestmark = pytest.mark.unit

PROXY = "http://user:secret@proxy.example:3128"


def test_without_a_proxy_nothing_changes():
    environment = {"PATH": "/bin"}
    proxies.spare_this_machine(environment)
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_this_machine_is_excepted_beside_what_was(name):
    environment = {name: PROXY, "NO_PROXY": "intern.example, 10.0.0.0/8"}
    proxies.spare_this_machine(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"]
    excepted = environment["no_proxy"].split(",")
    assert excepted[:2] == ["intern.example", "10.0.0.0/8"]
    assert {"localhost", "127.0.0.1", "::1"} <= set(excepted)
    before = dict(environment)
    proxies.spare_this_machine(environment)
    assert environment == before, "again is fine"


def test_a_client_reaches_this_machine(monkeypatch):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the cloud")

        def log_message(self, *_arguments):
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # so that what is set below goes with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=60)
        proxies.spare_this_machine(os.environ)
        assert urllib.request.urlopen(url, timeout=60).read() == b"the cloud"


class Proxy(BaseHTTPRequestHandler):
    """A proxy that is the registry at once, and gives a token to whoever asks by it."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = b'{"token": "t"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        pass


def test_the_registrys_client_takes_the_way_of_the_clouds_other_apis(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "")
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("http_proxy", own)
        Client(Account("http://cloud.example:5005", "keystone"), "demo/x")
        assert server.asked[0].startswith("http://cloud.example:5005/token?"), "by the proxy"
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with pytest.raises(RegistryError) as caught:
            Client(Account("http://cloud.example:5005", "keystone"), "demo/x")
        assert proxies.hint(caught.value, os.environ).startswith("http_proxy is set")
        proxies.spare_this_machine(os.environ)
        Client(Account(own, "keystone"), "demo/x")
        assert server.asked[1].startswith("/token?"), "past it"
        server.shutdown()


class ProxyError(OSError):
    pass


def test_an_error_of_the_proxy_is_said_without_its_password():
    error = DockstackError("Keystone does not answer.", "Look at its log.")
    error.__cause__ = ProxyError("Tunnel connection failed")
    assert proxies.hint(error, {"https_proxy": PROXY}).startswith("https_proxy is set")
    assert "secret" not in proxies.hint(error, {"https_proxy": PROXY})
    assert proxies.hint(error, {}) == ""
    assert proxies.hint(DockstackError("No space left.", "Free some."), {"https_proxy": PROXY}) == ""
    assert proxies.hint(DockstackError("apt failed.", "Look.", "502  Bad Gateway"), {"http_proxy": PROXY})


@pytest.mark.parametrize("before", ["", "intern.example"])
def test_openrc_excepts_the_cloud_where_a_proxy_is_set(before):
    text = f"{_past_the_proxy('cloud.example')}echo $no_proxy; echo $NO_PROXY"
    run = [shutil.which("sh") or "/bin/sh", "-euc", text]
    expected = ",".join(filter(None, [before, "localhost,127.0.0.1,cloud.example"]))
    environment = {"http_proxy": PROXY} | ({"no_proxy": before} if before else {})
    said = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [expected, expected]
    quiet = ["/bin/sh", "-ec", text]
    assert subprocess.run(quiet, env={}, capture_output=True, text=True, check=True).stdout.split() == []
