# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockstack.bench import fixture
from dockstack.bench.fixture import Request, set_up

pytestmark = pytest.mark.unit


def test_servers_go_before_the_quota_that_they_need(monkeypatch, tmp_path):
    done = []
    limits = {"instances": 10, "cores": 20, "ram": 51200}
    compute = SimpleNamespace(
        get_quota_set=lambda _project: SimpleNamespace(**limits),
        update_quota_set=lambda _project, **values: done.append(values["instances"]),
    )
    monkeypatch.setattr(fixture, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(fixture, "delete_all", lambda _connection: done.append("delete"))
    monkeypatch.setattr(fixture, "prepare", lambda *_arguments: "fixture")
    connection = SimpleNamespace(compute=compute, current_project_id="p")
    with set_up(connection, Request("image", "flavor", "network", baseline=False), print):
        done.append("measure")
    assert done == ["delete", fixture.UNLIMITED, "measure", "delete", 10]
