# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from dockstack.mounts import rates

pytestmark = pytest.mark.unit

CONTAINER = "0123456789abcdef" * 4
OWN, SECOND = os.makedev(7, 3), os.makedev(7, 9)


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (f"8:pids:/docker/{CONTAINER}\n7:cpu,blkio:/docker/{CONTAINER}\n0::/\n", f"blkio/docker/{CONTAINER}"),
        (f"7:blkio:/docker/{CONTAINER}/system.slice/a.service\n0::/\n", f"blkio/docker/{CONTAINER}"),
        (f"0::/system.slice/docker-{CONTAINER}.scope/init\n", f"system.slice/docker-{CONTAINER}.scope"),
        (f"7:blkio:/\n0::/docker/{CONTAINER}\n", ""),
        ("7:blkio:/\n", ""),
    ],
    ids=["version 1", "a group below", "version 2", "no bounds of it", "no container"],
)
def test_the_containers_group_is_found(text, group):
    assert rates.find_group(text) == group


def copied(path, text):
    path.write_text(text)
    rates.copy(path, OWN, SECOND)
    return path.read_text()


def test_the_second_device_is_bound_as_the_first_and_let_go_with_it(tmp_path):
    old, new = tmp_path / "blkio.throttle.write_bps_device", tmp_path / "io.max"
    assert copied(old, "7:1 5\n7:3 1000\n") == "7:9 1000\n"
    assert copied(old, "7:9 1000\n") == "7:9 0\n"
    assert copied(old, "7:1 5\n") == "7:1 5\n"
    bound = "rbps=1000 wbps=max riops=max wiops=7"
    assert copied(new, f"7:3 {bound}\n") == f"7:9 {bound}\n"
    assert copied(new, f"7:9 {bound}\n") == "7:9 rbps=max wbps=max riops=max wiops=max\n"
