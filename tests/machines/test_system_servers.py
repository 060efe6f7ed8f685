# SPDX-License-Identifier: Apache-2.0
"""Servers of system images with Debian's own services, whose units cut off parts of their system: they start.

They ask systemd for PrivateTmp, PrivateDevices, ProtectSystem, ProtectHome and more, of which a server can have little.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from images import shared
from private_engine import PrivateEngine, remove_leftovers, remove_namespaces, uuid_prefix, wait_for
from server_lab import Lab, lab_host

from dockstack.compute import privileged
from dockstack.compute.engine import Engine
from dockstack.compute.flows import lifecycle
from dockstack.compute.model import Image
from dockstack.compute.network import ovs
from dockstack.deploy.base_image.packages import architecture
from dockstack.deploy.system_image import builder
from dockstack.deploy.system_image.packages import default_mirrors
from dockstack.deploy.system_image.recipe import SUITES, Recipe

PACKAGES = ("apache2", "mariadb-server", "redis-server")
UNITS = ("apache2", "mariadb", "redis-server")
LOOK = """
mariadb --execute 'select 40 + 2' --skip-column-names
redis-cli ping
curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1/
"""
SECONDS = 600
ANSWER_SECONDS = 180


@pytest.fixture(scope="module")
def private_engine():
    privileged.context.set_client_mode(False)
    remove_leftovers()
    made = PrivateEngine("system-servers", disk="8g")
    made.install()
    try:
        made.start()
        yield made
    finally:
        made.clean()
        remove_namespaces(uuid_prefix())


@pytest.fixture
def system_lab(private_engine, monkeypatch):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())
    made = Lab(Engine(private_engine.url, ANSWER_SECONDS), private_engine, "")
    yield made
    made.destroy()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", SUITES)
def test_services_that_cut_off_parts_of_their_system_start(private_engine, system_lab, suite, tmp_path):
    recipe, archive = Recipe(suite, architecture(), PACKAGES), tmp_path / "image.tar"
    builder.build(recipe, default_mirrors(), lambda *_: None, shared("system-images")).write(archive)

    def download(_image):
        with archive.open("rb") as file:
            yield from iter(lambda: file.read(1 << 20), b"")

    host = lab_host(private_engine, tmp_path / "host", download)
    server = system_lab.server()
    image = Image(id=suite, name=suite, container_format="docker")
    server = replace(server, image=image, limits=replace(server.limits, memory_mb=1024, disk_gb=4))
    lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))

    def ask(*command):
        return system_lab.engine.execute(server.container_name, command).output.decode(errors="replace").strip()

    def ended():
        return next((state for state in ("running", "degraded") if ask("systemctl", "is-system-running") == state), "")

    state = wait_for(ended, "the system's boot", timeout=SECONDS)
    failed = ask("systemctl", "list-units", "--failed", "--no-pager", "--plain", "--no-legend")
    said = ask("journalctl", "--no-pager", "--priority", "warning")[-5000:]
    assert ask("systemctl", "is-active", *UNITS).split() == ["active"] * len(UNITS), said
    assert ask("sh", "-c", LOOK).split() == ["42", "PONG", "200"]
    assert state == "running", failed
    lifecycle.destroy(host, server)
