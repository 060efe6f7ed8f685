# SPDX-License-Identifier: Apache-2.0
"""One environment file makes a cloud of three machines: a controller, and Debian 12 and 13 as its compute nodes.

The tests stand in the order of the cloud's life, and each takes over what the one before has left.
"""

from __future__ import annotations

import json
import time

import pytest
import yaml
from cloud_of_machines import Cloud, address_of
from lab import PATIENCE, wait_for
from observations import LEFT, flat, inside, known_of, processes_of, run_of

from dockstack.deploy.paths import ENVIRONMENT_FILE

UP_SECONDS = 1500  # for what takes five minutes on a quiet machine
AGAIN_SECONDS = 60  # for what changes nothing
GATEWAY = "198.51.100.1"  # network.external_gateway, an address of the controller
NOBODY = "10.197.0.250"

pytestmark = [pytest.mark.short, pytest.mark.timeout((2 * UP_SECONDS) * PATIENCE, func_only=True)]


@pytest.fixture(scope="module")
def nodes(lab):
    made = (lab.machine("oak", "debian-12"), lab.machine("pine", "debian-13"))
    yield made
    for one in made:
        one.power_off()


@pytest.fixture(scope="module")
def cloud(lab, nodes):
    """A machine with a checkout and a key for the nodes, and no cloud yet."""
    leader = lab.machine("leader", "debian-12")
    lab.give_checkout(leader)
    lab.give_key(leader, nodes)
    yield Cloud(leader)
    leader.power_off()


@pytest.fixture(scope="module")
def servers(cloud, nodes):
    """A server on each node, by the node's name."""
    yield {node.name: cloud.boot(f"on-{node.name}", node.name) for node in nodes}
    cloud.delete_servers()


def describe(cloud, nodes, **further):
    """Write the environment file: one is logged in to as root, the next by sudo, and so on."""
    here = cloud.controller
    chosen = {"listen_address": here.address, "network.encap_ip": here.tunnel_address, "tls.enable": True}
    told = {here.name: {"roles": ["controller", "network"], "attributes": chosen}, **further}
    for number, one in enumerate(nodes):
        told[one.name] = {
            "connector": "@ssh",
            "roles": ["compute"],
            "address": one.address,
            "user": ("root", "admin")[number % 2],
            "attributes": {"network.encap_ip": one.tunnel_address},
        }
    here.write(ENVIRONMENT_FILE, yaml.safe_dump({"nodes": told}, sort_keys=False))


def up(cloud, options="", **more):
    """Bring the cloud up; return what came of it, its own run's last event, and what came of each node."""
    done = cloud.dockstack(f"up --json {options}", timeout=UP_SECONDS, **more)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    ended = next((event for event in events if event.get("event") == "end" and "host" not in event), {})
    hosts = next((event["hosts"] for event in events if event.get("event") == "hosts"), {})
    return done, ended, hosts


def test_what_cannot_be_made_is_refused_before_anything_is_changed(cloud, nodes):
    second = {"connector": "@ssh", "address": nodes[0].address}
    describe(cloud, nodes, second=second)
    done = cloud.controller.run("cd dockstack && ./dockstack up", check=False)
    assert done.returncode == 1
    assert "Node second is to be a controller over SSH" in flat(done)
    assert not (cloud.controller.root / "opt/dockstack/openstack").exists()


def test_up_goes_on_after_kill_9_and_a_machine_that_is_down_stops_only_itself(cloud, nodes):
    describe(cloud, nodes, gone={"connector": "@ssh", "roles": ["compute"], "address": NOBODY})
    with cloud.at_work("up --json", "dockstack/dockstack"):
        wait_for(lambda: all(run_of(node) for node in nodes), "the nodes' runs", UP_SECONDS)
    assert all(run_of(node) for node in nodes), "they go on"
    done, ended, hosts = up(cloud, check=False)
    assert done.returncode == 1, "one machine is down"
    assert ended["ok"], done.stdout[-6000:]
    assert {name: host.get("joined", False) for name, host in hosts.items()} == {
        "gone": False,
        "oak": True,
        "pine": True,
    }, done.stdout[-6000:]
    assert NOBODY in hosts["gone"]["error"]
    wanted = {"oak": "enabled up", "pine": "enabled up"}
    wait_for(lambda: cloud.hosts() == wanted, "two hosts", 60)


def test_a_second_run_changes_nothing_and_is_quick(cloud, nodes):
    describe(cloud, nodes)
    machines = (cloud.controller, *nodes)
    before = [processes_of(one) for one in machines]
    began = time.monotonic()
    _, ended, hosts = up(cloud)
    assert time.monotonic() - began < AGAIN_SECONDS * PATIENCE
    assert ended["changes"] == 0
    told = {name: (one["changes"], one["sent"], one["enrolled"]["proof"]) for name, one in hosts.items()}
    assert told == dict.fromkeys(("oak", "pine"), (0, False, 0))
    assert [processes_of(one) for one in machines] == before


def test_status_shows_the_nodes(cloud):
    told = json.loads(cloud.dockstack("status --json").stdout)
    assert told["healthy"]
    assert {entry["node"]: entry["step"] for entry in told["nodes"]} == {"oak": "enabled", "pine": "enabled"}
    assert told["nodes_missing"] == []


def test_servers_on_both_reach_each_other_and_the_world_by_the_controller(cloud, nodes, servers):
    oak, pine = nodes
    for here, there in ((oak, pine), (pine, oak)):
        server, address = servers[here.name], address_of(servers[there.name])
        inside(here, server, f"ping -c 2 -W 5 {address}")
        assert inside(here, server, f"nc -w 5 {address} 22 </dev/null | head -c 7") == "SSH-2.0"
        inside(here, server, f"ping -c 2 -W 5 {GATEWAY}")
        question = "wget -qO- http://169.254.169.254/latest/meta-data/local-ipv4"
        assert inside(here, server, question) == address_of(server), f"metadata on {here.name}"


def test_a_node_that_left_the_file_is_named_and_remove_takes_it_out(cloud, nodes, servers):
    cloud.delete_servers()
    oak, pine = nodes
    describe(cloud, (oak,))
    done, _, hosts = up(cloud)
    assert list(hosts) == ["oak"]
    assert "pine stayed as before" in flat(done)
    assert cloud.hosts()["pine"] == "enabled up"
    cloud.dockstack("node remove --yes pine", timeout=UP_SECONDS)
    assert known_of(cloud, "pine") == []
    assert pine.run(f"ls -d {LEFT} 2>/dev/null", check=False).stdout == ""
    assert pine.run("pgrep -af 'nova|neutron|ovn|ovs|dockerd|dropbear'", check=False).stdout == ""
    assert "stayed as before" not in flat(up(cloud)[0])


def test_down_and_clean_name_the_node_that_stays(cloud, nodes):
    for command in ("down", "clean --yes"):
        assert "Compute nodes are left as they are: oak." in cloud.dockstack(command).stdout
    assert cloud.controller.run(f"ls -d {LEFT} 2>/dev/null", check=False).stdout == ""
    assert run_of(nodes[0]) == ""
    assert nodes[0].run("systemctl is-active dockstack-nova-compute", check=False).stdout.strip() == "active"
