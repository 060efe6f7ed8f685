# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest

from dockstack.bench import up_bench
from dockstack.bench.up_bench import Measured, Phases, Run, document_of, memory_of, memory_table, runs_table
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

CLOUD = """
import json, sys
if sys.argv[1] == "status":
    services = [{"name": "mariadb", "memory": 209756979}, {"name": "nova-api", "memory": None}]
    print(json.dumps({"services": services}))
elif sys.argv[1] == "up":
    print("a warning of some library")
    print(json.dumps({"event": "done", "task": "node/packages", "phase": "install", "seconds": 2.5}))
    print(json.dumps({"event": "end", "ok": True, "changes": 3}))
"""


def test_the_cloud_is_measured_through_its_commands():
    measured = up_bench.measure(
        [sys.executable, "-c", CLOUD], Phases(fresh=True, warm=True, idle_seconds=0), {}, lambda text: None
    )
    assert [run.name for run in measured.runs] == ["clean", "fresh up", "second up", "down", "warm up"]
    assert measured.runs[1].changes == 3
    assert measured.runs[1].steps[0].seconds == 2.5
    assert measured.memory == {"mariadb": 200.0, "nova-api": 0.0}
    assert document_of(measured)["runs"][1]["within_budget"] is True
    assert runs_table(measured).row_count == 5
    assert memory_table(measured).row_count == 3


def test_without_fresh_and_warm_nothing_is_stopped():
    phases = Phases(fresh=False, warm=False, idle_seconds=0)
    measured = up_bench.measure([sys.executable, "-c", CLOUD], phases, {}, lambda text: None)
    assert [run.name for run in measured.runs] == ["second up"]


def test_a_failing_command_is_shown():
    phases = Phases(fresh=False, warm=False, idle_seconds=0)
    with pytest.raises(DockstackError) as caught:
        up_bench.measure([sys.executable, "-c", "import sys; sys.exit('no root')"], phases, {}, lambda text: None)
    assert "no root" in caught.value.details


def test_budgets():
    assert Run("second up", 11).within_budget is False
    assert Run("down", 99).within_budget is None
    assert Measured((), memory_of({})).memory_total == 0
