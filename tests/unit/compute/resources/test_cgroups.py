# SPDX-License-Identifier: Apache-2.0
"""Control groups of both versions, as the kernel writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dockstack.compute.resources import cgroups
from dockstack.compute.resources.cgroups import Usage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

ONE, OTHER = "1" * 64, "2" * 64


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fill_version_1(root: Path, group: str) -> None:
    write(root / "memory" / group / "memory.usage_in_bytes", "10\n")
    write(root / "memory" / group / "memory.limit_in_bytes", "20\n")
    write(root / "memory" / group / "memory.stat", "rss 1\ntotal_rss 4\ntotal_inactive_file 3\n")
    write(root / "memory" / group / "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    write(root / "cpuacct" / group / "cpuacct.usage", "40\n")
    write(root / "cpu" / group / "cpu.stat", "nr_periods 9\nthrottled_time 8\n")
    write(root / "cpu" / group / "cpu.cfs_quota_us", "150000\n")
    write(root / "cpu" / group / "cpu.cfs_period_us", "100000\n")
    write(root / "pids" / group / "pids.current", "5\n")
    write(root / "pids" / group / "pids.max", "4096\n")
    write(root / "freezer" / group / "freezer.state", "FROZEN\n")
    disk = root / "blkio" / group
    write(disk / "blkio.throttle.io_service_bytes", "8:0 Read 6\n8:0 Write 7\n8:0 Sync 9\n8:1 Read 1\nTotal 14\n")
    write(disk / "blkio.throttle.io_serviced", "8:0 Read 2\n8:0 Write 3\nTotal 5\n")


def fill_version_2(root: Path, group: str) -> None:
    write(root / "cgroup.controllers")
    write(root / group / "memory.current", "10\n")
    write(root / group / "memory.max", "max\n")
    write(root / group / "memory.stat", "anon 4\ninactive_file 3\n")
    write(root / group / "memory.events", "oom 4\noom_kill 3\n")
    write(root / group / "cpu.stat", "usage_usec 40\nuser_usec 1\nthrottled_usec 8\n")
    write(root / group / "cpu.max", "150000 100000\n")
    write(root / group / "pids.current", "5\n")
    write(root / group / "pids.max", "max\n")
    write(root / group / "cgroup.freeze", "0\n")
    write(root / group / "io.stat", "8:0 rbytes=6 wbytes=7 rios=2 wios=3\n8:32 8:16 rbytes=1 wbytes=0\n")


VERSION_1 = Usage(40, 10, 20, 3, 5, 7, 7, 2, 3, 4, 3, 8, 1.5, paused=True, pids_max=4096)
VERSION_2 = Usage(40_000, 10, None, 3, 5, 7, 7, 2, 3, 4, 3, 8000, 1.5, paused=False, pids_max=None)


def test_a_process_in_separate_hierarchies(tmp_path) -> None:
    write(
        tmp_path / "7/cgroup",
        "6:freezer:/a\n5:memory:/a\n4:cpu,cpuacct:/a\n3:blkio:/a\n2:pids:/a\n1:name=systemd:/a\n0::/\n",
    )
    fill_version_1(tmp_path, "a")
    assert cgroups.usage(7, tmp_path, tmp_path) == VERSION_1


def test_a_process_in_the_unified_hierarchy(tmp_path) -> None:
    write(tmp_path / "7/cgroup", "0::/a\n")
    fill_version_2(tmp_path, "a")
    assert cgroups.usage(7, tmp_path, tmp_path) == VERSION_2
    assert VERSION_2.working_set_bytes == 7


def test_a_process_that_is_gone(tmp_path) -> None:
    assert cgroups.usage(7, tmp_path, tmp_path) is None
    write(tmp_path / "7/cgroup", "0::/a\n")
    assert cgroups.usage(7, tmp_path, tmp_path) == Usage(0, 0, None, 0, 0, 0, 0)


@pytest.mark.parametrize("place", ["docker/{}", "system.slice/docker-{}.scope", "a.slice/b.slice/docker-{}.scope"])
@pytest.mark.parametrize(("fill", "used"), [(fill_version_1, VERSION_1), (fill_version_2, VERSION_2)])
def test_containers_are_found_by_their_ids(tmp_path, place, fill, used) -> None:
    fill(tmp_path, place.format(ONE))
    fill(tmp_path, place.format(OTHER))
    found = cgroups.find({ONE, "3" * 64}, tmp_path)
    assert {container: cgroups.read(groups) for container, groups in found.items()} == {ONE: used}


def test_a_server_cannot_pass_its_group_off_as_anothers(tmp_path) -> None:
    """Its root may make groups of any name, below its own."""
    fill_version_2(tmp_path, f"docker/{ONE}/docker/{OTHER}")
    assert set(cgroups.find({ONE, OTHER}, tmp_path)) == {ONE}


def test_nothing_is_found_where_there_is_nothing(tmp_path) -> None:
    assert cgroups.find({ONE}, tmp_path / "none") == {}
