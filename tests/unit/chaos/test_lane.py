# SPDX-License-Identifier: Apache-2.0
"""A server is brought home for as long as there is time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockstack.chaos import lane
from dockstack.chaos.lane import Lane, Setting
from dockstack.chaos.model import Action

pytestmark = pytest.mark.unit


class Told(Lane):
    """A lane whose server goes through states as they are told: one each time that it is asked for something."""

    def __init__(self, states):
        super().__init__(0, None, Setting(None, (), None, None))
        self.states, self.asked = states, []

    def _settled(self, seconds, expected=""):
        return SimpleNamespace(status=self.states[0], task_state=None)

    def _step(self, action, server, seconds, **facts):
        self.asked.append(action)
        before = self.states[0]
        if len(self.states) > 1:
            self.states.pop(0)
        return self.states[0] != before


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(lane, "AGAIN_SECONDS", 0.01)


def test_a_confirmation_that_was_lost_is_waited_for_until_nova_says_so():
    """Nova says VERIFY_RESIZE until its call has timed out, and refuses each confirmation meanwhile."""
    told = Told(["VERIFY_RESIZE"] * 10 + ["ERROR", "ACTIVE"])
    assert told.go_home(30) == "ACTIVE"
    assert told.asked == [Action.CONFIRM] * 10 + [Action.RECOVER]


def test_it_ends_with_its_time():
    told = Told(["VERIFY_RESIZE"])
    assert told.go_home(0.2) == "VERIFY_RESIZE"
    assert len(told.asked) > 1
