# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from dockstack.agent.served import Served

pytestmark = pytest.mark.unit


class Host:
    """A host's networks; those that were left, in order."""

    def __init__(self, linger=0.0):
        self.lock = threading.RLock()
        self.left = []
        self.quiet = threading.Event()
        self.served = Served(self.lock, self._leave, linger)

    def _leave(self, network):
        self.left.append(network)
        self.quiet.set()


def test_a_network_is_set_up_once_for_all_its_ports():
    host = Host()
    assert not host.served.has("a", "plain")
    host.served.note("a", "plain")
    assert host.served.has("a", "plain")
    assert not host.served.has("b", "plain")


def test_what_changed_is_set_up_again():
    host = Host()
    host.served.note("a", "one subnet")
    assert not host.served.has("a", "two subnets")


def test_nothing_is_taken_for_granted_after_the_switch_was_away():
    host = Host()
    host.served.note("a", "plain")
    host.served.forget()
    assert not host.served.has("a", "plain")


def test_a_network_without_ports_is_left_once():
    host = Host()
    host.served.note("a", "plain")
    with host.lock:
        host.served.part("a")
        host.served.part("a")
    assert host.quiet.wait(60)
    assert host.left == ["a"]
    assert not host.served.has("a", "plain")


def test_a_port_that_comes_while_a_network_lingers_finds_all_in_place():
    host = Host(linger=0.1)
    host.served.note("a", "plain")
    with host.lock:  # else this thread may have no turn in that time
        host.served.part("a")
        assert host.served.has("a", "plain")
    assert not host.quiet.wait(0.3)
    assert host.left == []


def test_a_port_that_comes_at_the_last_moment_wins():
    host = Host()
    host.served.note("a", "plain")
    with host.lock:
        host.served.part("a")
        timer = host.served._leaving["a"]
        assert host.served.has("a", "plain")
    timer.join(60)
    assert host.left == []
    assert host.served.has("a", "plain")
