# SPDX-License-Identifier: Apache-2.0
"""What would change on a machine, and what keeps it from becoming a node."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from dockstack.deploy.configuration import compute_node
from dockstack.deploy.distributions import DEBIAN_12, DEBIAN_13, RHEL_9
from dockstack.deploy.hypervisors.engine import DAEMON_JSON
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.join import plan
from dockstack.deploy.join.endpoints import endpoints
from dockstack.deploy.join.look import NodeFacts, PresentFile
from dockstack.deploy.join.plan import Joining, NodePlan
from dockstack.deploy.node.own_package import lock_digest
from dockstack.deploy.run.preflight import MachineFacts
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
FACTS = NodeFacts(hostname="one", source="10.1.0.31")


def as_joined(joining, facts=FACTS):
    """The facts and files of a machine on which all is as it should be."""
    files = {
        path: PresentFile(file.content, "root", file.group, file.mode) for path, file in joining.files(facts).items()
    }
    for path, edit in joining.plugin.edits().items():
        files[path] = PresentFile(edit(None), "root", "root", 0o644)
    release = joining.cloud.text("release")
    settled = replace(
        facts,
        packages=dict.fromkeys(joining.packages(DEBIAN_12, engine=False, client=False), "1"),
        active=compute_node.ANYWHERE,
        ours=True,
        engine=True,
        client=True,
        lock=lock_digest(f"{release}/openstack"),
    )
    return settled, files


def test_all_is_new_on_a_bare_machine(cloud, compute):
    made = Joining(compute(), cloud).plan(FACTS, {})
    assert made.fits
    assert {"docker.io", "lxcfs", "openvswitch-switch", "ovn-host", "haproxy"} <= set(made.packages)
    assert "mariadb-server-core" not in made.packages
    assert made.environments == ("/opt/dockstack/openstack: OpenStack 2026.2",)
    assert {change.what for change in made.files} == {"new"}
    assert {change.path for change in made.files} >= {compute_node.NOVA_CONF, compute_node.AGENT_CONF, DAEMON_JSON}
    assert {service.name: service.what for service in made.services} == dict.fromkeys(compute_node.here(cloud), "start")


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        (DEBIAN_12, {"docker.io", "openvswitch-switch", "ovn-host"}),
        (DEBIAN_13, {"docker.io", "docker-cli"}),
        (RHEL_9, {"docker-ce", "openvswitch", "iproute"}),
    ],
    ids=lambda it: getattr(it, "name", ""),
)
def test_packages_are_called_as_on_the_machine(cloud, compute, distribution, names):
    facts = replace(FACTS, machine=MachineFacts(distribution=distribution))
    assert names <= set(Joining(compute(), cloud).plan(facts, {}).packages)


def test_an_engine_that_is_there_is_used(cloud, compute):
    facts = replace(FACTS, engine=True, client=True)
    assert "docker.io" not in Joining(compute(), cloud).plan(facts, {}).packages
    clientless = replace(facts, client=False, machine=MachineFacts(distribution=DEBIAN_13))
    made = set(Joining(compute(), cloud).plan(clientless, {}).packages)
    assert ("docker-cli" in made, "docker.io" in made) == (True, False)


def test_what_the_machine_says_it_is_decides_what_is_asked(cloud, compute):
    joining = Joining(compute(), cloud)
    assert joining.questions("ID=rocky\nVERSION_ID=9.4\n").distribution is RHEL_9
    unknown = joining.questions("ID=plan9\n")
    made = joining.plan(replace(FACTS, machine=MachineFacts(distribution=unknown.distribution)), {})
    assert not made.fits
    assert "plan9 is none of those" in made.problems[0].brief


def test_nothing_changes_on_a_machine_that_is_as_it_should_be(cloud, compute):
    joining = Joining(compute(), cloud)
    assert joining.plan(*as_joined(joining)).changes == 0


def test_a_change_is_shown_and_restarts_what_reads_the_file(cloud, compute):
    facts, files = as_joined(Joining(compute(), cloud))
    made = Joining(compute("compute.reserved_memory_mb=1024"), cloud).plan(facts, files)
    (change,) = made.files
    assert (change.path, change.what, change.new) == (compute_node.NOVA_CONF, "changed", False)
    assert "-reserved_host_memory_mb = 512\n+reserved_host_memory_mb = 1024" in change.diff
    (service,) = made.services
    assert (service.name, service.what) == ("nova-compute", f"restart, for {compute_node.NOVA_CONF}")


def test_no_secret_is_shown_neither_the_new_nor_the_old(cloud, compute):
    facts, files = as_joined(Joining(compute(), cloud))
    old = files[compute_node.NOVA_CONF]
    files[compute_node.NOVA_CONF] = replace(
        old, content=old.content.replace("nova-pw", "an-old-one").replace("reserved_host_disk_mb = 1024", "x = 1")
    )
    made = Joining(compute(), cloud).plan(facts, files)
    (change,) = made.files
    assert "x = 1" in change.diff
    bare = Joining(compute(), cloud).plan(FACTS, {})
    shown = change.diff + "".join(each.diff for each in bare.files)
    secrets = ("bus-pw", "nova-pw", "placement-pw", "neutron-pw", "cinder-pw", "meta-pw", "an-old-one")
    assert not [secret for secret in secrets if secret in shown]
    assert "ovn_sb_connection = tcp:10.1.0.11:16641" in shown  # not all that ends like one is a secret


def test_a_secret_that_changes_is_a_change(cloud, compute):
    facts, files = as_joined(Joining(compute(), cloud))
    old = files[compute_node.NOVA_CONF]
    files[compute_node.NOVA_CONF] = replace(old, content=old.content.replace("nova-pw", "an-old-one"))
    (change,) = Joining(compute(), cloud).plan(facts, files).files
    assert (change.what, change.diff) == ("another secret", "")


def test_a_file_that_others_may_read_is_a_change(cloud, compute):
    facts, files = as_joined(Joining(compute(), cloud))
    files[compute_node.NOVA_CONF] = replace(files[compute_node.NOVA_CONF], mode=0o644)
    (change,) = Joining(compute(), cloud).plan(facts, files).files
    assert change.what == "root:nova 640"


def test_the_engines_own_configuration_is_kept(cloud, compute):
    facts, files = as_joined(Joining(compute(), cloud))
    files[DAEMON_JSON] = PresentFile('{"log-driver": "journald"}\n', "root", "root", 0o600)
    (change,) = Joining(compute(), cloud).plan(facts, files).files
    assert change.path == DAEMON_JSON
    assert '+    "log-driver": "journald",' in change.diff
    assert '"live-restore": true' in change.diff


def test_the_node_tunnels_from_its_address_towards_the_cloud_unless_it_is_told_another(cloud, compute):
    assert Joining(compute(), cloud).settings(FACTS).tunnel_address == "10.1.0.31"
    told = compute("network.encap_ip=10.9.0.31")
    assert Joining(told, cloud).settings(FACTS).tunnel_address == "10.9.0.31"


def test_a_switch_without_a_kernel_module_is_warned_of_and_is_not_given_unfinished_checksums(cloud, compute):
    facts = replace(FACTS, datapath="netdev")
    made = Joining(compute(), cloud).plan(facts, {})
    (problem,) = made.problems
    assert made.fits
    assert "no kernel module" in problem.brief
    written = Joining(compute(), cloud).files(facts)[compute_node.NOVA_CONF].content
    assert "checksum_offload = false" in written
    assert "checksum_offload" not in Joining(compute(), cloud).files(FACTS)[compute_node.NOVA_CONF].content


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nova_compute": True}, "A nova-compute runs here"),
        ({"hostname": "localhost"}, "calls itself localhost"),
        ({"chassis": "one.example.org"}, "OVN knows this machine as one.example.org, Nova would as one"),
        ({"servers": 3}, "still has 3 Docker servers"),
        ({"silent": ("a:1", "b:2")}, "No answer from here: a:1, b:2."),
        ({"controller": True, "nova_compute": True}, "holds a cloud that `dockstack up` made"),
        ({"clock": -90.0}, "clock is 90 s behind"),
        ({"machine": MachineFacts(engine=EngineFacts(info={"ServerVersion": "1"}, swarm=True))}, "warm"),
        ({"source": ""}, "tunnels would end nowhere"),
        ({"machine": MachineFacts(memory_mb=1000)}, "1000 MiB of memory"),
        ({"machine": MachineFacts(python=(3, 9))}, "is 3.9"),
        ({"machine": MachineFacts(foreign_openstack=("/etc/nova/nova.conf",))}, "did not make: /etc/nova/nova.conf"),
    ],
)
def test_what_does_not_fit_is_named(cloud, compute, changes, words):
    made = Joining(compute(), cloud).plan(replace(FACTS, **changes), {})
    assert not made.fits
    (problem,) = made.problems
    assert words in problem.brief
    assert problem.cure


@pytest.mark.parametrize(
    "changes",
    [{"servers": 3}, {"servers": 3, "active": frozenset()}, {"nova_compute": True}, {"chassis": "one"}, {"clock": 1.0}],
    ids=" ".join,
)
def test_a_node_of_ours_is_no_obstacle_to_itself(cloud, compute, changes):
    facts, files = as_joined(Joining(compute(), cloud))
    assert Joining(compute(), cloud).plan(replace(facts, **changes), files).fits


def test_a_name_that_two_machines_have_is_refused_on_both():
    found = {
        "a": NodePlan("same"),
        "b": NodePlan("other"),
        "c": NodePlan("same"),
        "d": DockstackError("down"),
    }
    made = plan.together(found)
    assert [name for name in ("a", "b", "c") if not made[name].fits] == ["a", "c"]
    assert "a, c all call themselves same" in made["a"].problems[0].brief
    assert made["d"] is found["d"]


@pytest.mark.parametrize(
    ("assignment", "words"), [("docker.enable=false", "runs no servers"), ("docker.storage=xfs", "docker.storage xfs")]
)
def test_what_a_node_cannot_have_is_refused_before_it_is_looked_at(cloud, compute, assignment, words):
    with pytest.raises(DockstackError, match=words):
        Joining(compute(assignment), cloud)


def test_a_node_must_reach_the_bus_keystone_ovn_and_metadata(cloud):
    assert endpoints(cloud) == (
        ("10.1.0.11", 5672),
        ("10.1.0.12", 5672),
        ("10.1.0.10", 5000),
        ("10.1.0.11", 16641),
        ("10.1.0.11", 6641),
        ("10.1.0.12", 6641),
        ("10.1.0.10", 8775),
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"messaging.transport_url": "rabbit://u:p:w@[2001:db8::1]:5671/v"}, ("2001:db8::1", 5671)),
        ({"messaging.transport_url": "rabbit://u:p@host/"}, ("host", 5672)),
        ({"identity.auth_url": "https://keystone.example.org/v3"}, ("keystone.example.org", 443)),
        ({"ovn.southbound": ["ssl:[2001:db8::1]:6642"]}, ("2001:db8::1", 6642)),
    ],
)
def test_endpoints_of_all_forms_are_understood(values, found):
    assert found in endpoints(CloudDocument([SourceValues("x", values)]))


def test_the_exporter_is_planned_where_it_is_wanted_and_does_not_run(cloud, compute):
    def planned(*assignments, active=()):
        joining = Joining(compute(*assignments), cloud)
        plan = joining.plan(replace(FACTS, active=frozenset(active)), {})
        return {change.name for change in plan.services}, joining.questions("").services

    wanted = "telemetry.prometheus=true"
    assert "exporter" in planned(wanted)[0]
    assert "exporter" in planned(wanted)[1]
    assert "exporter" not in planned(wanted, active=["exporter"])[0]
    assert "exporter" not in {*planned()[0], *planned()[1]}


def test_the_benchmark_of_many_nodes_answers_as_one_on_which_nothing_is_to_be_done(cloud, compute):
    benchmark = runpy.run_path(str(Path(__file__).parents[4] / "benchmarks/nodes.py"))
    told = benchmark["settled"](Joining(compute(), cloud), FACTS)
    assert set(told["facts"]["active"].split()) == set(compute_node.here(cloud))
