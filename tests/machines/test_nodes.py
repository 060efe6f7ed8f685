# SPDX-License-Identifier: Apache-2.0
"""Nodes join a cloud on a machine of its own, over SSH, and servers on them reach each other and move.

The tests stand in the order of a node's life, and each takes over what the one before has left.
"""

from __future__ import annotations

import json
import random
import time

import pytest
import yaml
from cloud_of_machines import NODES, SERVER_SECONDS, address_of
from lab import PATIENCE, wait_for
from observations import container_of, files_of, flat, inside, is_running, processes_of, reaches, run_of

ADD_SECONDS = 900  # for what takes two minutes on a quiet machine
AGAIN_SECONDS = 60  # for what changes nothing
RECORD = "/var/lib/dockstack/deploy/services/nova-compute.json"  # by which a node of ours is known

pytestmark = pytest.mark.timeout((ADD_SECONDS + 600) * PATIENCE, func_only=True)  # fixtures have limits of their own


@pytest.fixture(scope="module")
def servers(cloud, nodes):
    """A server on each host, by the host's name."""
    found = {name: cloud.boot(f"on-{name}", name) for name in ("controller", *(node.name for node in nodes))}
    yield found
    cloud.delete_servers()


def test_a_machine_is_looked_at_and_not_touched(cloud, nodes):
    before = [files_of(node) for node in nodes]
    told = json.loads(cloud.dockstack(f"node plan --json --environment {NODES}").stdout)
    assert [told[node.name]["fits"] for node in nodes] == [True, True]
    assert "docker-cli" not in told["twelve"]["packages"]
    assert "docker-cli" in told["thirteen"]["packages"]
    assert [files_of(node) for node in nodes] == before


def test_adding_goes_on_after_kill_9_here_and_there(cloud, nodes):
    """Killed here, the nodes' runs go on; killed there, the next command goes on from where it was."""
    seed = time.time_ns()
    print(f"seed {seed}")  # shown when the test fails
    moments = random.Random(seed)  # noqa: S311 - when to kill
    with cloud.at_work(f"node add --json --environment {NODES}"):
        wait_for(lambda: all(run_of(node) for node in nodes), "the nodes' runs", 240)
        time.sleep(moments.uniform(0, 30))  # until the first kill
    runs = [run_of(node) for node in nodes]
    assert all(runs), "they go on"
    time.sleep(moments.uniform(0, 30))  # until the second
    nodes[0].run(f"kill -9 {runs[0]}", check=False)  # it may have come to its end
    wait_for(lambda: run_of(nodes[0]) != runs[0], "the end of a killed run", 120)

    done, hosts = cloud.add(timeout=ADD_SECONDS)
    assert done.returncode == 0, done.stdout[-6000:]
    assert {name: host["joined"] for name, host in hosts.items()} == {"twelve": True, "thirteen": True}


def test_the_cloud_knows_them(cloud, nodes):
    wanted = {"controller": "enabled up", "twelve": "enabled up", "thirteen": "enabled up"}
    wait_for(lambda: cloud.hosts() == wanted, "three hosts", 60)
    named = {one.name for one in cloud.connection.compute.hypervisors()}
    assert named == set(wanted)
    listed = json.loads(cloud.dockstack("node list --json").stdout)
    assert {entry["node"]: entry["step"] for entry in listed} == {"twelve": "enabled", "thirteen": "enabled"}


def test_a_second_run_changes_nothing_and_is_quick(cloud, nodes):
    before = [processes_of(node) for node in nodes]
    began = time.monotonic()
    done, hosts = cloud.add(timeout=ADD_SECONDS)
    assert done.returncode == 0, done.stdout[-6000:]
    assert {name: (host["changes"], host["sent"]) for name, host in hosts.items()} == {
        "twelve": (0, False),
        "thirteen": (0, False),
    }
    assert time.monotonic() - began < AGAIN_SECONDS * PATIENCE
    assert [processes_of(node) for node in nodes] == before
    plan = json.loads(cloud.dockstack(f"node plan --json --environment {NODES}").stdout)
    assert [plan[node.name]["changes"] for node in nodes] == [0, 0]


def test_servers_on_all_machines_reach_each_other(cloud, nodes, servers):
    machines = {"controller": cloud.controller, **{node.name: node for node in nodes}}
    for here, server in servers.items():
        for there in sorted(set(servers) - {here}):
            address = address_of(servers[there])
            inside(machines[here], server, f"ping -c 2 -W 5 {address}")
            said = inside(machines[here], server, f"nc -w 5 {address} 22 </dev/null | head -c 7")
            assert said == "SSH-2.0", f"TCP from {here} to {there}"
        question = "wget -qO- http://169.254.169.254/latest/meta-data/local-ipv4"
        assert inside(machines[here], server, question) == address_of(server), f"metadata on {here}"


def test_a_server_moves_from_one_distribution_to_the_other_and_over_the_controllers_host_back(cloud, nodes, servers):
    (twelve, thirteen), controller = nodes, cloud.controller
    server, compute = servers["twelve"], cloud.connection.compute
    inside(twelve, server, "echo kept >/root/kept && sync")
    for here, there in ((twelve, thirteen), (thirteen, controller), (controller, twelve)):
        compute.migrate_server(server, host=there.name)
        moved = compute.wait_for_server(server, status="VERIFY_RESIZE", wait=SERVER_SECONDS * PATIENCE)
        assert moved.compute_host == there.name
        assert inside(there, server, "cat /root/kept") == "kept"
        inside(there, server, f"ping -c 2 -W 5 {address_of(servers['thirteen'])}")
        compute.confirm_server_resize(server)
        compute.wait_for_server(server, wait=SERVER_SECONDS * PATIENCE)
        wait_for(lambda one=here: not container_of(one, server), f"the end of what {here.name} had", 60)


def test_a_node_and_its_server_come_back_after_a_power_cut(cloud, nodes, servers):
    twelve, server = nodes[0], servers["twelve"]
    twelve.power_off()
    twelve.power_on()
    wait_for(lambda: is_running(twelve, server), "the server on twelve", 240)
    wait_for(lambda: cloud.hosts()["twelve"] == "enabled up", "nova-compute on twelve", 120)
    wait_for(lambda: reaches(twelve, server, servers["thirteen"]), "the way to thirteen", 60)


def test_one_machine_under_two_names_is_refused(cloud, nodes):
    options = f"--environment {NODES} --user root --known-hosts /root/.ssh/known_hosts"
    done = cloud.dockstack(f"node plan {options} twelve {nodes[0].address}", check=False)
    assert done.returncode == 1
    assert "all call themselves twelve: Nova would take them for one." in flat(done)


def test_a_machine_with_a_nova_compute_and_servers_of_others_is_refused(cloud, nodes, servers):
    """A node that is not known as ours looks like one of another cloud."""
    twelve = nodes[0]
    twelve.run(f"mv {RECORD} {RECORD}.aside")
    try:
        done = cloud.dockstack(f"node plan --environment {NODES} twelve", check=False)
    finally:
        twelve.run(f"mv {RECORD}.aside {RECORD}")
    assert done.returncode == 1
    assert "A nova-compute runs here that is not ours." in flat(done)
    assert "The engine still has 1 Docker servers, which a new compute service would not know." in flat(done)


def test_a_machine_whose_host_key_nobody_knows_is_refused(cloud, nodes):
    done = cloud.dockstack(f"node plan --environment {NODES} --known-hosts /dev/null {nodes[0].address}", check=False)
    assert done.returncode == 1
    assert "host key" in flat(done)


def test_a_wrong_password_is_refused_before_a_node_is_looked_at(cloud, nodes):
    """Of a node that works, too: nothing of it was started anew, and with the right one nothing is to be started."""
    twelve = nodes[0]
    for name in ("cloud.yaml", "cloud-secrets.yaml"):
        document = yaml.safe_load((cloud.controller.root / "etc/dockstack" / name).read_text())
        document.get("accounts.placement.password", {})["value"] = "wrong"
        cloud.controller.write(f"/root/wrong{name.removeprefix('cloud')}", yaml.safe_dump(document), 0o600)
    before = processes_of(twelve)
    done, hosts = cloud.add("--cloud wrong.yaml", twelve.name, timeout=ADD_SECONDS, check=False)
    assert (done.returncode, hosts) == (1, {})
    assert "Keystone refuses the account for placement" in flat(done)
    assert processes_of(twelve) == before
    done, hosts = cloud.add(twelve.name, timeout=ADD_SECONDS)
    assert hosts["twelve"]["joined"]
    assert processes_of(twelve) == before


def test_a_machine_with_the_name_of_a_host_of_the_cloud_is_refused(lab, cloud, nodes):
    """As a cloned image has it: the cloud would take it for that host, and cut that one's servers off."""
    clone = lab.machine("clone", "debian-12")
    clone.run("hostname twelve")
    lab.give_key(cloud.controller, (*nodes, clone))
    cloud.describe((*nodes, clone))
    done, hosts = cloud.add("clone", timeout=ADD_SECONDS, check=False)
    assert done.returncode == 1
    assert "cannot become the host twelve" in hosts["clone"]["error"]
    assert "The cloud has a host twelve already" in hosts["clone"]["details"]
    assert not clone.run("pgrep -f ovn-controller", check=False).stdout
    assert cloud.hosts()["twelve"] == "enabled up"


def test_clean_leaves_nothing_on_a_node(cloud, nodes, servers):
    cloud.delete_servers()
    thirteen = nodes[1]
    thirteen.run("dockstack clean --yes")
    left = "ls -d /opt/dockstack /etc/dockstack /etc/nova /etc/neutron /var/lib/dockstack /var/lib/nova /run/netns/*"
    assert thirteen.run(f"{left} 2>/dev/null", check=False).stdout == ""
    assert thirteen.run("pgrep -af 'nova|neutron|ovn|ovs|dockerd|dropbear'", check=False).stdout == ""
    assert thirteen.run("systemctl list-units --all --plain --no-legend 'dockstack*'").stdout == ""
    assert thirteen.run("getent passwd nova neutron", check=False).stdout == ""
