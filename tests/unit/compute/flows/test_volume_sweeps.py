# SPDX-License-Identifier: Apache-2.0
"""What killed processes have left of volumes goes, each on its own: storage of one may answer nobody any more."""

from __future__ import annotations

import threading

import pytest

from dockstack.compute.flows import volumes
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
