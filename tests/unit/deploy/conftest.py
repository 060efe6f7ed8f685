# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import replace

import pytest

from dockstack.deploy.node import connection, processes
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.supervision.backends import supervisor
from dockstack.deploy.supervision.machine import Machine
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted import inventory


class FakeMachine(Machine):
    """A machine of pyinfra's @fake connector: every command succeeds with no output unless it is scripted."""

    def _within(self, line: str, limit: int) -> str:
        del limit
        return line

    @property
    def commands(self) -> list[str]:
        return self._host.connector.executed_commands


@pytest.fixture(autouse=True)
def _leave_this_machine_alone(monkeypatch, tmp_path):
    """A cloud may run on this very machine: tests end what they have started, and speak to no supervisor of its own."""
    end = processes.end

    def end_own(pids, *rest, **options):
        own = processes.tree(os.getpid(), processes.snapshot())
        return end([pid for pid in pids if pid in own], *rest, **options)

    monkeypatch.setattr(processes, "end", end_own)
    monkeypatch.setattr(supervisor, "SOCKET", str(tmp_path / "no-supervisor"))


@pytest.fixture
def node():
    def build(*assignments, **changes):
        local = inventory.load(None, assignments).local
        return replace(local, connector="@fake", **changes)

    return build


@pytest.fixture
def this_machine(tmp_path):
    """This machine, by the @local connector; the tests touch only their own directory."""

    def build(*assignments):
        local = inventory.load(None, ["services.backend=supervisor", *assignments]).local
        state = tmp_path / "state"
        return Machine(
            local,
            Secrets(tmp_path / "secrets.yaml"),
            Manifest(state),
            connection.connect(local),
            records=Records(state),
        )

    return build


@pytest.fixture
def machine(node, tmp_path):
    def build(answers=None, *assignments):
        chosen = node("services.backend=supervisor", "distribution=debian-12", *assignments)
        link = connection.connect(chosen, fake_responses=answers or {}, fake_delay=0, fake_delay_jitter=0)
        records = Records(tmp_path / "state")
        return FakeMachine(
            chosen, Secrets(tmp_path / "secrets.yaml"), Manifest(tmp_path / "state"), link, records=records
        )

    return build
