# SPDX-License-Identifier: Apache-2.0
"""The fork server is there if it is asked for, its failure is nobody's, and it goes when it is not wanted any more."""

from __future__ import annotations

import pytest

from dockstack.deploy.configuration import fork_server
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import infrastructure
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.supervision import status
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import Service
from dockstack.deploy.wanted.inventory import load

pytestmark = pytest.mark.unit

ON = "services.fork_server=true"
FORKED = Service(name="nova-api", command=("/x",), user="nova", shim=("/opt/python", "fork_shim.py", "/run/nova.sock"))


@pytest.fixture
def asked(machine, monkeypatch):
    """A machine whose fork server does as it is told to."""

    def build(*assignments, fails=False):
        one, said, started = machine({"hostname": "node1\nsystem"}, *assignments), [], []

        def ensure_running(_, service):
            started.append(service.name)
            if fails:
                raise StepFailedError("fork-server does not become ready", "Its log says why.")

        monkeypatch.setattr(infrastructure, "ensure_running", ensure_running)
        monkeypatch.setattr(one, "say", said.append)
        return one, said, started

    return build


def stages_of(*assignments):
    return {one.name: one for one in node_stages(load(None, assignments).local)}


def waits_for(stages, name):
    """Return all stages that one comes after."""
    direct = stages[name].after
    return set(direct).union(*(waits_for(stages, one) for one in direct))


def test_it_is_not_there_unless_it_is_asked_for_and_no_api_waits_for_the_hypervisor():
    stages = stages_of()
    assert "fork-server" not in stages
    assert not {one for one in waits_for(stages, "identity") if one.startswith("hypervisor")}
    forking = stages_of(ON)
    assert {"fork-server", "hypervisor-configure"} <= waits_for(forking, "identity")


def test_it_starts(asked):
    one, _, started = asked(ON)
    infrastructure.start_fork_server(one)
    assert started == [fork_server.NAME]


def test_that_it_does_not_start_is_a_warning(asked):
    one, said, _ = asked(ON, fails=True)
    infrastructure.start_fork_server(one)
    assert [line for line in said if line.startswith("warning: ") and "Its log says why." in line]


@pytest.mark.parametrize("hosts", [1, 2], ids=("one", "two"))
def test_it_is_removed_after_all_that_may_ask_it(hosts):
    stages = stages_of(f"hosts={hosts}")
    assert {"identity", "glance", "nova", "nova-daemons", "compute"} <= set(stages["fork-server-removal"].after)
    assert ("host2-agent" in stages["fork-server-removal"].after) == (hosts == 2)
    nodes = node_stages(load(None, ["docker.enable=false"]).local)
    assert "compute" not in next(one for one in nodes if one.name == "fork-server-removal").after


def test_what_was_once_asked_for_goes_with_all_that_it_had(asked, monkeypatch):
    one, _, _ = asked()
    gone, forgotten = [], []
    monkeypatch.setattr(one, "absent", gone.append)
    monkeypatch.setattr(infrastructure, "forget", lambda _, names: forgotten.extend(names))
    one.records.define(FORKED)  # a run was killed before it defined this one anew
    infrastructure.remove_fork_server(one)
    assert (gone, forgotten) == ([], [])
    one.records.forget(FORKED.name)
    infrastructure.remove_fork_server(one)
    assert forgotten == [fork_server.NAME]
    assert gone == [*fork_server.SCRIPTS, fork_server.DIRECTORY]


def test_it_is_not_removed_where_it_is_wanted(asked, monkeypatch):
    one, _, _ = asked(ON)
    monkeypatch.setattr(one, "absent", pytest.fail)
    infrastructure.remove_fork_server(one)


@pytest.mark.parametrize(("name", "note"), [("forked:8", ""), ("python", "not forked")], ids=("forked", "alone"))
def test_status_says_who_is_not_forked(monkeypatch, name, note):
    everything = {7: status.processes.Process(7, 1, 0.0, name)}
    monkeypatch.setattr(status.processes, "snapshot", lambda: everything)

    class Backend:
        def look(self, _):
            return RunState(running=True, pid=7)

    (found,) = status.conditions([FORKED], Backend())
    assert found.note[: len(note) or None] == note
    assert found.healthy
