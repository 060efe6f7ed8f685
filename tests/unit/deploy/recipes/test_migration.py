# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration import migration
from dockstack.deploy.recipes import migration as recipe
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit

ANSWERS = {"hostname;": "node\nnetdev", "getent passwd": {"success": False}}


def test_a_lonely_host_lets_nobody_in_any_more(machine):
    one = machine(ANSWERS)
    one.records.define(Service(name=migration.SERVICE, command=("x",)))
    recipe.start(one)
    assert not one.records.services()
    assert any("usermod --shell /usr/sbin/nologin nova" in command for command in one.commands)


def test_a_host_that_was_always_alone_is_left_as_it_is(machine):
    one = machine(ANSWERS)
    recipe.start(one)
    assert not any("usermod" in command for command in one.commands)


def test_a_host_that_other_machines_reach_has_a_server_for_them_that_lets_nobody_in_so_far(machine, monkeypatch):
    """Nodes may come at any time; whom it lets in, it is told as they are."""
    placed = []
    monkeypatch.setattr(recipe, "start_on_node", lambda _, service: placed.append(service))
    recipe.start(machine(ANSWERS, "network.encap_ip=192.0.2.1"))
    (server,) = placed
    assert server.check.target == "192.0.2.1:8222"
    assert server.requires == ("ovs-vswitchd",), "its address may be on a bridge"


def test_a_host_that_has_others_beside_it_now_is_none_that_nodes_know(machine, monkeypatch):
    """Nodes' command and `up` would each write the same file, with what the other does not know of."""
    monkeypatch.setattr(recipe, "_place", lambda *_: None)
    one = machine(ANSWERS, "hosts=2")
    recipe.start(one)
    for path in (migration.CLIENT_PUBLIC, migration.HOST_PUBLIC):
        assert any(command.startswith("rm -rf") and path in command for command in one.commands), (path, one.commands)
