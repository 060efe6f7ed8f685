# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy import connection, inventory
from dockstack.deploy.layer import Machine
from dockstack.deploy.manifest import Manifest
from dockstack.deploy.secrets import Secrets
from dockstack.deploy.state import Records


class FakeMachine(Machine):
    """A machine of pyinfra's @fake connector: every command succeeds with no output unless it is scripted."""

    @property
    def commands(self) -> list[str]:
        return self._host.connector.executed_commands


@pytest.fixture
def node():
    def build(*assignments, **changes):
        local = inventory.load(None, assignments).local
        return replace(local, connector="@fake", **changes)

    return build


@pytest.fixture
def machine(node, tmp_path):
    def build(answers=None, *assignments):
        chosen = node("services.backend=supervisor", *assignments)
        link = connection.connect(chosen, fake_responses=answers or {}, fake_delay=0, fake_delay_jitter=0)
        records = Records(tmp_path / "state")
        return FakeMachine(
            chosen, Secrets(tmp_path / "secrets.yaml"), Manifest(tmp_path / "state"), link, records=records
        )

    return build
