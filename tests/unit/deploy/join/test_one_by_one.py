# SPDX-License-Identifier: Apache-2.0
"""Hosts with servers get another version one by one, and none any more once one has failed with it."""

from __future__ import annotations

import threading

import pytest

from dockstack.deploy.join.one_by_one import OneByOne
from dockstack.deploy.node.connection import UnreachableError
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def test_a_second_one_waits_for_its_turn_and_says_so():
    turns, order, told = OneByOne(), [], []
    waits = threading.Event()

    def second():
        with turns.turn("b", lambda event: (told.append(event.text), waits.set())):
            order.append("b")

    other = threading.Thread(target=second)
    with turns.turn("a", told.append):
        other.start()
        assert waits.wait(10), "it is told while it waits"
        order.append("a")
    other.join(10)
    assert order == ["a", "b"]
    assert told == ["Waiting: nodes with servers get another version one by one"]


def test_after_one_that_failed_none_gets_it_any_more():
    turns = OneByOne()
    with pytest.raises(DockstackError, match="No"), turns.turn("a", print):
        raise DockstackError("No.", "Mend it.")
    begun = []
    kept = "b has servers and runs its former version on: a failed"
    with pytest.raises(DockstackError, match=kept) as refused, turns.turn("b", print):
        begun.append("b")
    assert begun == []
    assert "node upgrade" in refused.value.resolution


@pytest.mark.parametrize(
    "fault", [OSError("No space."), KeyError("x"), KeyboardInterrupt()], ids=["machine", "bug", "interrupted"]
)
def test_whatever_ends_a_turn_early_the_next_does_not_begin(fault):
    turns, begun = OneByOne(), []
    with pytest.raises(type(fault)), turns.turn("a", print):
        raise fault
    with pytest.raises(DockstackError, match="a failed"), turns.turn("b", print):
        begun.append("b")
    assert begun == []


def test_a_connection_that_breaks_before_it_has_begun_says_nothing_of_the_version():
    turns, begun = OneByOne(), []
    with pytest.raises(UnreachableError), turns.turn("a", print):
        raise UnreachableError("It is down.", "Start it.")
    with turns.turn("b", print):
        begun.append("b")
    assert begun == ["b"]


def test_one_whose_run_goes_on_without_us_has_not_come_up_with_it():
    turns = OneByOne()

    def breaks_off():
        with turns.turn("a", print) as begin:
            begin()
            raise UnreachableError("It broke.", "Run it again.")

    with pytest.raises(UnreachableError):
        breaks_off()
    with pytest.raises(DockstackError, match="a failed"), turns.turn("b", print):
        pass
