# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration import mounts
from dockstack.deploy.recipes import mounts as recipe
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.supervision.backends import systemd
from dockstack.deploy.supervision.services import Service
from dockstack.deploy.wanted.inventory import load
from dockstack.names import MOUNT_SOCKET

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


@pytest.fixture
def disabled(machine, monkeypatch):
    """Have volumes disabled on a machine that had them; the names that were started, and the machine."""
    started = []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service.name))

    def build(answers):
        one = machine(answers)
        for service in mounts.services():
            one.records.define(service)
        recipe.start(one)
        assert started == [mounts.HOLDER, mounts.BROKER]
        return one

    return build


def test_disabling_leaves_both_to_the_servers_that_have_them_and_takes_nobody_in(disabled):
    one = disabled({"[ $(stat": {"success": False}})
    assert {service.name for service in one.records.services()} == {mounts.HOLDER, mounts.BROKER}
    assert f"chmod 400 {MOUNT_SOCKET}" in one.commands
    assert not any(line.startswith("rm ") for line in one.commands)


def test_disabling_removes_both_when_no_server_has_them_any_more(disabled):
    one = disabled({"ls -l /proc": {"success": False}})
    assert not one.records.services()
    assert any(line.startswith("rm ") and str(MOUNT_SOCKET.parent) in line for line in one.commands)


def test_enabling_again_takes_servers_in(machine, monkeypatch):
    monkeypatch.setattr(recipe, "ensure_running", lambda *_: None)
    one = machine({"[ $(stat": {"success": False}}, WANTED)
    recipe.start(one)
    assert f"chmod 600 {MOUNT_SOCKET}" in one.commands


def test_stopping_leaves_alone_what_servers_need(machine):
    holder, broker = mounts.services()
    assert (holder.kill_mode, broker.kill_mode) == ("process", "group")


COMPUTE = Service(name="nova-compute", command=("nova-compute",), requires=("rabbitmq",))


@pytest.mark.parametrize(("key", "holder"), [("", "mount-holder"), ("host2", "host2-mount-holder")])
def test_nova_compute_starts_after_the_holder(machine, key, holder):
    """Under systemd by its unit, and by the order of stages where `up` starts everything."""
    one = machine({}, WANTED, "hosts=2")
    assert recipe.after_holder(one, COMPUTE, key) == COMPUTE
    one.records.define(Service(name=holder, command=("x",)))
    unit = systemd.render(recipe.after_holder(one, COMPUTE, key))
    assert f"After=network.target dockstack-rabbitmq.service dockstack-{holder}.service" in unit.splitlines()
    stages = {stage.name: stage for stage in node_stages(load(None, (WANTED, "hosts=2")).local)}
    assert f"{key}-mounts".lstrip("-") in stages[f"{key}-compute".lstrip("-")].after


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
