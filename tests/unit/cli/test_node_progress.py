# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of many hosts at once."""

from __future__ import annotations

import io

import pytest

from dockstack.cli.node_progress import Terminal
from dockstack.deploy.run.events import Event, Kind
from dockstack.terminal import Screen

pytestmark = pytest.mark.unit


def drawn(screen: Screen, terminal: Terminal) -> str:
    with screen.capture() as captured:
        screen.print(terminal._draw())
    return captured.get()


def test_each_host_at_work_has_a_line_and_leaves_one_when_it_is_through():
    screen = Screen()
    screen.file = io.StringIO()
    terminal = Terminal(screen, ["node7", "node8", "node9"])
    terminal.tell("node7", Event(Kind.START, "node7/switch", "Starting the switch"))
    terminal.tell("node8", Event(Kind.SAY, "node8/packages", text="Installing \x1b[31mevil"))
    terminal.tell("node7", Event(Kind.DONE, "node7/switch"))
    seen = drawn(screen, terminal)
    assert "node7    0 s Starting the switch" in seen
    assert r"Installing \x1b[31mevil" in seen, "what a node says moves no cursor"
    assert "3 hosts to go" in seen
    terminal.line("node7", ("joined", "green"))
    assert "node7: joined" in screen.file.getvalue()
    seen = drawn(screen, terminal)
    assert "node7" not in seen
    assert "2 hosts to go" in seen
