# SPDX-License-Identifier: Apache-2.0
"""What is put in order when a mount is broken off."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from dockstack.mounts import mounting
from dockstack.mounts.requests import Wish

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("fails", ["rates.follow", "kernel.place_mount"])
def test_no_mount_is_left_when_the_volumes_size_is_settled(monkeypatch, tmp_path, fails):
    """A mount that nobody sees holds its device for as long as it is open."""
    made, other = os.pipe()
    one = SimpleNamespace(major=7, minor=3, volume="volume", name="vdb", read_only=False)
    standing = SimpleNamespace(
        caller=None, entered=nullcontext, find=lambda *_: (os.open(tmp_path, os.O_RDONLY), b"/mnt")
    )
    closed = []

    def settle(_volumes):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made)
        closed.append(made)

    def fail(*_arguments):
        raise PermissionError(fails)

    def stand_in(name, result):
        monkeypatch.setattr(f"dockstack.mounts.mounting.{name}", lambda *_arguments, **_: result)

    still = SimpleNamespace(device=0, name="loop9")
    stand_in("find_device", one)
    stand_in("loops.name_of", "loop3")
    stand_in("loops.locked", nullcontext((SimpleNamespace(),)))
    stand_in("loops.is_volume", result=True)
    stand_in("_still", nullcontext((still, True)))
    stand_in("_make", made)
    stand_in("rates.follow", None)
    monkeypatch.setattr(f"dockstack.mounts.mounting.{fails}", fail)
    monkeypatch.setattr(mounting, "settle", settle)
    with pytest.raises(PermissionError, match=fails):
        mounting.mount(standing, b"/dev/vdb", b"/mnt", Wish("ext4", 0), attached=lambda: (one,))
    assert closed == [made]
    os.close(other)
