# SPDX-License-Identifier: Apache-2.0
"""Dashboard, alerts and guide speak of what is exported, and of all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.exposition import generate_latest

from dockstack.compute.host.counts import PHASES, Counts
from dockstack.telemetry.exporter import build_registry
from dockstack.telemetry.metrics import HostMetrics
from telemetry_host import TelemetryHost

pytestmark = pytest.mark.unit

DOCS = Path(__file__).resolve().parents[3] / "docs"
NAME = re.compile(r"\bdockstack_[a-z0-9_]+")
EXPRESSIONS = {
    "dashboard": [
        target["expr"]
        for panel in json.loads((DOCS / "monitoring/dashboard.json").read_text())["panels"]
        for target in panel.get("targets", ())
    ],
    "alerts": [
        rule["expr"]
        for group in yaml.safe_load((DOCS / "monitoring/alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ],
}


@pytest.fixture
def exported(tmp_path) -> set[str]:
    """The names of all samples."""
    host = TelemetryHost(tmp_path / "host")
    host.add(7)
    path = tmp_path / "compute.prom"
    counts = Counts(str(path))
    with counts.boot() as boot:
        for phase in PHASES:
            boot.reached(phase)
    counts.watch(type("Driver", (), {"spawn": lambda _: None})(), ["spawn"])
    metrics = HostMetrics(host.census(), name="node7", disk="/", compute=path)
    text = generate_latest(build_registry(metrics)).decode()
    return {match[0] for line in text.splitlines() if (match := NAME.match(line))}


@pytest.mark.parametrize("file", EXPRESSIONS)
def test_every_metric_that_is_asked_for_is_exported(file, exported) -> None:
    asked = {name for expression in EXPRESSIONS[file] for name in NAME.findall(expression)}
    assert len(asked) > 5
    assert asked <= exported


def test_labels_of_the_dashboard_are_exported_too(exported) -> None:
    board = json.loads((DOCS / "monitoring/dashboard.json").read_text())
    queries = [variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert {name for query in queries for name in NAME.findall(query)} <= exported
    assert [query.rpartition(", ")[2] for query in queries] == ["instance)", "project)", "server)"]


def test_no_two_panels_share_an_id_or_a_place() -> None:
    panels = json.loads((DOCS / "monitoring/dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_alerts_say_what_happened_and_what_to_do() -> None:
    for group in yaml.safe_load((DOCS / "monitoring/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule), rule["alert"]
            assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_the_guide_tells_of_every_metric(exported) -> None:
    guide = (DOCS / "monitoring.md").read_text()
    told = set(NAME.findall(guide))
    samples = {re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name) for name in exported}
    assert {name for name in samples if not name.startswith("dockstack_exporter_process_")} <= told
    assert {name for name in told if not name.startswith("dockstack_exporter_process_")} <= samples
