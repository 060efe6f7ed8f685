# SPDX-License-Identifier: Apache-2.0
"""Serial consoles through Nova's API and compute manager to the driver's own port."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from nova import context as nova_context
from nova import exception, objects
from nova.tests.functional.api import client
from nova_case import SECONDS, ServersCase

from dockstack.compute.consoles.vnc import fonts
from dockstack.compute.flows.console import VNC_PORTS
from rfb_client import RfbClient

pytestmark = pytest.mark.functional


class TestSerialConsole(ServersCase):
    def setUp(self):
        super().setUp()
        self.flags(enabled=True, port_range="0:1", group="serial_console")
        self.driver()._consoles = self.driver()._build_consoles()
        self.addCleanup(self.driver()._consoles.close)

    def console(self, server):
        asked = {"remote_console": {"protocol": "serial", "type": "serial"}}
        return self.api.api_post(f"/servers/{server['id']}/remote-consoles", asked).body["remote_console"]

    def authorised(self, url):
        """What Nova's proxy finds under a token."""
        token = url.partition("?token=")[2]
        return objects.ConsoleAuthToken.validate(nova_context.get_admin_context(), token)

    def test_a_token_leads_to_the_console(self):
        self.world.log = b"booted\n"
        server = self.boot()
        found = self.console(server)
        assert found["url"].startswith("ws://127.0.0.1:6083/?token=")
        info = self.authorised(found["url"])

        with socket.create_connection((info.host, info.port), SECONDS) as viewer:
            viewer.sendall(f"CONNECT {info.internal_access_path} HTTP/1.1\r\n\r\n".encode())
            expect(viewer, b"booted\r\n")
            viewer.sendall(b"\x1b[8;30;100troot")
            expect(viewer, b"login: ROOT")
            assert "run /bin/login as 0" in self.world.calls
            assert "resize 30 100" in self.world.calls

    def test_the_proxy_finds_the_port_valid(self):
        server = self.boot()
        info = self.authorised(self.console(server)["url"])

        def is_valid(port):
            context, instance = nova_context.get_admin_context(), self.instance(server)
            return self.compute.manager.validate_console_port(context, instance, str(port), "serial")

        assert is_valid(info.port)
        assert not is_valid(info.port + 1)

    def test_the_image_may_say_what_answers(self):
        server = self.boot(metadata={"docker_console_command": '["/bin/menu", "-q"]', "docker_console_user": "guest"})
        info = self.authorised(self.console(server)["url"])

        with socket.create_connection((info.host, info.port), SECONDS) as viewer:
            viewer.sendall(f"CONNECT {info.internal_access_path} HTTP/1.1\r\n\r\nx".encode())
            expect(viewer, b"login: X")
            assert "run /bin/menu -q as guest" in self.world.calls

    def test_a_stopped_server_has_none(self):
        server = self.boot()
        self._stop_server(server)

        with pytest.raises(client.OpenStackApiException) as refusal:
            self.console(server)
        assert refusal.value.response.status_code == 409

    def test_a_full_range_is_told(self):
        server = self.boot()
        self.flags(port_range="21500:21500", group="serial_console")
        self.driver()._consoles = self.driver()._build_consoles()

        with pytest.raises(client.OpenStackApiException) as refusal:
            self.console(server)
        assert refusal.value.response.status_code == 400

    def test_a_cloud_without_consoles_says_so(self):
        self.flags(enabled=False, group="serial_console")

        with pytest.raises(client.OpenStackApiException) as refusal:
            self.console(self.boot())
        assert refusal.value.response.status_code == 400

    def vnc_console(self, server):
        asked = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
        return self.api.api_post(f"/servers/{server['id']}/remote-consoles", asked).body["remote_console"]

    def test_a_token_leads_to_a_picture(self):
        self.flags(enabled=True, group="vnc")
        self.world.log = b"booted\n"
        server = self.boot()
        url = urlsplit(self.vnc_console(server)["url"])
        path = parse_qs(url.query)["path"][0]
        assert path.startswith("?token=")
        info = self.authorised(path)
        assert info.port in VNC_PORTS
        assert info.internal_access_path != self.authorised(self.console(server)["url"]).internal_access_path

        context, instance = nova_context.get_admin_context(), self.instance(server)
        assert self.compute.manager.validate_console_port(context, instance, str(info.port), "novnc")
        with socket.create_connection((info.host, info.port), SECONDS) as viewer:
            viewer.sendall(f"CONNECT {info.internal_access_path} HTTP/1.1\r\n\r\n".encode())
            assert viewer.recv(19, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r\n\r\n"
            picture = RfbClient(viewer)
            picture.until("booted")
            picture.type("root")
            picture.until("login: ROOT")

    def test_a_host_that_cannot_draw_has_no_pictures(self):
        self.flags(enabled=True, group="vnc")
        with (
            mock.patch.object(fonts, "DIRECTORY", Path("/nowhere")),
            pytest.raises(client.OpenStackApiException) as refusal,
        ):
            self.vnc_console(self.boot())
        assert refusal.value.response.status_code == 400

    def test_a_guessed_token_leads_nowhere(self):
        self.console(self.boot())
        with pytest.raises(exception.InvalidToken):
            self.authorised("ws://127.0.0.1:6083/?token=guess")


def expect(connection: socket.socket, text: bytes) -> None:
    connection.settimeout(SECONDS)
    seen = b""
    while text not in seen:
        data = connection.recv(4096)
        assert data, f"no {text!r} in {seen!r}"
        seen += data
