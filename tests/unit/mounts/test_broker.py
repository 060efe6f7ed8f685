# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: what many calls of few servers leave to the others."""

from __future__ import annotations

import os
import socket

import pytest

from dockstack.mounts import broker, kernel
from dockstack.mounts.holder import CONTROL

pytestmark = pytest.mark.unit


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """A broker whose workers do nothing and never end; ``begun`` has the calls that were given to one."""
    made = broker.Broker(tmp_path, tmp_path)
    made.begun = []

    def fork(_self, _do, request, server, name) -> None:
        made.begun.append((server, request.mounts))
        made._workers[len(made.begun)] = broker.Worker(0, 0, request, server, 0.0, name)

    monkeypatch.setattr(broker.Broker, "_fork", fork)
    return made


def ask(made: broker.Broker, server: str, number: int) -> None:
    made._listeners[server] = broker.Listener({"server": server, "namespace": 1, "policy": "kernel"}, -1)
    call = kernel.Notification(len(made._requests), 1, number, kernel.ARCHITECTURE, ())
    made._requests.append(broker.Request(server, call, again=False))


def test_a_server_has_one_check_at_a_time_and_can_still_unmount(busy):
    for number in (kernel.MOUNT, kernel.MOUNT, kernel.UMOUNT):
        ask(busy, "one", number)
    busy._begin()
    assert busy.begun == [("one", True), ("one", False)]
    assert [request.mounts for request in busy._requests] == [True]


def test_checks_leave_places_for_the_rest(busy):
    for server in range(broker.MOST_AT_ONCE):
        ask(busy, str(server), kernel.MOUNT)
    ask(busy, "last", kernel.UMOUNT)
    busy._begin()
    assert busy.begun == [*((str(server), True) for server in range(broker.MOST_MOUNTS)), ("last", False)]


def test_a_holder_that_dies_before_it_answers_has_taken_no_socket(tmp_path):
    """The kernel may close its end of the broker's connection before the socket at which it listens for one."""
    made = broker.Broker(tmp_path, tmp_path)
    read, write = os.pipe()  # stands for the runtimes' socket
    made._sockets = [read]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dying:
        dying.bind(str(tmp_path / CONTROL))
        dying.listen()
        made._connect()
        assert made._holder is not None
    made._hear()
    assert made._holder is None
    (kept,) = made._sockets
    os.write(write, b"x")
    assert os.read(kept, 1) == b"x"
    os.close(write)
    os.close(kept)
