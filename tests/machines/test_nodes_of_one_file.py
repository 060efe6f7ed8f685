# SPDX-License-Identifier: Apache-2.0
"""One environment file of a controller that runs servers, too, and of a node: `up` makes both, and servers move.

The cloud is there already, as somebody has it who begins on one machine and writes the file for the second.
"""

from __future__ import annotations

import json
import time

import pytest
import yaml
from cloud_of_machines import SERVER_SECONDS, address_of
from lab import PATIENCE, wait_for
from observations import container_of, inside, known_of, processes_of

from dockstack.deploy.configuration.migration import AUTHORIZED_KEYS
from dockstack.deploy.paths import ENVIRONMENT_FILE

SECONDS = 900
AGAIN_SECONDS = 60

pytestmark = pytest.mark.timeout((SECONDS + 600) * PATIENCE, func_only=True)


@pytest.fixture(scope="module")
def second(lab, cloud):
    made = lab.machine("second", "debian-13")
    lab.give_key(cloud.controller, tuple(lab.machines.values()))
    here = cloud.controller
    chosen = {"listen_address": here.address, "network.encap_ip": here.tunnel_address, "tls.enable": True}
    told = {
        "controller": {"attributes": chosen},  # without roles, it has all
        "second": {
            "connector": "@ssh",
            "roles": ["compute"],
            "address": made.address,
            "attributes": {"network.encap_ip": made.tunnel_address},
        },
    }
    here.write(ENVIRONMENT_FILE, yaml.safe_dump({"nodes": told}, sort_keys=False))
    yield made
    here.run(f"rm {ENVIRONMENT_FILE}")


@pytest.fixture(scope="module")
def servers(cloud, second):
    yield {name: cloud.boot(f"on-{name}", name) for name in ("controller", "second")}
    cloud.delete_servers()


def up(cloud):
    """Bring all of it up; return the last event of this machine's run, and what came of the node."""
    done = cloud.dockstack("up --json", timeout=SECONDS)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    ended = next(event for event in events if event.get("event") == "end" and "host" not in event)
    return ended, next(event["hosts"] for event in events if event.get("event") == "hosts")["second"]


def test_both_are_hosts(cloud, second):
    ended, node = up(cloud)
    assert ended["ok"]
    assert node["enrolled"]["enabled"]
    wait_for(lambda: cloud.hosts().get("second") == "enabled up", "the node", 60)
    assert cloud.hosts()["controller"] == "enabled up"


def test_a_second_run_changes_nothing_on_either(cloud, second):
    machines = (cloud.controller, second)
    before = [processes_of(one) for one in machines]
    began = time.monotonic()
    ended, node = up(cloud)
    assert time.monotonic() - began < AGAIN_SECONDS * PATIENCE
    assert (ended["changes"], node["changes"], node["sent"]) == (0, 0, False)
    assert [processes_of(one) for one in machines] == before


def test_servers_move_where_the_scheduler_sends_them(cloud, second, servers):
    """No host is named: the only other one is the node, or the controller's."""
    compute = cloud.connection.compute
    places = {"controller": cloud.controller, "second": second}
    for here, there in (("controller", "second"), ("second", "controller")):
        server = servers[here]
        inside(places[here], server, "echo kept >/root/kept && sync")
        compute.migrate_server(server)
        moved = compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
        assert moved.compute_host == there
        assert inside(places[there], server, "cat /root/kept") == "kept"
        inside(places[there], server, f"ping -c 2 -W 5 {address_of(servers[there])}")
        compute.confirm_server_resize(server)
        compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
        wait_for(lambda one=here, of=server: not container_of(places[one], of), "the end of what it had", 60)


def test_the_node_leaves_and_the_controllers_host_lets_it_in_no_more(cloud, second):
    cloud.delete_servers()
    cloud.dockstack("node remove --yes second", timeout=SECONDS)
    assert known_of(cloud, "second") == []
    assert len(cloud.controller.run(f"cat {AUTHORIZED_KEYS}").stdout.splitlines()) == 1, "itself alone"
