# SPDX-License-Identifier: Apache-2.0
"""When servers get a new view of their machine, and what a failure of one does to the others."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_flows import UUID, make_server, no_events

from dockstack.compute.containers.lxcfs import Lxcfs, ViewError
from dockstack.compute.flows import lifecycle, report
from dockstack.compute.host.lxcfs_watcher import Watcher

pytestmark = pytest.mark.unit


class FakeLxcfs(Lxcfs):
    """LXCFS as a number that tests change, and the servers that were renewed."""

    now: int | None = 1
    renewed: list[int]

    def _look(self) -> int | None:
        return type(self).now

    def renew(self, pid: int, container_id: str) -> bool:
        type(self).renewed.append(pid)
        if len(container_id) < 64:
            raise ViewError("refused")
        return True


@pytest.fixture
def lxcfs(tmp_path):
    FakeLxcfs.now, FakeLxcfs.renewed = 1, []
    return FakeLxcfs(tmp_path / "lxcfs")


@pytest.fixture
def watcher(host, lxcfs):
    lifecycle.spawn(host, make_server(), no_events)
    return Watcher(replace(host, lxcfs=lxcfs))


def test_the_first_look_finds_what_happened_before(watcher, lxcfs) -> None:
    watcher.look()
    assert lxcfs.renewed == [1]


def test_nothing_is_done_while_nothing_changes(watcher, lxcfs) -> None:
    for _ in range(5):
        watcher.look()
    assert lxcfs.renewed == [1, 1]  # the second for a server that was starting at the first


def test_a_restart_renews_and_so_does_the_look_after_it(watcher, lxcfs) -> None:
    watcher.look()
    watcher.look()
    FakeLxcfs.now, FakeLxcfs.renewed = None, []
    watcher.look()
    assert FakeLxcfs.renewed == []
    FakeLxcfs.now = 2
    for _ in range(4):
        watcher.look()
    assert FakeLxcfs.renewed == [1, 1]


def test_dead_files_are_taken_away_when_it_stays_away(watcher, lxcfs) -> None:
    watcher.look()
    watcher.look()
    FakeLxcfs.now, FakeLxcfs.renewed = None, []
    for _ in range(5):
        watcher.look()
    assert FakeLxcfs.renewed == [1, 1]


def test_one_refusal_does_not_keep_others_waiting(world, watcher, lxcfs, caplog) -> None:
    name = f"nova-{UUID}"
    world.containers[name] = replace(world.containers[name], id="short")
    watcher.look()
    assert lxcfs.renewed == [1]
    (told,) = [record for record in caplog.records if "Cannot renew" in record.message]
    assert told.instance_uuid == UUID


def test_a_stopped_server_has_no_view(world, watcher, lxcfs) -> None:
    world.exit_server(UUID)
    watcher.look()
    assert lxcfs.renewed == []


def test_each_start_mounts_the_view_that_there_is(world, host, lxcfs) -> None:
    host = replace(host, lxcfs=lxcfs)
    lxcfs.ask()
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    path = world.patches / f"{world.containers[server.container_name].id}.json"
    wanted = {
        "source": f"{lxcfs.directory}/proc/uptime",
        "destination": "/proc/uptime",
        "type": "bind",
        "options": ["bind", "ro", "nosuid", "nodev"],
        "required": False,
    }
    assert wanted in json.loads(path.read_text())["mounts"]
    assert "/sys/block" in json.loads(path.read_text())["masked_paths"]
    FakeLxcfs.now = None
    lxcfs.ask()
    lifecycle.reboot(host, server, hard=True)
    assert json.loads(Path(path).read_text())["mounts"] == []


class HungLxcfs(FakeLxcfs):
    """An LXCFS that answers when it is told to."""

    answer = threading.Event()

    def _look(self) -> int | None:
        assert self.answer.wait(60)
        return type(self).now


def test_nobody_waits_for_an_lxcfs_that_hangs(world, host, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("dockstack.compute.containers.lxcfs.PATIENCE", 0.05)
    FakeLxcfs.now, FakeLxcfs.renewed = 1, []
    HungLxcfs.answer.set()
    host = replace(host, lxcfs=HungLxcfs(tmp_path / "lxcfs"))
    server = make_server()
    watcher = Watcher(host, interval=0.01)
    watcher.start()
    try:
        wait_until(lambda: host.lxcfs.generation() == 1)  # an answer that had no turn in 0.05 s counts as none
        HungLxcfs.answer.clear()
        wait_until(lambda: host.lxcfs.generation() is None)
        lifecycle.spawn(host, server, no_events)
        assert not report.read_traits(host)[report.OWN_VIEWS]
        path = world.patches / f"{world.containers[server.container_name].id}.json"
        assert json.loads(path.read_text())["mounts"] == []
        FakeLxcfs.renewed.clear()
        HungLxcfs.answer.set()
        wait_until(lambda: FakeLxcfs.renewed)  # it started without a view, and gets one now
        wait_until(lambda: report.read_traits(host)[report.OWN_VIEWS])
    finally:
        HungLxcfs.answer.set()
        watcher.stop()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
