# SPDX-License-Identifier: Apache-2.0
"""Notes of servers that stand still for snapshots of their volumes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockstack.compute.host import quiesced

pytestmark = pytest.mark.unit


@pytest.fixture
def host(tmp_path):
    return SimpleNamespace(options=SimpleNamespace(state_directory=str(tmp_path)))


def test_only_what_has_stood_still_for_long_is_listed(host):
    assert quiesced.list_older(host, 0) == []
    for name in ("old", "new"):
        quiesced.note(host, name, "c" * 64)
    os.utime(quiesced._find(host) / "old", (0, 0))
    assert quiesced.list_older(host, 300) == ["old"]
    quiesced.note(host, "old", "c" * 64)
    assert quiesced.list_older(host, 300) == []


def test_one_that_the_clock_was_put_back_behind_counts_as_old(host):
    quiesced.note(host, "ahead", "c" * 64)
    os.utime(quiesced._find(host) / "ahead", (time.time() + 3600,) * 2)
    assert quiesced.list_older(host, 300) == ["ahead"]


def test_a_note_that_goes_meanwhile_is_none(host, monkeypatch):
    for name in ("first", "second"):
        quiesced.note(host, name, "c" * 64)
        os.utime(quiesced._find(host) / name, (0, 0))
    listed = Path.iterdir

    def forget_one(directory):
        found = [*listed(directory)]
        quiesced.forget(host, "first")
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", forget_one)
    assert quiesced.list_older(host, 300) == ["second"]
