# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from dockstack.errors import DockstackError
from dockstack.verify.exercises import ALL, choose
from dockstack.verify.model import PREFIX, Result, Timeouts, Verdict
from dockstack.verify.report import evidence_of, json_of, summary_of, table_of

pytestmark = pytest.mark.unit


def test_the_docker_exercise_comes_first_and_names_are_unique():
    names = [exercise.name for exercise in ALL]
    assert names[0] == "docker"
    assert len(set(names)) == len(names)


def test_choose_keeps_the_order_of_a_run():
    assert [each.name for each in choose(["pause", "docker"])] == ["docker", "pause"]
    assert choose([]) == ALL


def test_choose_refuses_an_unknown_name():
    with pytest.raises(DockstackError, match="no exercise 'foo'"):
        choose(["foo"])


def test_timeouts_come_from_devstacks_names():
    found = Timeouts.from_environment({"ACTIVE_TIMEOUT": "7", "TERMINATE_TIMEOUT": "8.5"})
    assert (found.active, found.terminate, found.associate) == (7, 8.5, Timeouts().associate)


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan", "inf"])
def test_a_bad_timeout_is_refused(text):
    with pytest.raises(DockstackError, match="ACTIVE_TIMEOUT"):
        Timeouts.from_environment({"ACTIVE_TIMEOUT": text})


def test_reports(facts):
    results = [
        Result("docker", "T", Verdict.PASSED, 1.5),
        Result("login", "T", Verdict.FAILED, 2.5, "no [answer]", "look", ("a\nb",)),
        Result("ipv6", "T", Verdict.SKIPPED, 0.0, "none"),
    ]
    assert summary_of(results) == "1 passed, 1 failed, 1 skipped in 4 s"
    assert table_of(results).row_count == 3
    assert evidence_of(results[1]) == "login: no [answer]\nwhat to do: look\n  a\n  b"
    document = json.loads(json_of("dockstack", facts, results))
    assert document["passed"] is False
    assert document["results"][1]["verdict"] == "failed"
    assert document["missing"] == {"ipv6": "network private has no IPv6 subnet"}


def test_the_prefix_is_what_sweeping_looks_for():
    assert PREFIX == "dockstack-verify-"
