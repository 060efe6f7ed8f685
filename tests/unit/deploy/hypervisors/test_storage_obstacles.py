# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.hypervisors import storage_obstacles
from dockstack.deploy.hypervisors.storage_obstacles import Place, StorageFacts, look, obstacles
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.run.preflight import MachineFacts, problems

pytestmark = pytest.mark.unit

ROOT = "/var/lib/docker"
GOOD = StorageFacts()
SECOND = "/var/lib/dockstack/hosts/host2/var/lib/docker"


def briefs(node, kind="btrfs", *assignments, **changes):
    wanted = node(f"docker.storage={kind}", "docker.storage_gb=8", *assignments)
    return [obstacle.brief for obstacle in obstacles(wanted.attributes, replace(GOOD, **changes))]


@pytest.mark.parametrize("kind", ["directory", "btrfs", "xfs"])
def test_a_new_machine_may_have_any(node, kind):
    assert briefs(node, kind) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"foreign": True}, "that dockstack did not start answers on /run/docker.sock"),
        ({"places": {ROOT: Place(held=3)}}, "An engine keeps 3 containers, images or volumes in /var/lib/docker"),
        ({"places": {ROOT: Place(mounted=True)}}, "/var/lib/docker is a file system of its own"),
        ({"places": {ROOT: Place(taken=True)}}, "file /var/lib/docker.img that dockstack did not make"),
        ({"file_systems": frozenset()}, "The kernel has no btrfs"),
        ({"loop": False}, "no /dev/loop-control"),
        ({"free_gb": 12.5}, "takes 8 GB more, and 12.5 GB are free"),
        ({"cloud": True}, "keeps its servers in the directory /var/lib/docker"),
    ],
)
def test_each_obstacle_is_said(node, changes, words):
    (brief,) = briefs(node, **changes)
    assert words in brief


def test_nobody_else_is_asked(node):
    assert (
        briefs(node, "directory", foreign=True, cloud=True, loop=False, free_gb=0, places={ROOT: Place(held=3)}) == []
    )


def test_xfs_needs_a_kernel_with_its_quotas(node):
    (brief,) = briefs(node, "xfs", xfs_quotas=False)
    assert "no quotas" in brief
    assert briefs(node, "btrfs", xfs_quotas=False) == []


def test_what_is_ours_stays_as_it_is(node):
    ours = {ROOT: Place(made=8, kind="btrfs")}
    assert briefs(node, cloud=True, places=ours, free_gb=1) == []
    assert "keeps its servers in the file" in briefs(node, "directory", cloud=True, places=ours)[0]
    assert "keeps its servers in the file" in briefs(node, "xfs", cloud=True, places=ours)[0]
    assert "cannot shrink" in briefs(node, places={ROOT: Place(made=9, kind="btrfs")})[0]
    assert "takes 5 GB more" in briefs(node, cloud=True, places={ROOT: Place(made=3, kind="btrfs")}, free_gb=1)[0]


def test_each_host_takes_its_room(node):
    assert "takes 16 GB more" in briefs(node, "btrfs", "hosts=2", free_gb=20)[0]
    assert "host2" in briefs(node, "btrfs", "hosts=2", places={SECOND: Place(held=1)})[0]


def test_preflight_says_it_with_everything_else(node):
    wanted = node("docker.storage=btrfs")
    (problem,) = problems(wanted, MachineFacts(storage=replace(GOOD, loop=False)))
    assert "modprobe loop" in problem.cure
    assert (
        problems(node("docker.storage=btrfs", "hypervisor=fake"), MachineFacts(storage=replace(GOOD, loop=False))) == []
    )


def test_a_place_is_looked_at(tmp_path):
    root = tmp_path / "docker"
    assert look(str(root), ours=False) == Place()
    for holding in ("containers/abc", "image/overlay2/imagedb/content/sha256/def", "volumes/v/_data"):
        (root / holding).mkdir(parents=True)
    (root / "overlay2/l").mkdir(parents=True)
    assert look(str(root), ours=False) == Place(held=3)
    (tmp_path / "docker.img").write_bytes(b"")
    assert look(str(root), ours=False).taken
    (tmp_path / "docker.img").write_bytes(bytes(1 << 20))
    assert look(str(root), ours=True) == Place(made=1 / 1024)


def test_gathering_changes_nothing_and_works_here(node, tmp_path):
    wanted = node("docker.storage=btrfs", f"docker.data_root={tmp_path}/x/docker")
    facts = storage_obstacles.gather(wanted.attributes, Manifest(tmp_path / "state"), ())
    assert facts.free_gb > 0
    assert facts.places == {f"{tmp_path}/x/docker": Place()}
    assert list(tmp_path.iterdir()) == []
