# SPDX-License-Identifier: Apache-2.0
"""VNC viewers of a console beside serial ones: a process of its own draws for each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_console import UUID, Echo, call, expect, wait_until

from dockstack.compute.consoles import vnc_workers
from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.listener import Endpoint, Listener
from dockstack.compute.consoles.registry import Registry
from dockstack.compute.consoles.vnc_workers import CannotDraw, Workers
from dockstack.compute.engine import Size
from dockstack.deploy.node import processes
from rfb_client import RfbClient

pytestmark = pytest.mark.unit

ENDPOINT = Endpoint("127.0.0.1", "127.0.0.1", range(1), "the options")


@pytest.fixture
def line():
    return Echo()


@pytest.fixture
def boards(line):
    """Return a listener for serial viewers and one for VNC, of the same console."""
    registry = Registry(lambda uuid: Console(uuid, line, linger=0))
    workers = Workers()
    serial = Listener(ENDPOINT, registry.join)
    vnc = Listener(ENDPOINT, lambda uuid, connection: registry.join(uuid, workers.adopt(connection)))
    yield serial, vnc
    serial.close()
    vnc.close()
    registry.close()


def look(board) -> RfbClient:
    connection = call(board.announce(UUID))
    welcome = b"HTTP/1.1 200 OK\r\n\r\n"
    assert connection.recv(len(welcome)) == welcome
    return RfbClient(connection)


def test_a_picture_and_a_serial_viewer_share_a_console(boards, line):
    serial, vnc = boards
    client = look(vnc)
    client.until("hello")
    while client.name != "web":
        client.take()
    wait_until(lambda: line.sizes == [Size(24, 80)])
    client.type("abc")
    client.until("ABC")
    with call(serial.announce(UUID)) as viewer:
        expect(viewer, b"ABC")
        viewer.sendall(b"xyz")
        client.until("ABCXYZ")
    client.connection.close()
    wait_until(lambda: line.closed)  # the process and the console end with their viewer


def test_what_draws_can_open_and_start_nothing(boards):
    _, vnc = boards
    client = look(vnc)
    client.until("hello")
    pid = find_worker()
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    zero = {line[:26].strip() for line in limits if line[26:].split()[:2] == ["0", "0"]}
    assert {"Max open files", "Max processes", "Max core file size"} <= zero
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    client.press(0x6C1)  # from a character set that nothing has used yet
    client.type("z")
    client.until("Z")
    client.want_size(1000, 570)
    client.paste("w")
    client.until("W")


def find_worker() -> int:
    """Return the process that draws for this one: an earlier test's may not have ended yet, so the youngest."""
    program = "dockstack.compute.consoles.vnc"
    children = (each for each in processes.snapshot().values() if each.parent == os.getpid())
    found = [each for each in children if program in processes.arguments(each.pid)]
    return max(found, key=lambda each: (each.started, each.pid)).pid


def test_secrets_of_one_kind_do_not_open_the_other(boards):
    serial, vnc = boards
    with call(vnc.announce(UUID), serial.announce(UUID).path) as stranger:
        expect(stranger, b"403 Forbidden")


def test_pictures_are_few():
    workers = Workers(limit=0)
    near, far = socket.socketpair()
    with near, far, pytest.raises(OSError, match="look at this host's servers already"):
        workers.adopt(near)


def test_what_is_missing_is_told(monkeypatch, tmp_path):
    vnc_workers.check()
    monkeypatch.setattr(vnc_workers.fonts, "DIRECTORY", tmp_path)
    with pytest.raises(CannotDraw, match="apt-get install fonts-dejavu-core"):
        vnc_workers.check()


def test_nova_compute_loads_nothing_that_draws():
    program = "import sys, dockstack.compute.flows.console; print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
