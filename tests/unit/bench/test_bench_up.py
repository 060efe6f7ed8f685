# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest

from dockstack.bench.up_bench import Chapters, Life, Run, document_of, live, memory_of, memory_table, runs_table
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


def test_a_life_is_measured_through_the_commands():
    life = live([sys.executable, "-c", CLOUD], Chapters(fresh=True, warm=True, idle_seconds=0), {}, lambda text: None)
    assert [run.name for run in life.runs] == ["clean", "fresh up", "second up", "down", "warm up"]
    assert life.runs[1].changes == 3
    assert life.runs[1].steps[0].seconds == 2.5
    assert life.memory == {"mariadb": 200.0, "nova-api": 0.0}
    assert document_of(life)["runs"][1]["within_budget"] is True
    assert runs_table(life).row_count == 5
    assert memory_table(life).row_count == 3


def test_without_fresh_and_warm_nothing_is_stopped():
    chapters = Chapters(fresh=False, warm=False, idle_seconds=0)
    life = live([sys.executable, "-c", CLOUD], chapters, {}, lambda text: None)
    assert [run.name for run in life.runs] == ["second up"]


def test_a_failing_command_is_shown():
    chapters = Chapters(fresh=False, warm=False, idle_seconds=0)
    with pytest.raises(DockstackError) as caught:
        live([sys.executable, "-c", "import sys; sys.exit('no root')"], chapters, {}, lambda text: None)
    assert "no root" in caught.value.details


def test_budgets():
    assert Run("second up", 11).within_budget is False
    assert Run("down", 99).within_budget is None
    assert Life((), memory_of({})).memory_total == 0
