# SPDX-License-Identifier: Apache-2.0
"""One listing answers a round of questions, and never with something old."""

from __future__ import annotations

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.engine import NotFound
from dockstack.compute.flows import lifecycle
from dockstack.compute.host.audit import Audit
from dockstack.compute.model import PowerState

pytestmark = pytest.mark.unit


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def audit(world, host, now):
    lifecycle.spawn(host, make_server(), no_events)
    audit = Audit(host.engine, "host1", lifetime=10, clock=lambda: now[0])
    world.calls.clear()
    return audit


def test_a_round_costs_one_call(world, audit):
    assert len(audit.list_servers()) == 1
    assert audit.get_state(UUID, fresh=False) is PowerState.RUNNING
    assert world.calls == ["containers"]


def test_a_fresh_answer_comes_from_the_engine(world, audit):
    audit.list_servers()
    world.exit_server(UUID)
    assert audit.get_state(UUID, fresh=False) is PowerState.RUNNING
    assert audit.get_state(UUID, fresh=True) is PowerState.SHUTDOWN


def test_memory_fades(world, audit, now):
    audit.list_servers()
    world.exit_server(UUID)
    now[0] += 11
    assert audit.get_state(UUID, fresh=False) is PowerState.SHUTDOWN


def test_what_changed_is_forgotten(world, audit):
    audit.list_servers()
    world.exit_server(UUID)
    audit.forget(UUID)
    assert audit.get_state(UUID, fresh=False) is PowerState.SHUTDOWN


def test_a_listing_that_a_change_overtook_is_not_remembered(world, host, audit):
    listed = host.engine.containers

    def overtaken(labels=None):
        found = listed(labels)
        world.exit_server(UUID)
        audit.forget(UUID)
        return found

    host.engine.containers = overtaken
    assert audit.list_servers()[0].state is PowerState.RUNNING
    assert audit.get_state(UUID, fresh=False) is PowerState.SHUTDOWN


def test_other_hosts_servers_do_not_count(world, audit):
    other = make_host(world, "host2")
    assert other.audit.list_servers() == ()
    assert not other.audit.has(UUID)
    assert audit.has(UUID)
    assert audit.list_names() == ["web"]


def test_a_missing_server_has_no_state(audit):
    with pytest.raises(NotFound):
        audit.get_state("1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11", fresh=False)
