# SPDX-License-Identifier: Apache-2.0
"""What prevents the pool of volumes that the attributes ask for, found before anything is changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.hypervisors import storage, storage_obstacles
from dockstack.deploy.recipes import cinder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.hypervisors.storage_obstacles import StorageFacts
    from dockstack.deploy.node.manifest import Manifest
    from dockstack.deploy.wanted.attributes import Attributes

GIB = 1 << 30
INSTEAD = "Take a plain directory: --set volumes.storage=directory (volumes in use then have no snapshots)."


@dataclass(frozen=True)
class VolumeFacts:
    """What the machine is like, as far as volumes go.

    Attributes:
        made: the size in GB of the file that holds them; 0 if there is none.
        taken: a file of that name is not ours, or something else is mounted there.
        volumes: how many files are in the pool's directory, without such a file system.
        xfs: whether the kernel has it or can load it.
        loop: whether it can mount a file.
        free_gb: where the file comes.
        disk: whose room that is.
    """

    made: float = 0
    taken: bool = False
    volumes: int = 0
    xfs: bool = True
    loop: bool = True
    free_gb: float = 1000
    disk: int = 0


def obstacles(attributes: Attributes, facts: VolumeFacts) -> Iterator[tuple[str, str]]:
    """Yield all that prevents it, each with its cure; pure."""
    if not attributes.flag("volumes.enable"):
        return
    volume, store = cinder.pool(attributes), attributes.text("volumes.store")
    if volume is None:
        if facts.made:
            yield (
                f"The volumes are in {storage.image_of(store)}, a file system of their own.",
                "Leave volumes.storage as it was (xfs).",
            )
        return
    if facts.made > volume.size_gb:
        yield (
            f"{volume.image} is {facts.made:g} GB large, and a file system of this kind does not shrink.",
            f"Set volumes.storage_gb to {facts.made:g} or more.",
        )
    if not facts.made:
        yield from _new(volume, facts)
    needed = missing_gb(attributes, facts)
    if needed and facts.free_gb < needed + storage_obstacles.SPARE_GB:
        yield (
            f"{volume.image} takes {needed:g} GB more, and {facts.free_gb:.0f} GB are free there.",
            "Make room, or have less: --set volumes.storage_gb=N",
        )


def missing_gb(attributes: Attributes, facts: VolumeFacts) -> float:
    """Return what the volumes' file is going to take of the disk."""
    volume = cinder.pool(attributes) if attributes.flag("volumes.enable") else None
    return max(0, volume.size_gb - facts.made) if volume else 0


def beside_servers(attributes: Attributes, facts: VolumeFacts, servers: StorageFacts) -> Iterator[tuple[str, str]]:
    """Yield what prevents both this file and those of the servers' root disks, where each alone has room; pure."""
    here = missing_gb(attributes, facts)
    there = storage_obstacles.missing_gb(storage.all_wanted(attributes), servers)
    room = min(facts.free_gb, servers.free_gb) - storage_obstacles.SPARE_GB
    if facts.disk == servers.disk and here and there and max(here, there) <= room < here + there:
        yield (
            f"The volumes take {here:g} GB more, the engine's storage {there:g} GB; {room:.0f} GB are there for both.",
            "Make room, or have less: --set volumes.storage_gb=N --set docker.storage_gb=N",
        )


def _new(volume: storage.Volume, facts: VolumeFacts) -> Iterator[tuple[str, str]]:
    if facts.volumes:
        yield (
            f"{volume.mount_point} has {facts.volumes} files, which a file system mounted there would hide.",
            "They may be volumes of an earlier run: leave it a directory (--set volumes.storage=directory), or empty.",
        )
    if facts.taken:
        yield (
            f"{volume.image}, or what is mounted at {volume.mount_point}, is not dockstack's.",
            "Choose another place: --set volumes.store=PATH",
        )
    if not facts.xfs:
        yield "The kernel has no xfs, which shares blocks between volumes and their snapshots.", INSTEAD
    if not facts.loop:
        yield "There is no /dev/loop-control, so no file can be mounted.", INSTEAD


def gather(attributes: Attributes, manifest: Manifest) -> VolumeFacts:
    """Look at this machine."""
    if not attributes.flag("volumes.enable"):
        return VolumeFacts()
    store = attributes.text("volumes.store")
    image = Path(storage.image_of(store))
    ours = manifest.ours(cinder.VOLUME_POOL, store)
    made = image.stat().st_size / GIB if ours and image.exists() else 0
    return VolumeFacts(
        made=made,
        taken=not ours and (image.exists() or os.path.ismount(store)),
        volumes=0 if made or not Path(store).is_dir() else sum(1 for _ in Path(store).iterdir()),
        xfs=storage_obstacles.has_file_system("xfs"),
        loop=Path("/dev/loop-control").exists(),
        free_gb=shutil.disk_usage(storage_obstacles.existing(image.parent)).free / GIB,
        disk=storage_obstacles.existing(image.parent).stat().st_dev,
    )
