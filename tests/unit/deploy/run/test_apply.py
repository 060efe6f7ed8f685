# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.run import apply
from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.deploy.run.plan import Task
from dockstack.deploy.supervision.services import ServiceStart
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


class Silent:
    changes = 1
    services = ("nova-api",)
    starts = (ServiceStart("nova-api", 0.5, 2.0),)


@pytest.fixture
def run(node, monkeypatch, tmp_path):
    """Run stages in real child processes, with a machine that does nothing."""
    monkeypatch.setattr(apply, "connect", lambda _: None)
    monkeypatch.setattr(apply, "Machine", lambda *_, **__: Silent())
    monkeypatch.setattr(apply.paths, "SECRETS_FILE", str(tmp_path / "secrets.yaml"))

    def go(*stages, slots=4):
        here = node()
        events = []
        work = {
            f"local/{stage.name}": Task(here, stage, frozenset(f"local/{name}" for name in stage.after))
            for stage in stages
        }
        runner = apply.Runner(work, slots, events.append)
        return runner, events

    return go


def fails(_):
    raise DockstackError("It broke.", "Mend it.", "line 1\nline 2")


def test_stages_run_in_order_and_tell(run):
    runner, events = run(Stage("b", "B", lambda _: None, ("a",)), Stage("a", "A", lambda _: None))
    assert runner.run()
    told = [(event.kind, event.task) for event in events]
    assert told == [(Kind.START, "local/a"), (Kind.DONE, "local/a"), (Kind.START, "local/b"), (Kind.DONE, "local/b")]
    assert runner.changes == 2
    assert runner.services == {"local": {"nova-api"}}
    assert [event.starts for event in events] == [(), Silent.starts] * 2
    first, second = (event for event in events if event.kind is Kind.START)
    assert (first.after, second.after) == ((), ("local/a",))
    assert 0 <= first.at <= second.at


def test_independent_stages_run_side_by_side(run):
    meeting = multiprocessing.get_context("fork").Barrier(4, timeout=60)
    runner, _ = run(*(Stage(str(i), "", lambda _: meeting.wait()) for i in range(4)))
    assert runner.run()


def test_slots_are_respected(run):
    def work(_):
        time.sleep(0.1)  # so that another one could begin meanwhile

    runner, events = run(*(Stage(str(i), "", work, weight=2) for i in range(3)), slots=2)
    assert runner.run()
    assert [event.kind for event in events] == [Kind.START, Kind.DONE] * 3


def test_a_failure_is_told_with_its_cure_and_nothing_new_begins(run):
    runner, events = run(Stage("a", "A", fails), Stage("b", "B", lambda _: None, ("a",)))
    assert not runner.run()
    failed = next(event for event in events if event.kind is Kind.FAILED)
    assert (failed.text, failed.cure, failed.details) == ("It broke.", "Mend it.", "line 1\nline 2")
    assert not any(event.task == "local/b" for event in events)


def test_an_unexpected_error_is_told_as_ours(run):
    runner, events = run(Stage("a", "A", lambda _: {}["x"]))
    assert not runner.run()
    failed = events[-1]
    assert "KeyError" in failed.text
    assert "fault in dockstack" in failed.cure


def test_a_killed_stage_fails(run):
    runner, events = run(Stage("a", "A", lambda _: os.kill(os.getpid(), signal.SIGKILL)))
    assert not runner.run()
    assert "killed" in events[-1].text


def test_an_interruption_ends_the_children(run):
    def work(_):
        os.kill(os.getppid(), signal.SIGUSR1)
        time.sleep(60)  # longer than the test may take

    runner, _ = run(Stage("a", "A", work))
    others = children()
    before = signal.signal(signal.SIGUSR1, runner.interrupt)
    began = time.monotonic()
    try:
        assert not runner.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - began < 50
    assert children() <= others


def children() -> set[int]:
    """What this process has started and not buried."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@pytest.mark.parametrize(
    "event",
    [
        Event(Kind.PLAN, tasks=("local/a",)),
        Event(Kind.FAILED, "local/a", "A", "start", "text", "cure", "a\nb", seconds=1.5),
        Event(Kind.END, ok=False, changes=3, seconds=2.0),
        Event(Kind.SAY, "local/a", text="ünïcode"),
    ],
)
def test_events_survive_their_line(event):
    assert parse(event.line()) == event


@pytest.mark.parametrize("line", ["", "a warning", "{}", '{"event": "unheard of"}', "[1]", "3"])
def test_what_is_no_event_is_ignored(line):
    assert parse(line) is None
