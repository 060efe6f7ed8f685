# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from rich.console import Console

from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.run.progress import Json, Plain, Story, Terminal, done_line, end_lines, failure_lines

pytestmark = pytest.mark.unit

EVENTS = [
    Event(Kind.PLAN, tasks=("local/a", "local/b")),
    Event(Kind.START, "local/a", "Installing", "install"),
    Event(Kind.SAY, "local/a", text="fetching"),
    Event(Kind.DONE, "local/a", "Installing", "install", changes=2, seconds=3.0),
    Event(Kind.START, "local/b", "Starting", "start"),
    Event(Kind.FAILED, "local/b", "Starting", "start", "nova is not ready", "Look.", "last\nlines", ok=False),
]


def test_plain_lines(capsys):
    with Plain() as display:
        for event in EVENTS:
            display.show(event)
    assert capsys.readouterr().out == (
        "  fetching\ndone: Installing (3.0 s)\nfailed: Starting\n  nova is not ready\n  | last\n  | lines\n"
        "what to do: Look.\n"
    )


def test_machines_get_the_events(capsys):
    with Json() as display:
        display.show(EVENTS[3])
    assert '"event": "done"' in capsys.readouterr().out


def test_a_terminal_shows_what_runs_now_and_survives_markup():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with Terminal(console) as display:
        for event in EVENTS[:3]:
            display.show(event)
        console.print(display._draw())
        display.show(Event(Kind.DONE, "local/a", "Installing [/bold] [x]", "install", changes=1))
        display.show(EVENTS[5])
    shown = stream.getvalue()
    assert "fetching" in shown
    assert "[/bold]" in shown
    assert "nova is not ready" in shown


def test_what_changed_nothing_and_was_quick_is_not_mentioned():
    assert done_line(Event(Kind.DONE, title="Quick", seconds=0.1)) == ""
    assert done_line(Event(Kind.DONE, title="Slow", seconds=5.0)) == "Slow (5.0 s)"


def test_the_end_tells_phases_and_whether_anything_changed():
    story = Story()
    for now, event in ((0.0, EVENTS[0]), (1.0, EVENTS[1]), (4.5, EVENTS[3])):
        story.tell(event, now)
    assert end_lines(Event(Kind.END, changes=2, seconds=4.5), story) == ["1 stages, done, in 4.5 s (install 4 s)."]
    assert "nothing had to be changed" in end_lines(Event(Kind.END, seconds=4.5), story)[0]


def test_a_failure_tells_what_to_do():
    assert failure_lines(EVENTS[5])[-1] == "what to do: Look."
