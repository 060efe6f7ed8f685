# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockstack.bench import control_plane_baseline
from dockstack.bench.control_plane_baseline import RunningCompute, chassis_rows, override_of
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import Boot, Burst, EngineRun, Goal, Measurements, goal_of, summarise
from dockstack.bench.plots import draw
from dockstack.bench.report import document_of, notes_of, table_of
from dockstack.cli.bench import write

pytestmark = pytest.mark.unit


def measured(boot=3.2, floor=2.8):
    return Measurements(
        server=tuple(Boot(0.3, boot + step / 100, 0.9) for step in range(5)),
        floor=tuple(Boot(0.3, floor, 0.8) for _ in range(5)),
        raw=tuple(EngineRun(0.4, 0.12) for _ in range(5)),
        burst=Burst(20, 19, ("ERROR: No valid host",), 40.0, 9.0),
        machine={"cores": 2, "measured_at": "2026-01-01T00:00:00+00:00"},
    )


def test_summaries():
    assert summarise([]) is None
    assert summarise([2.0]).p90 == 2.0
    summary = summarise([float(each) for each in range(1, 12)])
    assert (summary.n, summary.median, summary.p90, summary.best) == (11, 6.0, 10.0, 1.0)


def test_the_goal_is_the_floor_and_a_quarter_more_than_the_engine():
    goal = Goal(boot=3.3, floor=2.8, raw=0.4)
    assert goal.limit == pytest.approx(3.3)
    assert goal.met
    assert goal.own_share == pytest.approx(1.25)
    assert "goal met" in goal.describe()[1]
    assert "goal MISSED" in Goal(3.31, 2.8, 0.4).describe()[1]


def test_the_budget_is_a_quarter_more_than_floor_and_engine_together():
    goal = Goal(boot=3.99, floor=2.8, raw=0.4)
    assert goal.budget == pytest.approx(4.0)
    assert goal.within_budget
    assert not goal.met
    assert "budget met" in goal.describe()[0]
    assert "budget MISSED" in Goal(4.01, 2.8, 0.4).describe()[0]


def test_without_a_floor_there_is_no_goal():
    assert goal_of(Measurements((Boot(1, 2, 3),), (EngineRun(1, 1),))) is None


def test_the_report_names_errors_and_what_is_missing(tmp_path):
    data = measured()
    assert any("No valid host" in note for note in notes_of(data))
    slower = replace(data, floor_burst=replace(data.burst, seconds=data.burst.seconds / 2))
    assert any("MISSED: the burst has 50% of the floor's rate" in note for note in notes_of(slower))
    assert "no floor: none" in notes_of(Measurements((Boot(1, 2, 3),), floor_reason="none"))
    assert table_of(data).row_count == 9
    document = json.dumps(document_of(data))
    write(document, data, tmp_path / "new" / "boot")
    assert json.loads((tmp_path / "new" / "boot.json").read_text()) == json.loads(document)
    assert (tmp_path / "new" / "boot.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_copes_with_a_single_kind(tmp_path):
    draw(Measurements((Boot(1, 2, 3),)), tmp_path / "boot.png")
    assert (tmp_path / "boot.png").exists()


def test_the_floor_overrides_what_would_touch_the_real_service():
    text = override_of(20 * 64)
    assert "compute_driver = fake.SmallFakeDriver" in text
    assert "reserved_host_memory_mb = 6912" in text
    assert "vif_plugging_timeout = 0" in text
    assert "state_path = /var/lib/dockstack/bench-baseline" in text


def test_the_running_service_tells_its_files():
    arguments = (
        "/v/bin/python3",
        "/v/bin/nova-compute",
        "--config-file",
        "/etc/nova/nova.conf",
        "--config-file=/etc/nova/x.conf",
    )
    running = RunningCompute(arguments, "nova")
    assert running.directory == Path("/v/bin")
    assert running.config_files == ("/etc/nova/nova.conf", "/etc/nova/x.conf")


def test_the_chassis_is_one_transaction():
    rows = chassis_rows(1234)
    assert rows.count("create") == 3
    assert "hostname=dockstack-bench-baseline" in rows
    assert "nb_cfg_timestamp=1234" in rows


def test_the_machine_is_described():
    facts = describe_machine()
    assert facts["cores"] >= 1
    assert facts["memory_mib"] > 0


def test_the_baselines_agent_is_deleted_while_its_chassis_is_there(monkeypatch):
    """Neutron looks for an agent's chassis when it deletes the agent; afterwards it lists it as dead."""
    done = []

    class Network:
        def agents(self, host):
            return [f"agent of {host}"]

        def delete_agent(self, agent, ignore_missing):
            done.append(agent)

    monkeypatch.setattr(control_plane_baseline, "run", lambda command: done.append(command[0]) or "unix:/sb")
    control_plane_baseline.remove_chassis(SimpleNamespace(network=Network()))
    assert done == ["agent of dockstack-bench-baseline", "ovs-vsctl", "ovn-sbctl", "ovn-sbctl"]
