# SPDX-License-Identifier: Apache-2.0
"""Many nodes at a time."""

from __future__ import annotations

import threading

import pytest

from dockstack.deploy.join import fleet
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.inventory import Node
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture
def nodes():
    attributes = inventory.load(None).local.attributes
    return [Node(name, attributes) for name in ("a", "b", "c", "d")]


def test_one_that_breaks_stops_only_itself(nodes):
    def work(node):
        if node.name == "b":
            raise DockstackError("b is down.", "Start it.")
        if node.name == "c":
            raise ValueError(node.name)
        return node.name.upper()

    told = []
    found = fleet.each(nodes, 2, work, lambda node, _: told.append(node.name))
    assert list(found) == ["a", "b", "c", "d"]
    assert (found["a"], found["d"]) == ("A", "D")
    assert str(found["b"]).startswith("b is down.")
    assert "c: ValueError: c" in str(found["c"])
    assert sorted(told) == ["a", "b", "c", "d"]


def test_as_many_as_wanted_work_side_by_side_and_no_more(nodes):
    both, busy, most = threading.Barrier(2, timeout=60), [], []

    def work(node):
        busy.append(node)
        both.wait()  # two at once, or this breaks
        most.append(len(busy))
        both.wait()
        busy.remove(node)

    found = fleet.each(nodes, 2, work, lambda *_: None)
    assert set(found.values()) == {None}
    assert max(most) == 2
