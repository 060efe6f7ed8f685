# SPDX-License-Identifier: Apache-2.0
"""What is said of a node that is not as it should be, on its machine and in its cloud."""

from __future__ import annotations

import json

import pytest

from dockstack.deploy.administration import api
from dockstack.deploy.configuration.compute_node import NodeFile
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join import checking
from dockstack.deploy.join.checking import Level, Seen, check
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.file_changes import file_change
from dockstack.deploy.join.plan import NodePlan
from dockstack.deploy.join.survey import Survey
from dockstack.deploy.run.preflight import Problem
from dockstack.deploy.wanted import inventory
from fake_cloud import administered

pytestmark = pytest.mark.unit
HOST = "one.example.org"
WEB = "11111111-1111-4111-8111-111111111111"
GONE = "22222222-2222-4222-8222-222222222222"
MACHINES = engine_of(inventory.load(None).local.attributes)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch) as made:
        made.add_host(HOST)
        yield made


@pytest.fixture
def administrator(fake):
    return api.connect("dockstack")


def texts(findings):
    return [(each.subject, each.text) for each in findings]


def test_a_machine_as_it_should_be_has_no_findings():
    assert list(checking.on_machine(NodePlan(HOST), Seen())) == []


def test_what_differs_from_the_plan_is_named():
    change = file_change("/etc/nova/nova.conf", NodeFile("a = 1\n"), None, ())
    problems = (Problem("Its clock is 9 s behind.", "chrony"), Problem("Little memory.", "More.", warning=True))
    plan = NodePlan(HOST, problems, ("lxcfs",), ("/opt/dockstack/openstack: OpenStack 2026.2",), (change,))
    found = list(checking.on_machine(plan, Seen(current=False, unhealthy={"nova-compute": "does not answer"})))
    assert texts(found) == [
        ("machine", "Its clock is 9 s behind."),
        ("machine", "Little memory."),
        ("packages", "missing: lxcfs"),
        ("version", "not installed: /opt/dockstack/openstack: OpenStack 2026.2"),
        ("configuration", "/etc/nova/nova.conf is not as it was written: new"),
        ("version", "its dockstack is another one"),
        ("services", "nova-compute: does not answer"),
    ]
    assert [each.level for each in found if each.level is Level.WARNING] == [Level.WARNING] * 2
    assert all(each.cure for each in found)


def test_what_a_node_says_is_one_word_of_a_command_that_is_advised(administrator):
    seen = Seen(unhealthy={"x;reboot": "down"}, containers={"nova-x;reboot": "x;reboot"})
    found = [*checking.on_machine(NodePlan(HOST), seen), *checking.containers(administrator, HOST, seen)]
    assert [each.cure.count("'x;reboot'") + each.cure.count("'nova-x;reboot'") for each in found] == [1, 1]


def test_a_node_whose_dockstack_is_broken_says_so():
    assert texts(checking.on_machine(NodePlan(HOST), Seen(unhealthy=None))) == [
        ("services", "its dockstack does not tell how its services are")
    ]


def test_an_engine_that_does_not_answer_says_nothing_of_servers(fake, administrator):
    fake.add_server("web", HOST, id=WEB)
    seen = Seen(containers=None)
    assert texts(checking.on_machine(NodePlan(HOST), seen)) == [("engine", "it does not answer")]
    assert list(checking.containers(administrator, HOST, seen)) == []


def test_a_host_that_the_cloud_has_whole_has_no_findings(fake, administrator):
    seen = Seen(processors=2, memory_mb=4096, containers={f"nova-{WEB}": WEB})
    fake.add_server("web", HOST, id=WEB)
    assert list(checking.in_nova(administrator, HOST)) == []
    assert list(checking.in_placement(administrator, HOST, seen)) == []
    assert list(checking.in_neutron(administrator, HOST)) == []
    assert list(checking.containers(administrator, HOST, seen)) == []


def test_what_the_cloud_lacks_of_a_host_is_named(administrator):
    assert texts(checking.in_nova(administrator, "none")) == [("nova", "the cloud knows no compute service of it")]
    assert texts(checking.in_placement(administrator, "none", Seen())) == [
        ("placement", "there is no resource provider of it")
    ]
    assert texts(checking.in_neutron(administrator, "none")) == [("neutron", "the cloud knows no network agents of it")]


def test_a_service_that_is_down_disabled_or_not_mapped_is_named(fake, administrator):
    fake.services[HOST] |= {"state": "down", "status": "disabled", "disabled_reason": "new disks"}
    fake.mapped.clear()
    found = list(checking.in_nova(administrator, HOST))
    assert texts(found) == [
        ("nova", "its compute service is down"),
        ("nova", "its compute service is disabled: new disks"),
        ("nova", "it is not mapped to a cell, and gets no servers"),
    ]
    assert [each.level for each in found] == [Level.WRONG, Level.WARNING, Level.WRONG]
    fake.services[HOST]["forced_down"] = True
    assert texts(checking.in_nova(administrator, HOST))[0] == ("nova", "its compute service is forced down")


def test_what_it_offers_is_held_against_what_it_has(fake, administrator):
    fake.provider_of(HOST)["inventory"] = {"VCPU": 8, "MEMORY_MB": 2048}
    assert [each.text for each in checking.in_placement(administrator, HOST, Seen(processors=2, memory_mb=4096))] == [
        "it offers no DISK_GB",
        "it offers 8 processors and has 2",
        "it offers 2048 MiB of memory and has 4096",
    ]
    fake.provider_of(HOST)["inventory"] = {"PCPU": 2, "MEMORY_MB": 4090, "DISK_GB": 1}
    assert list(checking.in_placement(administrator, HOST, Seen(processors=2, memory_mb=4096))) == []


def test_agents_that_do_not_report_are_named(fake, administrator):
    next(iter(fake.agents.values()))["alive"] = False
    assert texts(checking.in_neutron(administrator, HOST)) == [("neutron", "its OVN Controller agent does not report")]


def test_containers_without_servers_and_servers_without_containers_are_named(fake, administrator):
    fake.add_host("other")
    fake.add_server("web", HOST, id=WEB)
    elsewhere = fake.add_server("moved", "other")
    resizing = fake.add_server("resizing", "other", "VERIFY_RESIZE")
    fake.add_move(resizing, "resize", HOST, "other")
    fake.add_server("shelved", HOST, "SHELVED")
    known = {f"nova-{each}": each for each in (GONE, elsewhere, resizing)}
    found = texts(checking.containers(administrator, HOST, Seen(containers=known)))
    assert sorted(found) == sorted(
        [
            ("containers", f"nova-{GONE} belongs to no server that Nova has here"),
            ("containers", f"nova-{elsewhere} belongs to a server that is on other"),
            ("containers", f"web ({WEB}) is ACTIVE and has no container"),
        ]
    )


def test_the_machine_is_asked_over_ssh(connected, tmp_path):
    lines = [f"id nova-{WEB} {WEB}", f"id nova-{WEB}-stale-1 {WEB}", f"id users-own {GONE}"]
    services = [
        {"name": "nova-compute", "healthy": False, "problem": "", "state": "stopped"},
        {"name": "ovsdb", "healthy": True, "problem": "", "state": "running"},
    ]
    for path, text in (
        (tmp_path / "stubs" / "docker", "\n".join(lines)),
        (tmp_path / "stubs" / "nproc", "4"),
        (tmp_path / "cli" / "bin" / "python", json.dumps({"services": services}, indent=1)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\ncat <<'end'\n{text}\nend\n")
        path.chmod(0o755)
    seen = checking.see(connected, MACHINES, CommandLine(str(tmp_path / "cli")))
    assert (seen.current, seen.unhealthy, seen.processors) == (False, {"nova-compute": "stopped"}, 4)
    assert seen.memory_mb > 100
    assert seen.containers == {f"nova-{WEB}": WEB, f"nova-{WEB}-stale-1": WEB}


def test_a_machine_without_an_engine_is_asked_all_the_same(connected, server, tmp_path):
    (tmp_path / "stubs" / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "stubs" / "docker").chmod(0o755)
    seen = checking.see(connected, MACHINES, CommandLine(str(tmp_path / "cli")))
    assert (seen.containers, seen.unhealthy) == (None, None)


def test_all_of_it_together(connected, cloud, fake, administrator, tmp_path):
    told = commission(connected.node, cloud, "10.1.0.31")
    fake.mapped.clear()

    def look(node, document):
        return Survey(NodePlan(HOST), told, DEBIAN_12)

    done = check(connected.node, cloud, administrator, look)
    assert done.hostname == HOST
    assert ("nova", "it is not mapped to a cell, and gets no servers") in texts(done.findings)
    assert not done.well
    unasked = check(connected.node, cloud, None, look)
    assert [each.text for each in unasked.findings if each.subject == "cloud"] == [
        "No administrator's credentials are given, so the cloud was not asked."
    ]
