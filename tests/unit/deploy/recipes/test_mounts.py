# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration import mounts
from dockstack.deploy.recipes import mounts as recipe
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load

pytestmark = pytest.mark.unit

WANTED = "volumes.enable=true"


def test_the_holder_starts_first_and_no_upgrade_restarts_it(machine, monkeypatch):
    started = []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service))
    recipe.start(machine({}, WANTED))
    assert [service.name for service in started] == [mounts.HOLDER, mounts.BROKER]
    assert not started[0].watch
    assert not started[0].packages


def test_it_is_off_unless_there_are_volumes(machine, monkeypatch):
    monkeypatch.setattr(recipe, "ensure_running", lambda *_: pytest.fail("it was started"))
    one = machine({})
    recipe.start(one)
    assert not one.commands


def test_disabling_leaves_both_to_the_servers_that_have_them(machine, monkeypatch):
    started = []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service.name))
    one = machine({})
    for service in mounts.services():
        one.records.define(service)
    recipe.start(one)
    assert started == [mounts.HOLDER, mounts.BROKER]
    assert not any("seccomp.sock" in line for line in one.commands)


def test_a_further_host_has_its_own(machine, monkeypatch):
    started = []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service))
    recipe.start_on(machine({}, WANTED, "hosts=2"), "host2")
    assert [(service.name, service.inside) for service in started] == [
        ("host2-mount-holder", "host2"),
        ("host2-mount-broker", "host2"),
    ]
    names = {stage.name for stage in node_stages(load(None, ("hosts=2",)).local)}
    assert {"mounts", "host2-mounts"} <= names
