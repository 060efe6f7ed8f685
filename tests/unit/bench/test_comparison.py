# SPDX-License-Identifier: Apache-2.0
"""`bench compare`: regressions beyond the noise are named, all else is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dockstack.bench import comparison
from dockstack.bench.comparison import BOOT, compare
from dockstack.bench.report import RAW, SERVER
from dockstack.cli.bench import bench
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def boots(seconds, raw=0.25, spread=0.02):
    """Ten boots around a median, and the engine's own starts in the same run."""
    offsets = [spread * (number - 4.5) / 4.5 for number in range(10)]
    kinds = {SERVER: [seconds + offset for offset in offsets], RAW: [raw + offset / 10 for offset in offsets]}
    return {"samples": {BOOT: kinds}, "machine": {"cpu": "a", "cores": 2}}


def verdicts(old, new):
    return {change.name: change.verdict for change in compare(old, new).changes}


def test_a_slower_boot_is_a_regression_and_a_faster_one_is_not():
    name = f"{BOOT}, {SERVER}"
    assert verdicts(boots(2.0), boots(2.3)) == {name: "regression"}
    assert verdicts(boots(2.0), boots(1.7)) == {name: "better"}
    assert verdicts(boots(2.0), boots(2.05)) == {name: ""}


def test_a_machine_that_is_slower_by_itself_is_no_regression():
    found = compare(boots(2.0, raw=0.25), boots(2.4, raw=0.30))
    assert found.machine == pytest.approx(1.2)
    assert found.regressions == ()
    assert "1.20 x" in found.notes[0]


def test_what_varies_much_must_change_more():
    assert verdicts(boots(2.0, spread=1.0), boots(2.4, spread=1.0)) == {f"{BOOT}, {SERVER}": ""}
    assert verdicts(boots(2.0, spread=1.0), boots(4.0, spread=1.0)) == {f"{BOOT}, {SERVER}": "regression"}


def test_a_rate_is_worse_when_it_falls_and_memory_does_not_depend_on_the_machines_speed():
    old = {**boots(2.0), "burst": {"rate": 1.0}, "idle_memory_total_mib": 2000.0}
    new = {**boots(4.0, raw=0.5), "burst": {"rate": 0.5}, "idle_memory_total_mib": 2000.0}
    assert set(verdicts(old, new).values()) == {""}
    fallen = {**boots(2.0), "burst": {"rate": 0.5}, "idle_memory_total_mib": 3000.0}
    assert [change.name for change in compare(old, fallen).regressions] == [
        "burst, servers a second",
        "idle memory, MiB",
    ]


@pytest.mark.parametrize("name", ["boot", "actions", "density", "images", "registry", "up"])
def test_every_benchmarks_document_is_understood(name):
    document = json.loads((RESULTS / f"{name}.json").read_text())
    found = compare(document, document)
    assert len(found.changes) >= (2 if name == "registry" else 4)
    assert not [change.name for change in found.changes if "raw" in change.name or "None" in change.name]
    assert found.regressions == ()
    assert comparison.document_of(found)["regressions"] == []


def test_an_engine_that_only_one_run_has_timed_is_not_said_to_be_as_fast_as_before():
    untimed = boots(2.0)
    del untimed["samples"][BOOT][RAW]
    for old, new in ((boots(2.0), untimed), (untimed, boots(2.0))):
        found = compare(old, new)
        assert found.machine == 1.0
        assert found.notes == ("The engine alone was not timed in both, so a slower machine looks like a regression.",)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (
            {"samples": [{"size": 50, "load": 1.0, "raw_load": 1.0}]},
            {"samples": [{"size": 50, "load": 1.0, "raw_load": 9.0}]},
            "load of 50 MiB",
        ),
        (
            {"size": 500, "samples": [{"push": 1.0, "raw_push": 1.0}]},
            {"size": 500, "samples": [{"push": 1.0, "raw_push": 9.0}]},
            "push of 500 MiB",
        ),
        (
            {"levels": [{"servers": 3, "memory_mib": 1.0, "raw_memory_mib": 1.0}]},
            {"levels": [{"servers": 3, "memory_mib": 1.0, "raw_memory_mib": 9.0}]},
            "3 servers, memory_mib",
        ),
    ],
    ids=["images", "registry", "density"],
)
def test_what_others_do_without_us_is_no_regression_of_ours(old, new, name):
    assert verdicts(old, new) == {name: ""}


def test_other_machines_are_named():
    other = {**boots(2.0), "machine": {"cpu": "b", "cores": 2}}
    assert "Not the same machine: cpu was a, and is b." in compare(boots(2.0), other).notes


def test_two_benchmarks_cannot_be_compared():
    with pytest.raises(DockstackError, match="no figure in common"):
        compare(boots(2.0), {"runs": [{"name": "warm up", "seconds": 1.0}]})


def test_the_command_names_regressions_and_says_so_by_its_exit_status(tmp_path):
    old, new, text = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "text.json"
    old.write_text(json.dumps(boots(2.0)))
    new.write_text(json.dumps(boots(3.0)))
    worse = CliRunner().invoke(bench, ["compare", str(old), str(new)])
    assert worse.exit_code == 1
    assert f"1 regressions: {BOOT}, {SERVER}" in worse.output
    assert CliRunner().invoke(bench, ["compare", str(new), str(old)]).exit_code == 0
    document = json.loads(CliRunner().invoke(bench, ["compare", str(old), str(new), "--json"]).output)
    assert document["regressions"] == [f"{BOOT}, {SERVER}"]
    text.write_text("[1]")
    refused = CliRunner().invoke(bench, ["compare", str(old), str(text)])
    assert isinstance(refused.exception, DockstackError)
