# SPDX-License-Identifier: Apache-2.0
"""A node of the former OpenStack release in a cloud of this one: servers move between both, and it is upgraded.

The tests stand in the order of the node's life, and each takes over what the one before has left.
"""

from __future__ import annotations

import json

import pytest
from cloud_of_machines import NODES, SERVER_SECONDS, address_of
from lab import PATIENCE, wait_for
from observations import container_of, inside

FORMER = "2026.1"
DOCUMENT = "/root/former-cloud.yaml"
SECONDS = 900
NOVA = "/opt/dockstack/openstack/bin/python -c 'from importlib import metadata; print(metadata.version(\"nova\"))'"

pytestmark = pytest.mark.timeout((SECONDS + 600) * PATIENCE, func_only=True)


@pytest.fixture(scope="module")
def former(lab, cloud):
    made = lab.machine("former", "debian-12")
    lab.give_key(cloud.controller, tuple(lab.machines.values()))
    cloud.describe((made,))
    cloud.dockstack(f"cloud import --from-here --set release={FORMER} --cloud {DOCUMENT}")
    return made


@pytest.fixture(scope="module")
def servers(cloud, former):
    """A server on the node of the former release, and one on the controller's own host."""
    yield {name: cloud.boot(f"on-{name}", name) for name in ("former", "controller")}
    cloud.delete_servers()


def nova_of(machine):
    """Return the major version of Nova on a machine."""
    return machine.run(NOVA).stdout.partition(".")[0]


def node(cloud, line, **more):
    """Have a verb of `dockstack node` done; return what came of the node."""
    done = cloud.dockstack(f"node {line} --json --environment {NODES} former", timeout=SECONDS, **more)
    assert done.returncode == 0, done.stdout[-6000:]
    return json.loads(done.stdout.strip().splitlines()[-1])["hosts"]["former"]


def test_a_node_of_the_former_release_joins_and_all_services_go_on(cloud, former):
    told = node(cloud, f"add --cloud {DOCUMENT}")
    assert told["enrolled"]["enabled"]
    assert (nova_of(former), nova_of(cloud.controller)) == ("33", "34")
    assert cloud.hosts()["former"] == "enabled up"
    services = cloud.connection.compute.services()
    assert {f"{one.binary} {one.state}" for one in services if one.host == "controller"} == {
        "nova-compute up", "nova-conductor up", "nova-scheduler up",
    }  # fmt: skip


def test_servers_of_both_releases_reach_each_other(cloud, former, servers):
    inside(former, servers["former"], f"ping -c 2 -W 5 {address_of(servers['controller'])}")
    inside(cloud.controller, servers["controller"], f"ping -c 2 -W 5 {address_of(servers['former'])}")


def test_a_server_moves_to_the_newer_release_and_back(cloud, former, servers):
    server, compute = servers["former"], cloud.connection.compute
    inside(former, server, "echo kept >/root/kept && sync")
    for here, there in ((former, cloud.controller), (cloud.controller, former)):
        compute.migrate_server(server, host=there.name)
        moved = compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
        assert moved.compute_host == there.name
        assert inside(there, server, "cat /root/kept") == "kept"
        compute.confirm_server_resize(server)
        compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
        wait_for(lambda one=here: not container_of(one, server), f"the end of what {here.name} had", 60)


def test_a_resize_to_the_newer_release_is_reverted(cloud, former, servers):
    server, compute = servers["former"], cloud.connection.compute
    compute.migrate_server(server, host="controller")
    compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
    compute.revert_server_resize(server)
    back = compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
    assert back.compute_host == "former"
    assert inside(former, server, "cat /root/kept") == "kept"


def test_it_is_upgraded_while_its_server_runs(cloud, former, servers):
    running = f"docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' nova-{servers['former'].id}"
    before = former.run(running).stdout
    told = node(cloud, "upgrade")
    assert (told["upgraded"], told["disturbed"]) == (True, [])
    assert nova_of(former) == "34"
    assert former.run(running).stdout == before
    inside(former, servers["former"], f"ping -c 2 -W 5 {address_of(servers['controller'])}")


def test_it_leaves(cloud, former, servers):
    cloud.delete_servers()
    assert node(cloud, "remove --yes")["removed"]
