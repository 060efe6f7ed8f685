# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.node.listeners import Listener
from dockstack.deploy.run import preflight
from dockstack.deploy.run.preflight import MachineFacts, problems
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

GOOD = MachineFacts(disk_mb={"/opt": 20000})


def briefs(node, **changes):
    return [problem.brief for problem in problems(node, replace(GOOD, **changes))]


def test_a_good_machine_has_no_problem(node):
    assert problems(node(), GOOD) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": False}, "needs root"),
        ({"apt": False}, "no apt"),
        ({"python": (3, 9)}, "is 3.9"),
        ({"python": (3, 15)}, "is 3.15"),
        ({"memory_mb": 2000}, "2000 MiB of memory"),
        ({"disk_mb": {"/opt": 100}}, "/opt has 100 MiB free"),
        ({"network_namespaces": False}, "network namespaces"),
        ({"tun": False}, "/dev/net/tun"),
        ({"foreign_openstack": ("/etc/nova/nova.conf",)}, "/etc/nova/nova.conf"),
        ({"neighbours": {"10.77.0.0/16": "a route by eth1"}}, "overlaps 10.77.0.0/16"),
    ],
)
def test_each_obstacle_is_named_with_its_cure(node, changes, words):
    (problem,) = problems(node(), replace(GOOD, **changes))
    assert words in problem.brief
    assert problem.cure
    assert not problem.warning


def test_an_untested_debian_is_only_a_warning(node):
    (problem,) = problems(node(), replace(GOOD, system="ubuntu", version="24.04"))
    assert problem.warning


def test_a_compute_node_needs_less_memory_than_a_cloud(node):
    assert not briefs(node(roles=frozenset({Role.COMPUTE})), memory_mb=2000)
    assert briefs(node(roles=frozenset({Role.COMPUTE})), memory_mb=1000)


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
    facts = preflight.gather(node())
    assert facts.memory_mb > 0
    assert facts.disk_mb["/opt"] > 0
