# SPDX-License-Identifier: Apache-2.0
"""The page with a terminal: what of it is others' work is as they published it, and all of it is installed."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import pytest

from dockstack.deploy.configuration.nova import nova_conf, serialproxy_conf
from dockstack.deploy.recipes.nova import PAGE, PAGE_VENDOR

pytestmark = pytest.mark.unit

PAGES = resources.files("dockstack.deploy") / "console"


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


def test_the_proxy_listens_no_wider_than_the_apis_and_logs_no_tokens(settings):
    section = nova_conf(settings)["serial_console"]
    assert section["serialproxy_host"] == settings.bind_address
    assert section["proxyclient_address"] == settings.tunnel_address
    assert section["base_url"] == "ws://127.0.0.1:6083/"
    assert "nova.console.websocketproxy=WARN" in serialproxy_conf()["DEFAULT"]["default_log_levels"]
