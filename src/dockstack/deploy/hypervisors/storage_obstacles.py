# SPDX-License-Identifier: Apache-2.0
"""What prevents the storage that the attributes ask for, found before anything is changed.

``gather`` looks at the machine; ``obstacles`` decides, and is pure. An engine that holds anything is not given another
storage, because the new mount would hide what it holds.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dockstack.deploy.hypervisors import storage
from dockstack.deploy.hypervisors.engine import engine_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dockstack.deploy.hypervisors.storage import Volume
    from dockstack.deploy.node.manifest import Manifest
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.attributes import Attributes

GIB = 1 << 30
SPARE_GB = 5  # for packages, and for the rest of the machine
XFS_QUOTAS = "CONFIG_XFS_QUOTA=y"
# What an engine keeps of containers, images and volumes, below its data root.
HOLDINGS = ("containers/*/", "image/*/imagedb/content/sha256/*", "volumes/*/_data")


class Obstacle(NamedTuple):
    """Something that prevents it, and its cure."""

    brief: str
    cure: str


@dataclass(frozen=True)
class Place:
    """What is where a volume is to be mounted.

    Attributes:
        made: the size in GB of the volume that is there, ours; 0 for none.
        kind: of its file system; "" if that cannot be told.
        taken: a file that is not ours has the volume's name.
        mounted: another file system is mounted there.
        held: how many containers, images and volumes an engine keeps there.
    """

    made: float = 0
    kind: str = ""
    taken: bool = False
    mounted: bool = False
    held: int = 0


@dataclass(frozen=True)
class StorageFacts:
    """What the machine is like, as far as the engine's storage goes."""

    file_systems: frozenset[str] = frozenset({"btrfs", "xfs"})  # that the kernel has or can load
    xfs_quotas: bool = True
    loop: bool = True
    free_gb: float = 1000  # below the data root
    disk: int = 0  # whose room that is
    cloud: bool = False  # an engine of ours is defined here
    foreign: bool = False  # an engine that is not ours answers
    places: Mapping[str, Place] = field(default_factory=dict)  # by mount point


def obstacles(attributes: Attributes, facts: StorageFacts) -> Iterator[Obstacle]:
    """Yield all that prevents it, each with its cure."""
    volumes = storage.all_wanted(attributes)
    root = engine_of(attributes).data_root
    made = facts.places.get(root, Place()).made
    if bool(volumes) != bool(made) and (facts.cloud or made):
        yield _other_storage(root, in_file=made > 0)
        return
    if not volumes:
        return
    if not made and facts.foreign:
        yield Obstacle(
            f"A container engine that dockstack did not start answers on {attributes.text('docker.socket')}; where it "
            "keeps its data is its owner's to decide.",
            "Leave docker.storage away to use it as it is. If nobody needs it, stop it first "
            "(systemctl disable --now docker.socket docker.service).",
        )
    for volume in volumes:
        yield from _at(volume, facts.places.get(volume.mount_point, Place()))
    yield from _kernel(volumes[0].kind, facts)
    yield from _room(volumes, facts)


def _other_storage(root: str, *, in_file: bool) -> Obstacle:
    here = f"in the file {storage.image_of(root)}" if in_file else f"in the directory {root}"
    return Obstacle(
        f"The cloud that is here keeps its servers {here}; docker.storage asks for something else.",
        "Storage is chosen with the first `dockstack up`. To change it: make images of the servers that you need and "
        "save them elsewhere, then `dockstack clean`, then `dockstack up --set docker.storage=...`.",
    )


def _at(volume: Volume, place: Place) -> Iterator[Obstacle]:
    if place.made:
        if place.kind and place.kind != volume.kind:
            yield _other_storage(volume.mount_point, in_file=True)
        elif volume.size_gb < place.made:
            yield Obstacle(
                f"docker.storage_gb is {volume.size_gb}, and {volume.image} has {place.made:g} GB; it cannot shrink.",
                f"Set docker.storage_gb to {place.made:g} or more.",
            )
    elif place.taken:
        yield Obstacle(f"There is a file {volume.image} that dockstack did not make.", "Move it away.")
    elif place.mounted:
        yield Obstacle(
            f"{volume.mount_point} is a file system of its own already.",
            "Leave docker.storage away to use that one (docs/limits.md says what it must be like), or choose another "
            "docker.data_root.",
        )
    elif place.held:
        yield Obstacle(
            f"An engine keeps {place.held} containers, images or volumes in {volume.mount_point}; they would be "
            "hidden.",
            f"Move them away (mv {volume.mount_point} {volume.mount_point}.before), or choose another "
            "docker.data_root.",
        )


def _kernel(kind: str, facts: StorageFacts) -> Iterator[Obstacle]:
    if kind not in facts.file_systems:
        yield Obstacle(f"The kernel has no {kind}.", f"Load it (modprobe {kind}), or choose another docker.storage.")
    elif kind == "xfs" and not facts.xfs_quotas:
        yield Obstacle(
            "The kernel's XFS has no quotas (CONFIG_XFS_QUOTA), so it cannot hold servers to their disks.",
            "Choose docker.storage=btrfs, or boot a kernel that has them.",
        )
    if not facts.loop:
        yield Obstacle(
            "There is no /dev/loop-control, which a file system in a file needs.",
            "Load the module (modprobe loop); in a container, give it the machine's loop devices.",
        )


def missing_gb(volumes: Iterable[Volume], facts: StorageFacts) -> float:
    """Return what volumes are going to take of the disk."""
    return sum(max(0, volume.size_gb - facts.places.get(volume.mount_point, Place()).made) for volume in volumes)


def _room(volumes: Iterable[Volume], facts: StorageFacts) -> Iterator[Obstacle]:
    missing = missing_gb(volumes, facts)
    if missing and facts.free_gb < missing + SPARE_GB:
        yield Obstacle(
            f"The engine's storage takes {missing:g} GB more, and {facts.free_gb:.1f} GB are free ({SPARE_GB} GB of "
            "them stay free).",
            "Make room, or choose a smaller docker.storage_gb.",
        )


# -- looking ----------------------------------------------------------------------------------------------------------


def gather(attributes: Attributes, manifest: Manifest, services: Iterable[Service]) -> StorageFacts:
    """Look at this machine; nothing is changed."""
    cloud = any(service.name == "docker" for service in services)
    engine = engine_of(attributes)
    root = engine.data_root
    volumes = storage.all_wanted(attributes)
    points = {root, *(volume.mount_point for volume in volumes)}
    ours = storage.ours(manifest)
    found = StorageFacts(cloud=cloud, places={point: look(point, ours=point in ours) for point in points})
    if not volumes:
        return found  # the rest matters only to a volume
    return replace(
        found,
        file_systems=frozenset(kind for kind in storage.FILE_SYSTEMS if has_file_system(kind)),
        xfs_quotas=_has_xfs_quotas(),
        loop=Path("/dev/loop-control").exists(),
        free_gb=shutil.disk_usage(existing(Path(root))).free / GIB,
        disk=existing(Path(root)).stat().st_dev,
        foreign=not cloud and not engine.own and _answers(engine.socket),
    )


def look(point: str, *, ours: bool) -> Place:
    """Look at the place of one volume; ``ours``: we made one there."""
    image = Path(storage.image_of(point))
    if ours and image.exists():
        return Place(made=image.stat().st_size / GIB, kind=_kind_of(image))
    return Place(
        taken=image.exists(),
        mounted=os.path.ismount(point),
        held=sum(1 for holding in HOLDINGS for _ in Path(point).glob(holding)),
    )


def _kind_of(image: Path) -> str:
    """Ask the file itself, since an attribute may be another by now."""
    line = ["/usr/sbin/blkid", "-p", "-s", "TYPE", "-o", "value", str(image)]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def existing(path: Path) -> Path:
    """Return a path, or the nearest one above it that is there."""
    return path if path.exists() else existing(path.parent)


def has_file_system(kind: str) -> bool:
    """Return whether the kernel has a file system, or can load it."""
    if f"\t{kind}\n" in Path("/proc/filesystems").read_text():
        return True
    try:
        return subprocess.run(["/sbin/modprobe", "-n", "-q", kind], check=False).returncode == 0
    except FileNotFoundError:
        return False


def _has_xfs_quotas() -> bool:
    """Read the kernel's configuration; true if there is none to read, as the mount itself will tell then."""
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        return XFS_QUOTAS in text.splitlines()
    return True


def _answers(path: str) -> bool:
    """Return whether a process listens on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(path)
        except OSError:
            return False
        return True
