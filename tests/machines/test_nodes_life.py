# SPDX-License-Identifier: Apache-2.0
"""Nodes of a cloud are let in, checked, drained, upgraded and removed, as an administrator does it on the controller.

The tests stand in the order of a node's life, and each takes over what the one before has left.
"""

from __future__ import annotations

import json
import random
import time

import chaos_of_machines
import pytest
from cloud_of_machines import NODES
from lab import PATIENCE, RUNNING, wait_for
from observations import LEFT, known_of

from dockstack.chaos import survey
from dockstack.chaos.model import Wishes
from dockstack.chaos.report import summary_of
from dockstack.deploy.configuration.migration import AUTHORIZED_KEYS

ADD_SECONDS = 900
STEPS = 3  # that each verb has at least, and the last of them takes longer than 5 s
DOWN_SECONDS = 180  # until Nova takes a nova-compute for down: a minute after its last report
STORY = Wishes(seed=27, minutes=5, kills=34, servers=4, hosts=3)  # each node loses its power once
SITE = "$(echo /opt/dockstack/cli/lib/python3.*/site-packages/dockstack)"

pytestmark = pytest.mark.timeout((ADD_SECONDS + 600) * PATIENCE, func_only=True)  # fixtures have limits of their own


@pytest.fixture(scope="module", autouse=True)
def _only_nodes(cloud, nodes):
    """Servers that move go to nodes, as there is a controller that runs none in most clouds."""
    cloud.describe(nodes)
    yield
    own = next(iter(cloud.connection.compute.services(binary="nova-compute", host="controller")))
    cloud.connection.compute.enable_service(own)


def verb(cloud, line, **more):
    """Have a verb of `dockstack node` done; return what came of it, and of each host."""
    name, _, rest = line.partition(" ")
    done = cloud.dockstack(f"node {name} --json --environment {NODES} {rest}", timeout=ADD_SECONDS, **more)
    last = done.stdout.strip().splitlines()[-1:]
    return done, json.loads(last[0])["hosts"] if last and '"hosts"' in last[0] else {}


def killed(cloud, verb_of_it, host):
    """Kill a verb at some moment of its work on a host; what it has done by then, stays."""
    seed = time.time_ns()
    print(f"seed {seed}")  # shown when the test fails
    moment = random.Random(seed)  # noqa: S311 - when to kill
    step = moment.randint(1, STEPS)
    with cloud.at_work(f"node {verb_of_it} --json --environment {NODES} {host}") as work:
        wait_for(lambda: work.steps >= step or not work.goes_on, f"step {step} of {verb_of_it}", ADD_SECONDS)
        time.sleep(moment.uniform(0, 5))  # somewhere within that step
        assert work.goes_on, f"`{verb_of_it}` was over before it was killed, in step {step}"


def test_machines_that_were_cleaned_by_hand_are_forgotten_and_let_in_again(cloud, nodes):
    """However the tests before have left them, afterwards they are nodes, proven and enabled."""
    gone = [
        one for one in nodes if one.name in cloud.hosts() and one.run("test -e /etc/dockstack", check=False).returncode
    ]
    for one in gone:
        wait_for(lambda name=one.name: "down" in cloud.hosts()[name], f"{one.name} to be down", DOWN_SECONDS)
    if gone:
        done, told = verb(cloud, f"remove --yes {' '.join(one.name for one in gone)}")
        assert done.returncode == 0, done.stdout[-4000:]
        assert [known_of(cloud, one.name) for one in gone] == [[] for _ in gone]
    for one in gone:
        one.run("systemctl restart tunnel-bridge")  # it was a bridge of the switch that is gone
    done, told = verb(cloud, "add")
    assert done.returncode == 0, done.stdout[-6000:]
    assert [told[one.name]["enrolled"]["enabled"] for one in nodes] == [True, True]
    assert all(told[one.name]["enrolled"]["proof"] > 0 for one in gone)
    assert {name: cloud.hosts()[name] for name in ("twelve", "thirteen")} == dict.fromkeys(
        ("twelve", "thirteen"), "enabled up"
    )
    assert not [one.name for one in cloud.connection.compute.servers(all_projects=True) if "proof" in one.name]
    assert not [one.name for one in cloud.connection.network.networks() if "proof" in one.name]


def test_a_second_run_proves_nothing_again(cloud, nodes):
    began = time.monotonic()
    done, told = verb(cloud, "add")
    assert done.returncode == 0
    assert [(one["changes"], one["enrolled"]["proof"]) for one in told.values()] == [(0, 0), (0, 0)]
    assert time.monotonic() - began < 60 * PATIENCE


def test_they_are_well_and_one_that_is_not_says_so(cloud, nodes):
    done, told = verb(cloud, "check")
    assert [one["well"] for one in told.values()] == [True, True], told
    assert done.returncode == 0
    nodes[0].run("systemctl stop dockstack-neutron-ovn-agent")
    done, told = verb(cloud, "check", check=False)
    assert (done.returncode, told["twelve"]["well"], told["thirteen"]["well"]) == (1, False, True)
    assert any("neutron-ovn-agent" in each["text"] for each in told["twelve"]["findings"])
    verb(cloud, "add twelve")
    assert verb(cloud, "check twelve")[1]["twelve"]["well"]


def test_a_drained_node_is_empty_also_after_kill_9_and_comes_back(cloud, nodes):
    compute = cloud.connection.compute
    own = next(iter(compute.services(binary="nova-compute", host="controller")))
    compute.disable_service(own)
    servers = [cloud.boot(f"moves-{number}", "twelve") for number in range(2)]
    with cloud.at_work(f"node drain --json --environment {NODES} twelve"):
        wait_for(lambda: any(compute.get_server(one.id).task_state for one in servers), "a move", 120)
    done, told = verb(cloud, "drain twelve --reason test", check=False)
    assert told["twelve"]["unmoved"] == [], told
    assert done.returncode == 0
    assert {compute.get_server(one.id).compute_host for one in servers} == {"thirteen"}
    assert {compute.get_server(one.id).status for one in servers} == {"ACTIVE"}
    assert cloud.hosts()["twelve"] == "disabled up"
    done, told = verb(cloud, "drain thirteen", check=False)
    assert (done.returncode, len(told["thirteen"]["unmoved"])) == (1, 2), "there is no other host"
    for name in ("twelve", "thirteen"):
        assert verb(cloud, f"undrain {name}")[1][name]["enabled"]
    cloud.delete_servers()


@pytest.mark.timeout(2400 * PATIENCE, func_only=True)
def test_nothing_is_lost_when_nodes_and_what_runs_on_them_are_killed(cloud, nodes, monkeypatch):
    """`dockstack chaos`, on three machines, two of which lose their power."""
    monkeypatch.setattr(survey, "list_loops", frozenset)  # they are the whole kernel's; nothing here has one
    monkeypatch.setattr(survey, "list_living", chaos_of_machines.list_living)
    own = next(iter(cloud.connection.compute.services(binary="nova-compute", host="controller")))
    cloud.connection.compute.disable_service(own)
    outcome = chaos_of_machines.tell(cloud, nodes, STORY)
    print(summary_of(outcome, RUNNING))
    assert outcome.findings == []
    assert sum(outcome.kills.values()) > outcome.missed
    assert outcome.lines > 0, "the servers' logs were read"


def test_an_upgrade_leaves_servers_alone_and_one_that_fails_goes_back(cloud, nodes):
    twelve, thirteen = nodes
    server = cloud.boot("stays", "twelve")
    running = f"docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' nova-{server.id}"
    before = twelve.run(running).stdout
    old = thirteen.run("cat /opt/dockstack/openstack/.dockstack-driver").stdout
    cloud.controller.run(f"cp {SITE}/names.py names.py && echo '# another' >>{SITE}/names.py")
    killed(cloud, "upgrade", "twelve")
    done, told = verb(cloud, "upgrade twelve")
    assert done.returncode == 0, done.stdout[-6000:]
    assert (told["twelve"]["upgraded"], told["twelve"]["disturbed"]) == (True, [])
    assert twelve.run(running).stdout == before
    assert twelve.run("cat /opt/dockstack/openstack/.dockstack-driver").stdout != old
    assert verb(cloud, "upgrade twelve")[1]["twelve"]["changes"] == 0

    stages = f"{SITE}/deploy/join/stages.py"
    cloud.controller.run(f"cp {stages} stages.py && sed -i 's/    def start_compute.*/&\\n        1 \\/ 0/' {stages}")
    done, told = verb(cloud, "upgrade thirteen", check=False)
    cloud.controller.run(f"cp names.py {SITE}/names.py && cp stages.py {stages}")
    assert done.returncode == 1
    assert "thirteen runs its former version again" in told["thirteen"]["error"], told
    assert thirteen.run("cat /opt/dockstack/openstack/.dockstack-driver").stdout == old
    assert thirteen.run("ls -d /opt/dockstack/former", check=False).stdout == ""
    assert cloud.hosts()["thirteen"] == "enabled up"
    assert verb(cloud, "upgrade", check=False)[0].returncode == 1, "none was named"
    assert verb(cloud, "upgrade twelve")[0].returncode == 0, "back to the version before"
    cloud.delete_servers()


def test_a_removed_node_leaves_nothing_and_others_containers_stay(cloud, nodes):
    twelve, thirteen = nodes
    cloud.boot("stays", "twelve")
    done, told = verb(cloud, "remove --yes twelve", check=False)
    assert done.returncode == 1
    assert "1 servers on twelve: stays" in told["twelve"]["error"]
    assert cloud.hosts()["twelve"] == "enabled up", "it was not touched"
    cloud.delete_servers()
    twelve.run("tar -cC / etc/hostname | docker import - foreign:1 && docker create --name foreign foreign:1 true")
    killed(cloud, "remove --yes", "twelve")
    done, told = verb(cloud, "remove --yes twelve")
    assert done.returncode == 0, done.stdout[-4000:]
    assert known_of(cloud, "twelve") == []
    let_in = [one.run(f"cat {AUTHORIZED_KEYS}").stdout.splitlines() for one in (thirteen, cloud.controller)]
    assert [len(lines) for lines in let_in] == [2, 2], "each lets in itself and the other alone"
    assert twelve.run(f"ls -d {LEFT} 2>/dev/null", check=False).stdout == ""
    assert twelve.run("pgrep -af 'nova|neutron|ovn|ovs|dropbear'", check=False).stdout == ""
    twelve.run("systemctl start docker")
    assert twelve.run("docker ps -a --format '{{.Names}}'").stdout.split() == ["foreign"]
    assert twelve.run("docker images --format '{{.Repository}}'").stdout.split() == ["foreign"]
    assert verb(cloud, "remove --yes twelve")[1]["twelve"] == {"removed": True, "hostname": "twelve", "changed": False}


def test_a_dead_node_is_forgotten(cloud, nodes):
    thirteen = nodes[1]
    thirteen.power_off()
    done, told = verb(cloud, "remove --lost --yes thirteen", check=False)
    assert done.returncode == 1
    assert "it is not lost" in told["thirteen"]["error"]
    wait_for(lambda: "down" in cloud.hosts()["thirteen"], "thirteen to be down", DOWN_SECONDS)
    done, told = verb(cloud, "remove --lost --yes thirteen")
    assert done.returncode == 0, done.stdout[-4000:]
    assert known_of(cloud, "thirteen") == []
