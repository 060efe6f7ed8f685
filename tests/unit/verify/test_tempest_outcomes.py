# SPDX-License-Identifier: Apache-2.0
"""What Tempest's events come to, and how it is reported."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from dockstack.verify.tempest import events, report
from dockstack.verify.tempest.model import Outcome, Verdict
from dockstack.verify.tempest.progress import Progress
from dockstack.verify.tempest.runner import Began, complete, follow

pytestmark = pytest.mark.unit

ONE, TWO, THREE = (f"tempest.api.compute.test_a.A.test_{word}" for word in ("one", "two", "three"))
OTHER = "tempest.scenario.test_b.B.test_other"


def line(name, state, at, text="", tags=("worker-1",)):
    return json.dumps({"id": name, "state": state, "at": at, "text": text, "tags": list(tags)})


def outcome(name, verdict, text="", seconds=1.0):
    return Outcome(name, Verdict(verdict), seconds, text)


def test_events_become_outcomes():
    lines = [line(f"{ONE}[id-1]", "inprogress", 10.0), line(f"{ONE}[id-1]", "success", 12.5)]
    assert list(follow(lines)) == [Began(ONE), Outcome(ONE, Verdict.PASSED, 2.5, "", 1)]
    skipped = line("setUpClass (tempest.api.compute.test_a.A)", "skip", 1.0, "not there", ())
    assert list(follow([skipped])) == [
        Outcome("setUpClass (tempest.api.compute.test_a.A)", Verdict.SKIPPED, 0.0, "not there", 0)
    ]


def test_a_stream_is_translated_line_by_line(capsys):
    lines = events.Lines()
    lines.status(test_id="a", test_status="exists")
    lines.status(test_id="a", test_status="inprogress", test_tags={"worker-0"})
    lines.status(test_id="a", file_name="traceback", file_bytes=b"Traceback\n")
    lines.status(test_id="a", file_name="pythonlogging:''", file_bytes=b"noise")
    lines.status(test_id="a", test_status="fail", test_tags={"worker-0"})
    lines.status(test_id=None, file_name="stdout", file_bytes=b"noise")
    found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(each["state"], each["text"]) for each in found] == [("inprogress", ""), ("fail", "Traceback\n")]


def test_tests_of_a_class_that_was_not_set_up_share_its_fate():
    told = [outcome("setUpClass (tempest.api.compute.test_a.A)", "failed", "Boom"), outcome(OTHER, "passed")]
    found = complete([f"{ONE}[id-1]", f"{TWO}[id-2]", OTHER], told, {})
    assert [(each.name, each.verdict) for each in found] == [(ONE, "failed"), (TWO, "failed"), (OTHER, "passed")]


def test_a_failed_end_of_a_class_counts():
    told = [outcome(ONE, "passed"), outcome("tearDownClass (tempest.api.compute.test_a.A)", "failed", "left")]
    assert report.count(complete([ONE], told, {})) == {Verdict.PASSED: 1, Verdict.FAILED: 1}


def test_a_test_that_nothing_was_said_of_failed_unless_the_run_was_interrupted():
    assert complete([ONE], [], {})[0].verdict is Verdict.FAILED
    assert complete([ONE], [], {}, interrupted=True)[0].verdict is Verdict.SKIPPED


def test_excluded_tests_are_shown_as_skipped_with_their_reason():
    found = complete([ONE], [outcome(ONE, "passed")], {TWO: "it needs a firmware"})
    assert found[1].verdict is Verdict.SKIPPED
    assert "firmware" in found[1].reason


def results():
    return [
        outcome(ONE, "passed"),
        outcome(TWO, "failed", "Traceback\n  somewhere\nAssertionError: 1 != <2>\x00"),
        outcome(THREE, "skipped", "Volumes are off."),
        outcome(OTHER, "skipped", "Volumes are off."),
    ]


def test_reports_are_written(tmp_path):
    paths = report.write(results(), tmp_path, {"cloud": "dockstack"}, 90.0)
    assert [path.name for path in paths] == ["index.html", "junit.xml", "results.json"]
    suite = ET.fromstring((tmp_path / "junit.xml").read_text())  # noqa: S314 - we have just written it
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    assert "AssertionError: 1 != &lt;2&gt;" in (tmp_path / "index.html").read_text()
    found = json.loads((tmp_path / "results.json").read_text())
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 2)
    assert found["tests"][THREE]["reason"] == "Volumes are off."


def test_the_skipped_are_grouped_and_areas_counted():
    assert report.reasons(results()) == {"Volumes are off.": [THREE, OTHER]}
    assert set(report.by_area(results())) == {"api.compute", "scenario"}
    assert report.summary_of(results(), 90.0) == "1 passed, 1 failed, 2 skipped in 1.5 minutes"


def test_progress_shows_a_failure_at_once_and_where_the_run_is():
    written = io.StringIO()
    with Progress(Console(file=written, width=200), 3) as progress:
        progress.begin(ONE)
        assert progress.line() == "0 of 3: 0 passed, 0 failed, 0 skipped; now test_one"
        progress.end(outcome(ONE, "failed", "AssertionError: no"))
        assert progress.line() == "1 of 3: 0 passed, 1 failed, 0 skipped; now between classes"
    assert f"FAILED {ONE}: AssertionError: no" in written.getvalue()
