# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy import distributions
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.node.listeners import Listener
from dockstack.deploy.run import preflight
from dockstack.deploy.run.preflight import MachineFacts, Problem, problems
from dockstack.deploy.run.volume_obstacles import VolumeFacts
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

NO_ENGINE = "docker.socket=/nowhere"  # the one of this machine is not to be asked by tests
GOOD = MachineFacts(disk_mb={"/opt": 20000})


def briefs(node, **changes):
    return [problem.brief for problem in problems(node, replace(GOOD, **changes))]


def test_a_good_machine_has_no_problem(node):
    assert problems(node(), GOOD) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": False}, "needs root"),
        ({"package_manager": False}, "no apt-get"),
        ({"python": (0, 0)}, "no /usr/bin/python3"),
        ({"python": (3, 9)}, "is 3.9"),
        ({"distribution": Problem("Arch Linux is none of those.", "Name one.")}, "Arch Linux is none of those."),
        ({"python": (3, 15)}, "is 3.15"),
        ({"memory_mb": 2000}, "2000 MiB of memory"),
        ({"disk_mb": {"/opt": 100}}, "/opt has 100 MiB free"),
        ({"network_namespaces": False}, "network namespaces"),
        ({"tun": False}, "/dev/net/tun"),
        ({"foreign_openstack": ("/etc/nova/nova.conf",)}, "/etc/nova/nova.conf"),
        ({"neighbours": {"10.77.0.0/16": "a route by eth1"}}, "overlaps 10.77.0.0/16"),
        ({"commissioned": True}, "compute node of another cloud"),
    ],
)
def test_each_obstacle_is_named_with_its_cure(node, changes, words):
    (problem,) = problems(node(), replace(GOOD, **changes))
    assert words in problem.brief
    assert problem.cure
    assert not problem.warning


@pytest.mark.parametrize("distribution", distributions.ALL, ids=distributions.NAMES)
def test_an_untested_distribution_is_only_a_warning(node, distribution):
    found = problems(node(roles=frozenset({Role.COMPUTE})), replace(GOOD, distribution=distribution))
    assert [problem.warning for problem in found] == ([] if distribution.name == "debian-12" else [True])


def test_the_hypervisor_alone_minds_the_engine_and_not_another_s_openstack(node, monkeypatch):
    foreign = replace(GOOD, foreign_openstack=("/etc/nova/nova.conf",), memory_mb=100)
    monkeypatch.setattr(preflight, "gather", lambda _: foreign)
    preflight.check_hypervisor(node(roles=frozenset({Role.COMPUTE})))
    monkeypatch.setattr(preflight, "gather", lambda _: replace(foreign, engine=EngineFacts(swarm=True)))
    with pytest.raises(DockstackError, match="swarm"):
        preflight.check_hypervisor(node(roles=frozenset({Role.COMPUTE})))


def test_a_controller_needs_debian_s_packages(node):
    assert "A controller cannot run on RHEL 9 yet" in briefs(node(), distribution=distributions.RHEL_9)[-1]


def test_system_images_need_an_apt_that_has_debian_s_archive(node):
    wanted = node("image.system=[trixie]")
    (problem,) = [
        each for each in problems(wanted, replace(GOOD, distribution=distributions.UBUNTU_24_04)) if not each.warning
    ]
    assert "image.system: Ubuntu 24.04" in problem.brief
    assert problems(wanted, replace(GOOD, distribution=distributions.DEBIAN_12)) == []


def test_this_machine_is_recognised_and_an_unknown_one_is_a_problem(node, monkeypatch):
    monkeypatch.setattr(preflight.distributions, "here", lambda: 'ID=debian\nVERSION_ID="12"\n')
    assert preflight.gather(node(NO_ENGINE)).distribution is distributions.DEBIAN_12
    monkeypatch.setattr(preflight.distributions, "here", lambda: "ID=arch\n")
    found = preflight.gather(node(NO_ENGINE)).distribution
    assert isinstance(found, Problem)
    assert not found.warning
    assert preflight.gather(node(NO_ENGINE, "distribution=rhel-9")).distribution is distributions.RHEL_9


def test_a_compute_node_needs_less_memory_than_a_cloud(node):
    assert not briefs(node(roles=frozenset({Role.COMPUTE})), memory_mb=2000)
    assert briefs(node(roles=frozenset({Role.COMPUTE})), memory_mb=1000)


def test_a_compute_node_of_another_cloud_is_no_obstacle_to_being_that(node):
    assert not briefs(node(roles=frozenset({Role.COMPUTE})), commissioned=True)


def test_disk_is_not_asked_for_twice(node):
    assert not briefs(node(), disk_mb={"/opt": 100}, installed=True)


@pytest.mark.parametrize(
    ("listener", "taken"),
    [
        (Listener("127.0.0.1", 5000, 42, "gunicorn"), True),
        (Listener("0.0.0.0", 5000, 42, "gunicorn"), True),
        (Listener("::", 5000, 42, "gunicorn"), True),
        (Listener("192.0.2.9", 5000, 42, "gunicorn"), False),
        (Listener("127.0.0.1", 5000, 42, "uwsgi", ours=True), False),
        (Listener("127.0.0.1", 5001, 42, "gunicorn"), False),
    ],
)
def test_a_taken_port_names_its_holder(node, listener, taken):
    found = problems(node(), replace(GOOD, listeners=(listener,)))
    assert bool(found) == taken
    if taken:
        assert found[0].brief == "Port 5000 (ports.keystone) is taken by gunicorn (pid 42)."
        assert "--set ports.keystone=15000" in found[0].cure


def test_the_registrys_port_is_needed_where_there_is_one(node):
    taken = replace(GOOD, listeners=(Listener("127.0.0.1", 5005, 42, "x"),))
    assert problems(node(), taken)
    assert not problems(node("registry.enable=false"), taken)
    assert not problems(node("release=2026.1"), taken)


def test_cinders_port_is_needed_where_there_is_one(node):
    taken = replace(GOOD, listeners=(Listener("127.0.0.1", 8776, 42, "x"),))
    assert not problems(node(), taken)
    assert problems(node("volumes.enable=true"), taken)
    (problem,) = problems(node("volumes.enable=true"), replace(GOOD, volumes=VolumeFacts(xfs=False)))
    assert "volumes.storage=directory" in problem.cure


def test_barbicans_port_is_needed_where_there_is_one(node):
    taken = replace(GOOD, listeners=(Listener("127.0.0.1", 9311, 42, "x"),))
    assert not problems(node(), taken)
    assert problems(node("key_manager.enable=true"), taken)


def test_a_glance_that_filters_no_locations_gets_no_registry(node):
    (problem,) = problems(node("registry.enable=true", "release=2026.1"), GOOD)
    assert "Glance of 2026.1" in problem.brief
    assert not problem.warning
    assert not problems(node("release=2026.1"), GOOD)
    assert not problems(node("registry.enable=true"), GOOD)


def test_the_registrys_port_is_in_what_glance_keeps(node):
    former = replace(GOOD, registry_port="5005")
    (problem,) = problems(node("ports.registry=5006"), former)
    assert "--set ports.registry=5005" in problem.cure
    assert not problems(node("registry.enable=false", "ports.registry=5006"), former)
    assert not problems(node(), former)


def test_a_compute_node_needs_no_ports(node):
    compute = node(roles=frozenset({Role.COMPUTE}))
    assert not problems(compute, replace(GOOD, listeners=(Listener("127.0.0.1", 5000, 42, "x"),)))


def test_all_obstacles_are_said_at_once(node, monkeypatch):
    monkeypatch.setattr(preflight, "gather", lambda _: replace(GOOD, root=False, memory_mb=1))
    with pytest.raises(DockstackError) as refused:
        preflight.check(node())
    assert "2 things" in refused.value.brief
    assert "needs root" in refused.value.details
    assert "1 MiB of memory" in refused.value.details


def test_gathering_changes_nothing_and_works_here(node):
    facts = preflight.gather(node(NO_ENGINE))
    assert facts.memory_mb > 0
    assert facts.disk_mb["/opt"] > 0
