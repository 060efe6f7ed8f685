# SPDX-License-Identifier: Apache-2.0
"""The page with a terminal: what of it is others' work is as they published it, and all of it is installed."""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
from importlib import resources

import pytest

from dockstack.compute.consoles.vnc import fonts
from dockstack.deploy.configuration.nova import nova_conf, novncproxy_conf, serialproxy_conf
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.recipes import packages
from dockstack.deploy.recipes.nova import NOVNC, NOVNC_SHA512, PAGE, PAGE_VENDOR, SHARED_PAGE, VNC_PAGE

pytestmark = pytest.mark.unit

PAGES = resources.files("dockstack.deploy") / "web" / "console"
VNC_PAGES = resources.files("dockstack.deploy") / "web" / "vnc"


def test_others_files_are_unchanged():
    lines = (PAGES / "vendor/SHA256SUMS").read_text().splitlines()
    wanted = {name: digest for digest, name in (line.split() for line in lines)}
    assert wanted == {name: hashlib.sha256((PAGES / "vendor" / name).read_bytes()).hexdigest() for name in wanted}
    assert {f"vendor/{name}" for name in wanted} | {"vendor/LICENSE"} == set(PAGE_VENDOR)


def test_all_that_the_page_refers_to_is_installed():
    text = "".join((PAGES / name).read_text() for name in PAGE)
    referred = re.findall(r'(?:href|src|from)[= ]"(?:\./)?([\w./-]+)"', text)
    assert set(referred) <= {*PAGE, *PAGE_VENDOR}
    assert "vendor/xterm.mjs" in referred


def test_novnc_is_as_npm_has_it():
    package = (VNC_PAGES / "vendor" / NOVNC).read_bytes()
    assert base64.b64encode(hashlib.sha512(package).digest()).decode() == NOVNC_SHA512
    assert f"sha512-{NOVNC_SHA512}" in (VNC_PAGES / "vendor/README.md").read_text()


def test_all_that_the_vnc_page_refers_to_is_installed():
    """Tempest, for one, takes it for noVNC's only if it says so."""
    text = "".join((VNC_PAGES / name).read_text() for name in VNC_PAGE)
    assert "noVNC" in (VNC_PAGES / "vnc.html").read_text()
    referred = set(re.findall(r'(?:href|src|from)[= ]"(?:\./)?([\w./-]+)"', text))
    with tarfile.open(VNC_PAGES / "vendor" / NOVNC) as package:
        published = {f"vendor/novnc/{name.partition('/')[2]}" for name in package.getnames()}
    assert referred <= {*VNC_PAGE, *SHARED_PAGE, *published}
    assert "vendor/novnc/core/rfb.js" in referred


def test_the_novnc_proxy_listens_no_wider_than_the_apis_and_logs_no_tokens(settings):
    section = nova_conf(settings)["vnc"]
    assert section["novncproxy_host"] == settings.bind_address
    assert section["server_listen"] == section["server_proxyclient_address"] == settings.tunnel_address
    assert section["novncproxy_base_url"] == "http://127.0.0.1:6080/vnc.html"
    assert "nova.console.websocketproxy=WARN" in novncproxy_conf()["DEFAULT"]["default_log_levels"]


def test_compute_nodes_have_the_font():
    assert packages.COMPUTE == ("fonts",)
    assert DEBIAN_12.packages["fonts"] == fonts.PACKAGE


def test_the_proxy_listens_no_wider_than_the_apis_and_logs_no_tokens(settings):
    section = nova_conf(settings)["serial_console"]
    assert section["serialproxy_host"] == settings.bind_address
    assert section["proxyclient_address"] == settings.tunnel_address
    assert section["base_url"] == "ws://127.0.0.1:6083/"
    assert "nova.console.websocketproxy=WARN" in serialproxy_conf()["DEFAULT"]["default_log_levels"]
