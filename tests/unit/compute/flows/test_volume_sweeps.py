# SPDX-License-Identifier: Apache-2.0
"""What killed processes have left of volumes goes, each on its own: storage of one may answer nobody any more."""

from __future__ import annotations

import threading

import pytest
from fake_flows import make_server, no_events

from dockstack.compute.flows import lifecycle, recovery, volumes
from dockstack.compute.flows.rounds import Rounds
from dockstack.compute.privileged import volumes as privileged

FIRST, SECOND, THIRD = (f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2, 3))
pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["stray", "left_open"])
def test_one_that_is_stuck_ends_no_others_turn(host, monkeypatch, caplog, kind):
    gone = []

    def go(volume, *_host):
        if volume == FIRST:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        gone.append(volume)

    volumes.DECRYPTED_DIRECTORY.mkdir(parents=True)
    names = {"stray": ("list_strays", "drop_stray"), "left_open": ("list_left_open", "close_left_open")}
    for each, (lists, goes) in names.items():
        monkeypatch.setattr(privileged, lists, lambda *_host, each=each: [FIRST, SECOND, THIRD] if each == kind else [])
        monkeypatch.setattr(privileged, goes, go)
    held, let_go = threading.Event(), threading.Event()

    def work():
        with host.busy.hold(THIRD):
            held.set()
            let_go.wait(60)

    threading.Thread(target=work, daemon=True).start()
    held.wait(60)
    try:
        volumes.sweep(host, lambda _server: False)
    finally:
        let_go.set()
    assert gone == {"stray": [SECOND, THIRD], "left_open": [SECOND]}[kind], "one that is opened just now is no stray"
    assert FIRST in caplog.text


def test_each_round_lets_servers_that_run_use_what_they_hold(world, host, monkeypatch):
    """What changes rules of control groups besides (systemd) tells nobody."""
    allowed = []

    def allow(_pid, _container_id, server):
        allowed.append(server)
        if server == FIRST:
            raise OSError(13, "no")

    for server_uuid in (FIRST, SECOND, THIRD):
        lifecycle.spawn(host, make_server(server_uuid), no_events)
        world.held[server_uuid, SECOND] = {"device": "vdb"}
    lifecycle.stop(host, make_server(THIRD), 0)
    volumes.VOLUMES_DIRECTORY.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(volumes.server_devices, "allow_again", allow, raising=False)
    claims = recovery.Claims(kept=(FIRST, SECOND, THIRD), abandoned=(), has_left={}.get)
    rounds = Rounds(host, lambda: claims, {}.get, end_forgotten_tasks=int, bring_back_absent=len)
    rounds.go()
    assert allowed == [FIRST, SECOND]
    with host.busy.hold(SECOND):  # it may be taken from it
        rounds.go()
    assert allowed == [FIRST, SECOND, FIRST]
