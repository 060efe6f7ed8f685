# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from fake_sdk import FakeCloud

from dockstack.verify.context import Exercise
from dockstack.verify.model import Capability, CheckFailed, Verdict
from dockstack.verify.resources import boot, make_group, make_key
from dockstack.verify.runner import run_one

pytestmark = pytest.mark.unit


def run(exercise, cloud, facts, short):
    return run_one(exercise, cloud, facts, short, lambda text: None)


def test_passes_and_takes_everything_back_in_reverse(facts, short):
    cloud = FakeCloud()

    def steps(ctx):
        group = make_group(ctx, [{"protocol": "icmp"}])
        name, _ = make_key(ctx)
        boot(ctx, group=group, key_name=name)

    result = run(Exercise("x", "X", steps), cloud, facts, short)
    assert result.verdict is Verdict.PASSED
    assert [entry.split("-x-")[0] for entry in cloud.log if "rule" not in entry] == [
        "create group dockstack-verify", "create key dockstack-verify", "create server dockstack-verify",
        "delete server dockstack-verify", "delete key dockstack-verify", "delete group dockstack-verify",
    ]  # fmt: skip


def test_skips_with_the_reason_and_touches_nothing(facts, short):
    cloud = FakeCloud()
    result = run(Exercise("x", "X", lambda ctx: 1 / 0, frozenset({Capability.IPV6})), cloud, facts, short)
    assert (result.verdict, result.reason) == (Verdict.SKIPPED, "network private has no IPv6 subnet")
    assert cloud.log == []


def test_a_failure_shows_fault_action_and_console_and_cleans_up(facts, short):
    cloud = FakeCloud("ERROR", {"message": "No space left", "details": "Traceback"})
    result = run(Exercise("x", "X", boot), cloud, facts, short)
    assert result.verdict is Verdict.FAILED
    assert "No space left" in result.reason
    told = "\n".join(result.evidence)
    assert "fault: No space left" in told
    assert "action create" in told
    assert "login:" in told
    assert "nova-compute.log" in told
    assert not cloud.servers.items


def test_a_server_that_never_becomes_active_says_what_it_is(facts, short):
    result = run(Exercise("x", "X", boot), FakeCloud("BUILD"), facts, short)
    assert "was not ACTIVE" in result.reason
    assert "BUILD" in result.reason


def test_an_interrupt_still_cleans_up(facts, short):
    cloud = FakeCloud()

    def steps(ctx):
        boot(ctx)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Exercise("x", "X", steps), cloud, facts, short)
    assert not cloud.servers.items


def test_a_failing_cleanup_fails_the_exercise_and_the_rest_is_still_cleaned(facts, short):
    cloud = FakeCloud()

    def refuse():
        raise CheckFailed("port in use")

    def steps(ctx):
        make_group(ctx, [])
        ctx.stack.callback(refuse)

    result = run(Exercise("x", "X", steps), cloud, facts, short)
    assert (result.verdict, result.reason) == (Verdict.FAILED, "port in use")
    assert not cloud.groups.items


def test_the_first_error_survives_a_failing_cleanup(facts, short):
    def refuse():
        raise CheckFailed("second")

    def steps(ctx):
        ctx.stack.callback(refuse)
        raise CheckFailed("first", "cure")

    result = run(Exercise("x", "X", steps), FakeCloud(), facts, short)
    assert (result.reason, result.resolution) == ("first", "cure")
    assert any("second" in each for each in result.evidence)


def test_a_fault_of_our_own_is_not_taken_for_the_clouds(facts, short):
    with pytest.raises(ZeroDivisionError):
        run(Exercise("x", "X", lambda ctx: 1 / 0), FakeCloud(), facts, short)
