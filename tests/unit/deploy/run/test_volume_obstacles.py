# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.hypervisors.storage_obstacles import StorageFacts
from dockstack.deploy.run.volume_obstacles import VolumeFacts, beside_servers, obstacles
from dockstack.deploy.wanted.inventory import load

pytestmark = pytest.mark.unit

WANTED = "volumes.enable=true"
MADE = VolumeFacts(made=20)


def found(facts, *assignments):
    return list(obstacles(load(None, assignments).local.attributes, facts))


def test_nobody_asks_where_no_volumes_are_wanted():
    assert not found(VolumeFacts(xfs=False, loop=False, free_gb=0))
    assert not found(VolumeFacts(), WANTED)
    assert not found(MADE, WANTED)


@pytest.mark.parametrize(
    ("facts", "assignments", "told"),
    [
        (VolumeFacts(xfs=False), (), "no xfs"),
        (VolumeFacts(loop=False), (), "loop-control"),
        (VolumeFacts(volumes=3), (), "3 files"),
        (VolumeFacts(taken=True), (), "not dockstack's"),
        (VolumeFacts(free_gb=20), (), "20 GB are free"),
        (replace(MADE, free_gb=5), ("volumes.storage_gb=25",), "5 GB more"),
        (MADE, ("volumes.storage_gb=10",), "does not shrink"),
        (MADE, ("volumes.storage=directory",), "file system of their own"),
    ],
)
def test_each_is_told(facts, assignments, told):
    ((brief, cure),) = found(facts, WANTED, *assignments)
    assert told in brief
    assert cure


BOTH = ("docker.storage=xfs", "docker.storage_gb=30", "volumes.storage_gb=20")


@pytest.mark.parametrize(
    ("volumes", "servers", "assignments", "told"),
    [
        ({"free_gb": 54}, {"free_gb": 54}, BOTH, True),
        ({"free_gb": 56}, {"free_gb": 56}, BOTH, False),
        ({"free_gb": 54, "disk": 1}, {"free_gb": 54, "disk": 2}, BOTH, False),
        ({"free_gb": 34, "made": 20}, {"free_gb": 36}, BOTH, False),
        ({"free_gb": 30}, {"free_gb": 30}, BOTH, False),  # one of them has no room alone, and says so
        ({"free_gb": 54}, {"free_gb": 54}, BOTH[2:], False),
    ],
)
def test_the_pool_and_the_servers_disks_have_room_together(volumes, servers, assignments, told):
    attributes = load(None, (WANTED, *assignments)).local.attributes
    found = list(beside_servers(attributes, VolumeFacts(**volumes), StorageFacts(**servers)))
    assert bool(found) is told
    assert all("20 GB more, the engine's storage 30 GB" in brief for brief, _ in found)


def test_a_directory_needs_none_of_it():
    lacking = VolumeFacts(xfs=False, loop=False, free_gb=0, volumes=3)
    assert not found(lacking, WANTED, "volumes.storage=directory")
