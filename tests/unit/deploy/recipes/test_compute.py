# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.output import Output, StepFailedError
from dockstack.deploy.recipes import compute
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit


@pytest.fixture
def asked(monkeypatch):
    questions = []
    monkeypatch.setattr(compute, "settings_of", lambda _: SimpleNamespace(hostname="here"))
    monkeypatch.setattr(compute, "compute_service", lambda _: Service(name="nova-compute", command=()))
    monkeypatch.setattr(compute.desired_state, "await_compute", lambda _, ages: ages)
    monkeypatch.setattr(compute, "ask", lambda _, action, desired: questions.append((action, desired)))
    return questions


def machine(directory, seen):
    return SimpleNamespace(
        manifest=Manifest(directory),
        backend=SimpleNamespace(look=lambda _: RunState(running=True, pid=7)),
        run=lambda *_, **__: Output(bool(seen), seen, ""),
        changes=0,
    )


def test_each_process_of_nova_compute_is_awaited_once_and_waiting_is_no_change(asked, tmp_path):
    first = machine(tmp_path, "30 Sun Nov 22 07:16:37 2026")
    compute.await_report(first)
    compute.await_report(machine(tmp_path, "90 Sun Nov 22 07:16:37 2026"))
    assert asked == [("await-compute", {"here": 30})]
    compute.await_report(machine(tmp_path, "5 Sun Nov 22 08:00:00 2026"))
    assert asked[1:] == [("await-compute", {"here": 5})]
    assert first.changes == 0


def test_a_nova_compute_that_is_gone_is_said(asked, tmp_path):
    with pytest.raises(StepFailedError, match="has ended"):
        compute.await_report(machine(tmp_path, ""))
    assert asked == []
