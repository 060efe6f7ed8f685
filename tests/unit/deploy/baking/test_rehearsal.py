# SPDX-License-Identifier: Apache-2.0
"""Databases are migrated by the stages of `up`, and by no more of them than it takes."""

from __future__ import annotations

import pytest

from dockstack.deploy.baking import rehearsal
from dockstack.deploy.configuration.settings import DATABASES
from dockstack.deploy.run.plan import node_stages, tasks
from dockstack.deploy.wanted import inventory

pytestmark = pytest.mark.unit


@pytest.fixture
def chosen():
    def stages(*assignments):
        node = inventory.load(None, (*assignments, *rehearsal.SETTINGS)).local
        return {task.stage.name: task for task in rehearsal.rehearsed(tasks(node, node_stages(node)))}

    return stages


def test_every_database_is_migrated_and_whatever_that_waits_for_is_there(chosen):
    found = chosen()
    assert {f"{user}-database" for user in DATABASES} <= set(found)
    assert all(key.partition("/")[2] in found for task in found.values() for key in task.after)


def test_nothing_is_provided_and_no_service_but_the_database_starts(chosen):
    unwanted = {"keystone-administrator", "identity", "message-bus", "token-cache", "nova", "switch", "base-image"}
    assert not unwanted & set(chosen())
    assert not [name for name in chosen() if name.startswith("hypervisor")]


def test_it_is_the_same_whatever_the_cloud_has(chosen):
    assert set(chosen("tls.enable=true", "volumes.enable=true", "key_manager.enable=true", "hosts=3")) == set(chosen())


def test_no_account_stays_whose_password_might_be_known(machine, monkeypatch):
    said = []
    monkeypatch.setattr(rehearsal, "run_sql", lambda _machine, _settings, sql: said.append(sql))
    monkeypatch.setattr(rehearsal.teardown, "down", lambda _machine: said.append("down"))
    rehearsal.dismiss(machine({"hostname": "node1\nsystem"}))
    assert said[-1] == "down"
    assert all(f"DROP USER '{user}'@'localhost'" in said[0] for user in DATABASES)
