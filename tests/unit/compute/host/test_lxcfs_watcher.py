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

from dockstack.compute.containers import lxcfs
from dockstack.compute.containers.lxcfs import ViewError, Views
from dockstack.compute.flows import lifecycle, report
from dockstack.compute.host.lxcfs_watcher import Watcher

pytestmark = pytest.mark.unit


class FakeViews(Views):
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
def views(tmp_path):
    FakeViews.now, FakeViews.renewed = 1, []
    return FakeViews(tmp_path / "lxcfs")


@pytest.fixture
def watcher(host, views):
    lifecycle.spawn(host, make_server(), no_events)
    return Watcher(replace(host, views=views))


def test_the_first_look_finds_what_happened_before(watcher, views) -> None:
    watcher.look()
    assert views.renewed == [1]


def test_nothing_is_done_while_nothing_changes(watcher, views) -> None:
    for _ in range(5):
        watcher.look()
    assert views.renewed == [1, 1]  # the second for a server that was starting at the first


def test_a_restart_renews_and_so_does_the_look_after_it(watcher, views) -> None:
    watcher.look()
    watcher.look()
    FakeViews.now, FakeViews.renewed = None, []
    watcher.look()
    assert FakeViews.renewed == []
    FakeViews.now = 2
    for _ in range(4):
        watcher.look()
    assert FakeViews.renewed == [1, 1]


def test_dead_files_are_taken_away_when_it_stays_away(watcher, views) -> None:
    watcher.look()
    watcher.look()
    FakeViews.now, FakeViews.renewed = None, []
    for _ in range(5):
        watcher.look()
    assert FakeViews.renewed == [1, 1]


def test_one_refusal_does_not_keep_others_waiting(world, watcher, views) -> None:
    name = f"nova-{UUID}"
    world.containers[name] = replace(world.containers[name], id="short")
    watcher.look()
    assert views.renewed == [1]


def test_a_stopped_server_has_no_view(world, watcher, views) -> None:
    world.exit_server(UUID)
    watcher.look()
    assert views.renewed == []


def test_each_start_mounts_the_view_that_there_is(world, host, views) -> None:
    host = replace(host, views=views)
    views.ask()
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    path = world.patches / f"{world.containers[server.container_name].id}.json"
    wanted = {
        "source": f"{views.directory}/proc/uptime",
        "destination": "/proc/uptime",
        "type": "bind",
        "options": ["bind", "ro", "nosuid", "nodev"],
        "required": False,
    }
    assert wanted in json.loads(path.read_text())["mounts"]
    assert "/sys/block" in json.loads(path.read_text())["masked_paths"]
    FakeViews.now = None
    views.ask()
    lifecycle.reboot(host, server, hard=True)
    assert json.loads(Path(path).read_text())["mounts"] == []


class HungViews(FakeViews):
    """An LXCFS that answers when it is told to."""

    answer = threading.Event()

    def _look(self) -> int | None:
        assert self.answer.wait(60)
        return type(self).now


def test_nobody_waits_for_an_lxcfs_that_hangs(world, host, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lxcfs, "PATIENCE", 0.05)
    FakeViews.now, FakeViews.renewed = 1, []
    HungViews.answer.set()
    host = replace(host, views=HungViews(tmp_path / "lxcfs"))
    server = make_server()
    watcher = Watcher(host, interval=0.01)
    watcher.start()
    try:
        assert host.views.generation() == 1
        HungViews.answer.clear()
        wait_until(lambda: host.views.generation() is None)
        lifecycle.spawn(host, server, no_events)
        assert not report.read_traits(host)[report.OWN_VIEWS]
        path = world.patches / f"{world.containers[server.container_name].id}.json"
        assert json.loads(path.read_text())["mounts"] == []
        FakeViews.renewed.clear()
        HungViews.answer.set()
        wait_until(lambda: FakeViews.renewed)  # it started without a view, and gets one now
        assert report.read_traits(host)[report.OWN_VIEWS]
    finally:
        HungViews.answer.set()
        watcher.stop()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
