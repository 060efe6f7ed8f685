# SPDX-License-Identifier: Apache-2.0
"""After a host has left, the cloud knows nothing of it; one with servers, or that lives, is refused."""

from __future__ import annotations

import pytest

from dockstack.deploy.administration import agents, departure, providers
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture
def two(fake):
    fake.add_host("old")
    fake.add_host("other")
    fake.aggregates = {7: {"name": "rack1", "hosts": ["old", "other"]}, 8: {"name": "rack2", "hosts": []}}
    return fake


def leave(cloud, told):
    departure.forget_service(cloud, "old", told.append)
    departure.forget_agents(cloud, "old", told.append)


def test_nothing_of_it_is_left(two, cloud, told):
    assert len(departure.left_of(cloud, "old")) == 6
    departure.close(cloud, "old")
    leave(cloud, told)
    assert departure.left_of(cloud, "old") == []
    assert two.aggregates[7]["hosts"] == ["other"]
    assert len(departure.left_of(cloud, "other")) == 6
    assert told == ["Deleting its compute service", "Deleting its network agents and its chassis"]


def test_a_second_run_changes_nothing(two, cloud, told):
    departure.close(cloud, "old")
    leave(cloud, told)
    asked = len(two.changes())
    departure.close(cloud, "old")
    leave(cloud, told)
    assert len(two.changes()) == asked


def test_one_with_servers_or_moves_is_refused_before_anything_changes(two, cloud):
    web = two.add_server("web", "old")
    with pytest.raises(DockstackError, match=f"1 servers on old: web \\({web}\\)") as refused:
        departure.close(cloud, "old")
    assert "node drain" in refused.value.resolution
    two.servers[web] |= {"host": "other", "status": "VERIFY_RESIZE"}
    two.add_move(web, "resize", "old", "other")
    with pytest.raises(DockstackError, match="1 moves from or to old have not ended"):
        departure.close(cloud, "old")
    assert two.changes() == []


def test_one_that_gets_a_server_at_the_last_moment_is_refused_by_nova(two, cloud, told):
    departure.close(cloud, "old")
    two.add_server("late", "old")
    with pytest.raises(DockstackError, match="1 servers on old: late"):
        leave(cloud, told)
    assert "old" in two.services


def test_a_provider_that_nova_leaves_is_deleted_with_what_evacuated_servers_hold_of_it(two, cloud, told):
    web = two.add_server("web", "old")
    two.servers[web]["host"] = "other"
    two.provider_of("other")["held"][web] = {"VCPU": 1}
    two.keeps_provider = True
    leave(cloud, told)
    assert two.provider_of("old") is None
    assert two.provider_of("other")["held"] == {web: {"VCPU": 1}}, "where it is, it holds what it holds"
    assert "which Nova has left" in told[1]


def test_agents_that_come_back_are_named(two, cloud, told, monkeypatch):
    monkeypatch.setattr(agents, "PATIENCE", 0.01)
    two.returning_agents = True
    with pytest.raises(DockstackError, match="OVN Controller agent, OVN Neutron agent") as refused:
        leave(cloud, told)
    assert "ovn-controller" in refused.value.resolution


def test_a_host_that_lives_is_not_lost(two, cloud):
    with pytest.raises(DockstackError, match="it is not lost"):
        departure.declare_lost(cloud, "old")
    assert two.changes() == []


def test_a_dead_one_is_forced_down_and_waits_for_its_servers_evacuation(two, cloud, told):
    web = two.add_server("web", "old")
    two.services["old"]["state"] = "down"
    with pytest.raises(DockstackError, match="1 servers on old") as refused:
        departure.declare_lost(cloud, "old")
    assert "openstack server evacuate" in refused.value.resolution
    assert two.services["old"]["forced_down"] is True, "so that they can be evacuated at once"
    two.servers[web]["host"] = "other"
    departure.declare_lost(cloud, "old")
    leave(cloud, told)
    assert departure.left_of(cloud, "old") == []


def test_a_provider_tells_what_it_has(two, cloud):
    found = providers.provider(cloud, "old")
    assert providers.offers(cloud, found) == {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 40}
    assert providers.provider(cloud, "none") is None
