# SPDX-License-Identifier: Apache-2.0
"""A cloud of the former OpenStack release, by `up --set release=...`; and its way to this one, while a server runs."""

from __future__ import annotations

import json

import pytest
from cloud_of_machines import Cloud
from lab import PATIENCE
from observations import inside

FORMER, THIS = "2026.1", "2026.2"
SECONDS = 1800
NOVA = "/opt/dockstack/openstack/bin/python -c 'from importlib import metadata; print(metadata.version(\"nova\"))'"

pytestmark = pytest.mark.timeout(SECONDS * PATIENCE, func_only=True)


@pytest.fixture(scope="module")
def elder(lab):
    made = lab.machine("elder", "debian-12")
    lab.give_checkout(made)
    yield Cloud(made)
    made.power_off()


def up(cloud, release):
    """Have a cloud of a release; return the last event of the run."""
    line = f"./dockstack up --json {cloud.options} --set release={release}"
    done = cloud.controller.run(f"cd dockstack && {line}", timeout=SECONDS)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_it_comes_up_and_boots_its_first_server(elder):
    assert up(elder, FORMER)["ok"]
    assert elder.controller.run(NOVA).stdout.startswith("33.")
    assert elder.hosts() == {"elder": "enabled up"}


def test_a_second_run_changes_nothing(elder):
    assert up(elder, FORMER)["changes"] == 0


def test_its_servers_go_on_while_it_becomes_one_of_this_release(elder):
    server = elder.boot("stays", "elder")
    running = f"docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' nova-{server.id}"
    before = elder.controller.run(running).stdout
    assert up(elder, THIS)["ok"]
    assert elder.controller.run(NOVA).stdout.startswith("34.")
    assert elder.controller.run(running).stdout == before
    inside(elder.controller, server, "wget -qO- http://169.254.169.254/latest/meta-data/local-ipv4")
    elder.connection.compute.reboot_server(server, "HARD")
    elder.connection.compute.wait_for_server(server)
    elder.delete_servers()
