# SPDX-License-Identifier: Apache-2.0
"""A cloud of the former OpenStack release with a node; the controller goes on to this one, and the node later.

The tests stand in the order of the cloud's life, and each takes over what the one before has left.
"""

from __future__ import annotations

import json

import pytest
from cloud_of_machines import NODES, SERVER_SECONDS, Cloud, address_of
from lab import PATIENCE, wait_for
from observations import container_of, inside

FORMER, THIS = "2026.1", "2026.2"
SECONDS = 1800
NOVA = "/opt/dockstack/openstack/bin/python -c 'from importlib import metadata; print(metadata.version(\"nova\"))'"

pytestmark = pytest.mark.timeout(SECONDS * PATIENCE, func_only=True)


@pytest.fixture(scope="module")
def elder(lab):
    made = lab.machine("elder", "debian-12")
    lab.give_checkout(made)
    return Cloud(made)


@pytest.fixture(scope="module")
def former(lab, elder):
    made = lab.machine("former", "debian-12")
    lab.give_key(elder.controller, (made,))
    elder.describe((made,))
    return made


@pytest.fixture(scope="module")
def servers(elder, former):
    """A server on the node, and one on the controller's own host."""
    return {name: elder.boot(f"on-{name}", name) for name in ("former", "elder")}


def up(cloud, release):
    """Have a cloud of a release; return the last event of the run."""
    line = f"./dockstack up --json {cloud.options} --set release={release}"
    done = cloud.controller.run(f"cd dockstack && {line}", timeout=SECONDS)
    return json.loads(done.stdout.strip().splitlines()[-1])


def nova_of(machine):
    """Return the major version of Nova on a machine."""
    return machine.run(NOVA).stdout.partition(".")[0]


def node(cloud, line):
    """Have a verb of `dockstack node` done; return what came of the node."""
    done = cloud.dockstack(f"node {line} --json --environment {NODES} former", timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    return json.loads(done.stdout.strip().splitlines()[-1])["hosts"]["former"]


def lives(machine, server):
    """Return which container a server is, and since when it runs."""
    return machine.run(f"docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' nova-{server.id}").stdout


def test_a_cloud_of_the_former_release_comes_up(elder):
    assert up(elder, FORMER)["ok"]
    assert nova_of(elder.controller) == "33"
    assert elder.hosts() == {"elder": "enabled up"}


def test_a_second_run_changes_nothing(elder):
    assert up(elder, FORMER)["changes"] == 0


def test_a_node_of_the_former_release_joins(elder, former):
    elder.dockstack("cloud import --from-here")
    assert node(elder, "add")["enrolled"]["enabled"]
    assert nova_of(former) == "33"


def test_servers_go_on_while_the_controller_becomes_one_of_this_release(elder, former, servers):
    before = lives(elder.controller, servers["elder"]), lives(former, servers["former"])
    assert up(elder, THIS)["ok"]
    assert (nova_of(elder.controller), nova_of(former)) == ("34", "33")
    assert (lives(elder.controller, servers["elder"]), lives(former, servers["former"])) == before
    assert elder.hosts() == {"elder": "enabled up", "former": "enabled up"}
    inside(elder.controller, servers["elder"], "wget -qO- http://169.254.169.254/latest/meta-data/local-ipv4")


def test_servers_of_both_releases_reach_each_other(elder, former, servers):
    inside(former, servers["former"], f"ping -c 2 -W 5 {address_of(servers['elder'])}")
    inside(elder.controller, servers["elder"], f"ping -c 2 -W 5 {address_of(servers['former'])}")


def test_a_server_moves_to_the_newer_release_and_back(elder, former, servers):
    server, compute = servers["former"], elder.connection.compute
    inside(former, server, "echo kept >/root/kept && sync")
    for here, there in ((former, elder.controller), (elder.controller, former)):
        compute.migrate_server(server, host=there.name)
        moved = compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
        assert moved.compute_host == there.name
        assert inside(there, server, "cat /root/kept") == "kept"
        compute.confirm_server_resize(server)
        compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
        wait_for(lambda one=here: not container_of(one, server), f"the end of what {here.name} had", 60)


def test_a_resize_to_the_newer_release_is_reverted(elder, former, servers):
    server, compute = servers["former"], elder.connection.compute
    compute.migrate_server(server, host="elder")
    compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
    compute.revert_server_resize(server)
    back = compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
    assert back.compute_host == "former"
    assert inside(former, server, "cat /root/kept") == "kept"


def test_it_is_upgraded_while_its_server_runs(elder, former, servers):
    before = lives(former, servers["former"])
    elder.dockstack("cloud import --from-here")
    told = node(elder, "upgrade")
    assert (told["upgraded"], told["disturbed"]) == (True, [])
    assert nova_of(former) == "34"
    assert lives(former, servers["former"]) == before
    inside(former, servers["former"], f"ping -c 2 -W 5 {address_of(servers['elder'])}")


def test_it_leaves(elder, former, servers):
    elder.delete_servers()
    assert node(elder, "remove --yes")["removed"]
