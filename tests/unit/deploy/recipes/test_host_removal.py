# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes import hosts as recipe
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit


@pytest.fixture
def removed(monkeypatch):
    done = []
    monkeypatch.setattr(host_removal, "remove_host", lambda _, key: done.append(key))
    monkeypatch.setattr(host_removal, "remove_network", lambda _: done.append("network"))
    monkeypatch.setattr(recipe, "ask", lambda *_: done.append("asked"))
    monkeypatch.setattr(recipe, "provision", lambda _, action, desired: done.append((action, desired["hosts"])))
    return done


def with_hosts(machine, *keys):
    for key in keys:
        machine.records.define(Service(name=f"{key}-docker", command=("x",), inside=key))
    return machine


ANSWERS = {"hostname;": "node\nnetdev"}


def test_hosts_that_are_wanted_stay(machine, removed):
    recipe.remove_unwanted(with_hosts(machine(ANSWERS, "hosts=2"), "host2"))
    assert removed == []


def test_those_beyond_what_is_wanted_go_and_nova_forgets_them(machine, removed):
    recipe.remove_unwanted(with_hosts(machine(ANSWERS, "hosts=2"), "host2", "host3"))
    assert removed == ["asked", "host3", ("forget-hosts", ["node-3"])]


def test_with_the_last_one_its_network_goes(machine, removed):
    recipe.remove_unwanted(with_hosts(machine(ANSWERS), "host2"))
    assert removed == ["asked", "host2", ("forget-hosts", ["node-2"]), "network"]


def test_a_host_with_servers_stays(machine, removed, monkeypatch):
    def refuse(*_):
        raise StepFailedError("Nova has 1 servers on node-2: x.", "")

    monkeypatch.setattr(recipe, "ask", refuse)
    with pytest.raises(StepFailedError, match="Nova has"):
        recipe.remove_unwanted(with_hosts(machine(ANSWERS), "host2"))
    assert removed == []


def test_no_mount_namespace_has_no_inhabitants(tmp_path):
    (tmp_path / "stale").touch()
    assert host_removal.inhabitants(str(tmp_path / "stale")) == set()
    assert host_removal.inhabitants(str(tmp_path / "absent")) == set()
    assert host_removal.inhabitants("/proc/self/ns/mnt") == set()


def test_with_the_last_host_nothing_stays_mounted_where_clean_removes(machine):
    one = machine()
    host_removal.remove_namespaces(one, "host2")
    (line,) = one.commands
    assert "umount /run/dockstack/hosts/host2.mnt; rm -f /run/dockstack/hosts/host2.mnt" in line
    assert line.index("ip netns delete dockstack-host2") < line.index("|| umount /run/dockstack/hosts;")
