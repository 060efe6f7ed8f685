# SPDX-License-Identifier: Apache-2.0
"""A node on which the cloud's deployer runs the switch, OVN and metadata: what is left for us."""

from __future__ import annotations

import pytest

from dockstack.deploy.configuration import compute_node, oslo_file
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import plan
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.endpoints import endpoints
from dockstack.deploy.join.look import NodeFacts, script
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.join.stages import ComputeNode
from dockstack.deploy.recipes import migration, packages
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument, Problem

pytestmark = pytest.mark.unit
# All that such a node needs; nothing of OVN, and no secret of the metadata.
NEEDED = {
    "release": "2026.2",
    "network.switch": "deployer",
    "messaging.transport_url": "rabbit://nova:bus-pw@10.1.0.11/",
    "identity.auth_url": "http://10.1.0.10:5000",
    "identity.region": "north",
    **{f"accounts.{name}.username": name for name in ("nova", "placement", "neutron")},
    **{f"accounts.{name}.password": f"{name}-pw" for name in ("nova", "placement", "neutron")},
}
FACTS = NodeFacts(hostname="one", source="10.1.0.31")


@pytest.fixture
def theirs():
    return CloudDocument([SourceValues("test", NEEDED)])


def test_nothing_of_ovn_is_needed(theirs):
    known = [Problem("ovn.certificate", "one for these nodes"), Problem("metadata.secret", "not set")]
    theirs.require_usable("", known)


def test_nova_compute_and_what_sends_servers_are_all_that_is_ours(theirs, compute):
    settings = Joining(compute(), theirs).settings(FACTS)
    services = compute_node.services(DEBIAN_12, theirs, settings)
    assert [(one.name, one.requires) for one in services] == [("migration", ()), ("nova-compute", ())]
    files = compute_node.files(theirs, settings)
    assert set(files) == {compute_node.NOVA_CONF, "/etc/sudoers.d/dockstack-nova"}
    conf = oslo_file.parse(files[compute_node.NOVA_CONF].content, "nova.conf")
    assert conf["os_vif_ovs"]["ovsdb_connection"] == "tcp:127.0.0.1:6640"


def test_the_plan_installs_no_switch_and_wants_theirs_there(theirs, compute):
    joining = Joining(compute(), theirs)
    planned = joining.plan(FACTS, {})
    assert not {"openvswitch-switch", "ovn-host", "haproxy"} & set(planned.packages)
    assert "docker.io" in planned.packages
    assert endpoints(theirs) == (("10.1.0.11", 5672), ("10.1.0.10", 5000), ("127.0.0.1", 6640))
    asked = script(joining.questions(""))
    assert "/etc/neutron/neutron.conf" not in asked, "their agent's file is no obstacle"
    assert "/etc/nova/nova.conf" in asked


def test_a_chassis_that_two_machines_are_is_refused_on_both(theirs, cloud, compute):
    """As copies of one image are; a switch of ours is numbered by its host's name."""
    machines = {
        "a": ("one", "4711"),
        "b": ("two", "4712"),
        "c": ("three", "4711"),
        "d": ("four", ""),
        "e": ("five", ""),
    }

    def planned(document):
        facts = {name: NodeFacts(hostname=host, chassis_id=it, source="x") for name, (host, it) in machines.items()}
        return plan.together({name: Joining(compute(), document).plan(each, {}) for name, each in facts.items()})

    made = planned(theirs)
    assert [name for name, each in made.items() if not each.fits] == ["a", "c"]
    assert "a, c are all the chassis 4711" in made["a"].problems[-1].brief
    assert all(each.fits for each in planned(cloud).values())


def test_the_node_itself_does_as_planned(theirs, node, machine, monkeypatch):
    graph = {stage.name: stage for stage in ComputeNode(node(), theirs).stages()}
    assert not {"switch", "agent"} & set(graph)
    installed = []
    monkeypatch.setattr(packages, "install", lambda _, *, switch, **_more: installed.append(switch))
    answers = {"hostname;": "one\nsystem\n", "stat -c": {"success": False}, "id -Gn": {"success": False}}
    one = machine(answers, "network.encap_ip=10.1.0.31")
    for name in ("packages", "nova-files"):
        graph[name].apply(one)
    assert installed == [False]
    written = [line.split()[-1] for line in one.commands if " mv -f " in line]
    assert set(written) == {compute_node.NOVA_CONF, "/etc/sudoers.d/dockstack-nova"}
    assert not [line for line in one.commands if "/etc/neutron" in line or "/var/lib/neutron" in line]


def test_other_nodes_can_send_servers_to_it(theirs, node, machine, monkeypatch):
    placed = []
    monkeypatch.setattr(migration, "start_on_node", lambda _, service: placed.append(service.check.target))
    one = machine({"hostname;": "one\nsystem\n"}, "network.encap_ip=10.1.0.31")
    graph = {stage.name: stage for stage in ComputeNode(node(), theirs).stages()}
    graph["migration"].apply(one)
    assert placed == ["10.1.0.31:8222"], "and `node add` asks it for the keys of this"


def test_what_is_the_switchs_is_not_told(compute):
    values = {**NEEDED, "ovn.private_key": "KEY", "metadata.secret": "meta-pw", "tls.authority": "PEM"}
    told = commission(compute(), CloudDocument([SourceValues("test", values)]), "10.1.0.31").cloud
    assert not {"ovn.private_key", "metadata.secret"} & set(told)
    assert told["network.switch"] == "deployer"
