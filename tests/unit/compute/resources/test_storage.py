# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.model import NumaNode
from dockstack.compute.resources.storage import Storage, read_storage
from dockstack.compute.resources.topology import read_nodes

pytestmark = pytest.mark.unit

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 7:0 / /var/lib/docker rw - {kind} {source} rw,{options}
24 22 0:40 / /var/lib/docker2 rw - tmpfs tmpfs rw
25 23 0:41 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("driver", "kind", "options", "sized"),
    [
        ("btrfs", "btrfs", "subvol=/", True),
        ("zfs", "zfs", "xattr", True),
        ("overlay2", "xfs", "attr2,prjquota", True),
        ("overlay2", "xfs", "attr2,noquota", False),
        ("overlay2", "ext4", "prjquota", False),
        ("vfs", "xfs", "prjquota", False),
    ],
)
def test_what_can_hold_a_server_to_its_disk(tmp_path, driver, kind, options, sized) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS.format(kind=kind, source="/dev/nowhere", options=options))
    found = read_storage("/var/lib/docker", driver, tmp_path / "mountinfo", tmp_path)
    assert found == Storage(device=None, kind=f"{driver} on {kind}", sized=sized)
    assert ("is held to" in found.describe()) is sized
    assert ("without prjquota" in found.describe()) is ((driver, kind, sized) == ("overlay2", "xfs", False))


@pytest.mark.parametrize(("partition", "disk"), [(True, "/dev/vda"), (False, "/dev/vda1")])
def test_rates_are_the_whole_disks(tmp_path, partition, disk) -> None:
    entry = tmp_path / "devices" / "vda" / "vda1"
    entry.mkdir(parents=True)
    if partition:
        (entry / "partition").touch()
    (tmp_path / "1:3").symlink_to(entry)
    (tmp_path / "mountinfo").write_text(MOUNTS.format(kind="ext4", source="/dev/null", options="x"))  # 1:3
    assert read_storage("/var/lib/docker", "overlay2", tmp_path / "mountinfo", tmp_path).device == disk


def write(path, text) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nodes_of_two_sockets_with_hyperthreads(tmp_path) -> None:
    for node, cpus in ((0, (0, 1)), (1, (2, 3))):
        write(tmp_path / f"node/node{node}/cpulist", f"{cpus[0]}-{cpus[1]}\n")
        write(tmp_path / f"node/node{node}/meminfo", f"NumaNode {node} MemTotal:       2097152 kB\n")
        for cpu in cpus:
            write(tmp_path / f"cpu/cpu{cpu}/topology/physical_package_id", f"{node}\n")
            write(tmp_path / f"cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpus[0]}-{cpus[1]}\n")
    assert read_nodes(frozenset({0, 1, 2}), tmp_path) == (
        NumaNode(0, frozenset({0, 1}), 2048, 0, (frozenset({0, 1}),)),
        NumaNode(1, frozenset({2}), 2048, 1, (frozenset({2}),)),
    )


def test_a_machine_without_topology_is_one_node(tmp_path) -> None:
    (node,) = read_nodes(frozenset({0, 1}), tmp_path)
    assert (node.id, node.cpus, node.socket) == (0, frozenset({0, 1}), None)
    assert node.siblings == (frozenset({0}), frozenset({1}))
