# SPDX-License-Identifier: Apache-2.0
"""Hosts that nobody connects to: their names say how they are."""

from __future__ import annotations

import pytest

from dockstack.deploy.administration.enrolment import Enrolled
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import adding, own_host, survey
from dockstack.deploy.join.adding import Added
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.plan import NodePlan
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.run.preflight import Problem
from dockstack.errors import DockstackError

ENROLLED = {
    "good": Enrolled(enabled=True, proof=3.21),
    "again": Enrolled(enabled=True),
    "theirs": Enrolled(enabled=True),
    "kept": Enrolled(enabled=False, reason="broken fan"),
}
HOSTNAMES = {"good": "good.example.org", "same": "good.example.org"}


class Adding:
    """In the place of the connection: one host breaks, all others change something."""

    def __init__(self, noted):
        self.added, self.introduced = [], []
        self.enrolment, self.journal, self.peers = None, noted, self

    def made(self, *, enrolment=None, command, one_by_one=None):
        self.enrolment, self.command, self.one_by_one = enrolment, command, one_by_one
        return self

    def add(self, node, looked, tell):
        tell(Event(Kind.START, f"{node.name}/switch", "Starting the switch"))
        tell(Event(Kind.SAY, f"{node.name}/switch", text="Starting ovsdb"))
        self.added.append(node.name)
        if node.name == "breaks":
            raise DockstackError("Starting the switch: No.", "Mend it.", "last words")
        enrolled = ENROLLED[node.name] if self.enrolment else None
        changes = 0 if node.name == "again" else 7
        return Added(looked.plan.hostname, changes, sent=False, seconds=2.0, enrolled=enrolled)

    def knows(self, name):
        return name.startswith("old")

    def forget(self, name):
        assert name == own_host.NAME, "this machine is no host of that cloud"

    def introduce_to(self, node):
        self.introduced.append(node.name)
        if node.name == "shy":
            raise DockstackError("It does not learn of others.", "Try again.")


@pytest.fixture
def hosts(monkeypatch, tmp_path):
    """What adds hosts, whose names say how they are."""

    def look(node, document):
        if node.name == "down":
            raise DockstackError("Node down cannot be reached.", "Check its address.")
        problems = (Problem("It holds a cloud.", "Use another."),) if node.name == "unfit" else ()
        engine = "of dockstack's own (the machine's is in a swarm)" if node.name == "theirs" else ""
        name = HOSTNAMES.get(node.name, f"{node.name}.example.org")
        plan = NodePlan(name, problems, engine=engine, servers=node.name == "busy")
        return survey.Survey(plan, commission(node, document, "10.1.0.31"), DEBIAN_12)

    noted = Journal(tmp_path / "noted")
    for name in ("old", "failed", "good"):
        noted.note(Entry(name, f"admin@10.0.0.{len(name)}:2222", name, "2026.2", Step.ENABLED))
    one = Adding(noted)
    monkeypatch.setattr(survey, "survey", look)
    monkeypatch.setattr(adding, "Adding", one.made)
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    return one
