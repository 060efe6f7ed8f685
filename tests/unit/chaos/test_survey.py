# SPDX-License-Identifier: Apache-2.0
"""What is looked at on a host: limits as the kernel has them, not as the engine was told; files without a name."""

from __future__ import annotations

import os

import pytest

from dockstack.chaos import survey

pytestmark = pytest.mark.unit

TOLD = {"Memory": 64 << 20, "CpuQuota": 100_000, "CpuPeriod": 100_000, "PidsLimit": 4096}


def test_limits_are_those_of_the_control_group(tmp_path):
    for name, text in (("memory.max", "1048576"), ("cpu.max", "150000 100000"), ("pids.max", "7")):
        (tmp_path / name).write_text(f"{text}\n")
    assert survey.limits(TOLD, {"": str(tmp_path)}) == (1 << 20, 1.5, 7)
    for name, text in (("memory.max", "max"), ("cpu.max", "max 100000"), ("pids.max", "max")):
        (tmp_path / name).write_text(f"{text}\n")
    assert survey.limits(TOLD, {"": str(tmp_path)}) == (0, 0.0, 0), "what the engine was told has no effect there"


def test_a_group_that_is_not_there_limits_nothing():
    assert survey.limits(TOLD, {}) == (0, 0.0, 0)


def test_where_no_group_can_be_seen_the_engine_is_believed():
    assert survey.limits(TOLD, None) == (64 << 20, 1.0, 4096)


def test_a_spool_that_stays_open_is_seen(tmp_path):
    workspace = tmp_path / "docker" / "images"
    workspace.mkdir(parents=True)
    before = survey.list_spools()
    spool = os.open(workspace, os.O_TMPFILE | os.O_RDWR)
    try:
        found = survey.list_spools() - before
    finally:
        os.close(spool)
    assert [name.startswith(f"{workspace}/#") and f"(process {os.getpid()})" in name for name in found] == [True]
    assert not (survey.list_spools() - before) & found
