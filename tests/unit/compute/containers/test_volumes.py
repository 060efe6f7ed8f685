# SPDX-License-Identifier: Apache-2.0
"""What an image declares as volumes stays in the server's own root file system."""

from __future__ import annotations

import pytest

from dockstack.compute.containers import editor, volumes
from dockstack.compute.containers.volumes import VolumeError, cover, places, uncovered

pytestmark = pytest.mark.unit

COVER = {"SizeBytes": volumes.COVER_BYTES}


def test_each_place_is_covered_once_as_the_engine_compares_them() -> None:
    declared = ("/a", "/a/", "//a", "/a/b", "/a/./b/../b", "/x/../a")
    assert places(declared) == ("/a", "/a/b")
    assert cover(declared) == [{"Type": "tmpfs", "Target": target, "TmpfsOptions": COVER} for target in ("/a", "/a/b")]
    assert cover(declared, taken=("/a/",)) == [{"Type": "tmpfs", "Target": "/a/b", "TmpfsOptions": COVER}]


def test_where_the_kernel_shows_the_cover_stays() -> None:
    assert cover(("/sys/fs/cgroup", "/dev/shm")) == [
        {"Type": "tmpfs", "Target": "/dev/shm"},
        {"Type": "tmpfs", "Target": "/sys/fs/cgroup"},
    ]
    assert uncovered(("/sys/fs/cgroup", "/dev/shm", "/data/")) == ("/data",)


NO_PLACES = ["", "/", "//", ".", "data", "../etc", "/..", "/proc", "/proc/sys", "/sys/", "/dev", "/x/../proc"]


@pytest.mark.parametrize("path", [*NO_PLACES, "/a\0b", "/\ud800", "/" + "x" * 4096])
def test_a_volume_where_none_can_be_is_refused(path) -> None:
    with pytest.raises(VolumeError, match="where no server can have one"):
        places((path,))


def test_there_is_an_end_to_them() -> None:
    assert len(places(f"/{number}" for number in range(volumes.MOST))) == volumes.MOST
    with pytest.raises(VolumeError, match="declares 257 volumes"):
        places(f"/{number}" for number in range(volumes.MOST + 1))
    with pytest.raises(VolumeError, match="with paths of"):
        places(f"/{number}{'x' * 4000}" for number in range(17))


def test_the_runtime_takes_off_covers_and_old_volumes_and_nothing_else() -> None:
    cover_mount = {"type": "tmpfs", "destination": "/data", "options": ["noexec", f"size={volumes.COVER_BYTES}"]}
    old = {"type": "bind", "destination": "/old", "options": ["rbind"]}
    own = {"type": "tmpfs", "destination": "/run", "options": ["rw", "mode=755"]}
    other = {"type": "tmpfs", "destination": "/other", "options": [f"size={volumes.COVER_BYTES}"]}
    config = {"mounts": [cover_mount, old, own, other]}
    editor.drop_mounts(config, ["/data", "/old", "/run"])
    assert config["mounts"] == [own, other]
