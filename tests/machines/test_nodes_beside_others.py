# SPDX-License-Identifier: Apache-2.0
"""A machine at work with containers of others becomes a node with an engine of dockstack's own, and leaves again.

Whose containers they are, and their engine, notice nothing of either.
"""

from __future__ import annotations

import json

import pytest
from cloud_of_machines import NODES
from lab import PATIENCE, wait_for
from observations import LEFT, known_of

from dockstack.deploy import paths

OWN = f"unix://{paths.RUN}/docker.sock"
SECONDS = 900
INSTALL = "apt-get install -qy --no-install-recommends docker.io iptables >/dev/null && systemctl start docker"
# A program and what it needs, as an image.
FILES = "usr/bin/sleep lib/x86_64-linux-gnu/libc.so.6 lib64/ld-linux-x86-64.so.2"
IMPORT = f"tar -chC / {FILES} | docker import - foreign:1"
RUN = "docker run -d --restart always --name foreign foreign:1 /usr/bin/sleep 100000"

pytestmark = pytest.mark.timeout((SECONDS + 600) * PATIENCE, func_only=True)


@pytest.fixture(scope="module")
def shared(lab, cloud):
    """A machine whose engine runs a container of somebody else's."""
    made = lab.machine("shared", "debian-12")
    made.run(INSTALL)
    made.run(f"docker inspect foreign >/dev/null 2>&1 || {{ {IMPORT}; {RUN}; }}")
    lab.give_key(cloud.controller, tuple(lab.machines.values()))
    return made


@pytest.fixture(scope="module")
def before(shared):
    return foreign(shared)


def foreign(machine):
    """Return what tells whether the engine of others, or what is in it, was touched."""
    asked = (
        "cat /run/docker.pid",
        "docker inspect --format '{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' foreign",
        "docker ps -aq --no-trunc",
        "docker images -q --no-trunc",
        "docker network ls -q --no-trunc",
        "ls /etc/docker",
        "iptables-save | grep -v '^[#:]'",
    )
    return {line: machine.run(line, check=False).stdout for line in asked}


def verb(cloud, line, **more):
    """Have a verb of `dockstack node` done; return what came of the machine."""
    done = cloud.dockstack(f"node {line} --json --environment {NODES} shared", timeout=SECONDS, **more)
    last = json.loads(done.stdout.strip().splitlines()[-1])
    return done, last["hosts"]["shared"]


def test_it_is_said_why_it_gets_an_engine_of_its_own(cloud, shared, before):
    cloud.describe((shared,))
    told = json.loads(cloud.dockstack(f"node plan --json --environment {NODES} shared").stdout)["shared"]
    assert told["fits"], told
    assert "the machine's runs containers of others: foreign" in told["engine"]
    assert foreign(shared) == before


def test_it_becomes_a_node_with_a_server_in_that_engine(cloud, shared, before):
    done, told = verb(cloud, "add")
    assert done.returncode == 0, done.stdout[-6000:]
    assert told["joined"]
    assert told["enrolled"]["enabled"]
    server = cloud.boot("beside", "shared")
    own = shared.run(f"docker -H {OWN} ps --format '{{{{.Names}}}}'").stdout.split()
    assert own == [f"nova-{server.id}"]
    shared.run(f"docker -H {OWN} exec nova-{server.id} ping -c 2 -W 5 {gateway(cloud)}")
    assert foreign(shared) == before


def gateway(cloud):
    """Return an address that the server's network answers at."""
    return next(iter(cloud.connection.network.subnets(name="private-v4"))).gateway_ip


def test_a_second_run_changes_nothing_and_all_is_well(cloud, shared, before):
    _, told = verb(cloud, "add")
    assert (told["changes"], told["sent"]) == (0, False)
    _, told = verb(cloud, "check")
    assert told["well"], told
    assert foreign(shared) == before


def test_after_a_power_cut_both_engines_run_what_they_had(cloud, shared):
    shared.power_off()
    shared.power_on()
    wait_for(lambda: "foreign" in shared.run("docker ps", check=False).stdout, "the container of others", 120)
    wait_for(lambda: "nova-" in shared.run(f"docker -H {OWN} ps", check=False).stdout, "the server", 240)
    wait_for(lambda: cloud.hosts()["shared"] == "enabled up", "nova-compute", 120)


def test_it_leaves_and_nothing_of_it_stays_beside_the_engine_of_others(cloud, shared):
    cloud.delete_servers()
    before = foreign(shared)
    done, told = verb(cloud, "remove --yes")
    assert done.returncode == 0, done.stdout[-4000:]
    assert told["removed"]
    assert known_of(cloud, "shared") == []
    assert shared.run(f"ls -d {LEFT} {paths.VAR} {paths.RUN} 2>/dev/null", check=False).stdout == ""
    assert shared.run("pgrep -af 'nova|neutron|ovn|ovs|dropbear|dockstack'", check=False).stdout == ""
    assert len(shared.run("pgrep -x dockerd").stdout.split()) == 1, "that of others"
    assert foreign(shared) == before
