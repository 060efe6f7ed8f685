# SPDX-License-Identifier: Apache-2.0
"""The engine's data root on a file system in a file, of a kind that can limit each server to its flavor's disk.

The file is allocated in full: if it were sparse, a full disk of the machine would break all servers at once. It is
mounted through /etc/fstab, so that after a reboot it is there before the engine starts, under systemd or by ``up``.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.wanted import hosts

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockstack.deploy.node.manifest import Made, Manifest
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes

DIRECTORY = "directory"  # the attribute's value for a plain directory
MADE = "storage"  # the manifest's kind; the name is the mount point
EMPTY = "storage-empty"  # noted by `clean` once nothing of others is in it
FSTAB = "/etc/fstab"
COMMENT = "# Made by dockstack: where the container engine keeps its data."


@dataclass(frozen=True)
class FileSystem:
    """A file system with quotas that an engine knows to use.

    Attributes:
        driver: the engine's storage driver on it.
        make: the command that makes one in a file; blocks stay reserved.
        options: how it is mounted.
        grow: the command that has it fill its file, when it is mounted.
    """

    driver: str
    make: tuple[str, ...]
    options: str
    grow: tuple[str, ...]


FILE_SYSTEMS = {
    "btrfs": FileSystem(
        driver="btrfs",
        make=("mkfs.btrfs", "--quiet", "--nodiscard"),
        options="nodiscard",
        grow=("btrfs", "filesystem", "resize", "max"),
    ),
    "xfs": FileSystem(
        driver="overlay2",
        make=("mkfs.xfs", "-q", "-K"),
        options="prjquota",
        grow=("xfs_growfs",),
    ),
}


@dataclass(frozen=True)
class Volume:
    """A file with a file system in it.

    Attributes:
        kind: one of FILE_SYSTEMS.
        size_gb: of the file.
        mount_point: the data root of the engine that uses it.
        unit: the systemd unit that must not start without it; "" if it is mounted by other means.
        options: how it is mounted; "" for what an engine needs.
        made: the manifest's kind of it.
        before: further units, which start after it; also if it cannot be mounted.
    """

    kind: str
    size_gb: int
    mount_point: str
    unit: str = ""
    options: str = ""
    made: str = MADE
    before: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The file, beside its mount point."""
        return image_of(self.mount_point)

    @property
    def file_system(self) -> FileSystem:
        """What is in it."""
        return FILE_SYSTEMS[self.kind]

    @property
    def mount_command(self) -> tuple[str, ...]:
        """Mount it if it is not."""
        return ("sh", "-c", mount_line(self.mount_point))


def wanted(attributes: Attributes, key: str = "") -> Volume | None:
    """Return what the attributes ask for; None for a plain directory.

    Args:
        attributes: the node's.
        key: the further host on this machine whose engine uses it; "" for the machine's own.
    """
    kind, engine = attributes.text("docker.storage"), engine_of(attributes)
    if kind == DIRECTORY:
        return None
    point = f"{hosts.state_directory(key)}{engine.data_root}" if key else engine.data_root
    return Volume(kind, attributes.number("docker.storage_gb"), point, "" if key else engine.unit)


def all_wanted(attributes: Attributes) -> tuple[Volume, ...]:
    """Return what the attributes ask for, for each host on the machine."""
    keys = ("", *hosts.further_keys(attributes))
    return tuple(volume for key in keys if (volume := wanted(attributes, key)) is not None)


def to_remember(attributes: Attributes) -> dict[str, Any]:
    """Return the options that a later ``up`` needs even if its command line does not repeat them."""
    if attributes.text("docker.storage") == DIRECTORY:
        return {}
    return {name: attributes[name] for name in ("docker.storage", "docker.storage_gb")}


def mount_line(mount_point: str) -> str:
    """Return the shell line that mounts a volume, if it is not mounted."""
    point = shlex.quote(mount_point)
    return f"mountpoint -q {point} || mount {point}"


def image_of(mount_point: str) -> str:
    """Return the file that is mounted there."""
    return f"{mount_point}.img"


def provide(machine: Machine, volume: Volume) -> None:
    """Have the volume made, mounted now and after a reboot, and grown. Preflight has checked the mount point."""
    machine.packages(*machine.distribution.packages_of(volume.file_system.make[0]))
    if not machine.exists(volume.image):
        _make(machine, volume)
    before = machine.read(FSTAB) or ""
    after = with_entry(before, volume)
    if after != before:
        machine.file(FSTAB, after, claim=False)
        if machine.backend.name == "systemd":
            machine.command(["systemctl", "daemon-reload"])
    mounted = f"mountpoint -q {shlex.quote(volume.mount_point)}"
    machine.command(["mount", volume.mount_point], unless=mounted)
    done = f"storage{volume.mount_point.replace('/', '-')}"
    machine.once(done, str(volume.size_gb), lambda: _grow(machine, volume))


def _make(machine: Machine, volume: Volume) -> None:
    """Make the file under another name and rename it when the file system is complete: a run may be killed."""
    machine.say(f"Making {volume.image}, {volume.size_gb} GB with {volume.kind}")
    machine.manifest.made(volume.made, volume.mount_point)
    new = shlex.quote(f"{volume.image}.new")
    machine.command(
        f"mkdir -p {shlex.quote(volume.mount_point)} && rm -f {new} && umask 077"
        f" && fallocate -l {volume.size_gb}G {new} && {shlex.join(volume.file_system.make)} {new}"
        f" && sync {new} && mv {new} {shlex.quote(volume.image)}"
    )


def _grow(machine: Machine, volume: Volume) -> None:
    """Grow file and file system to their size; nothing happens if they have it already."""
    image, point = shlex.quote(volume.image), shlex.quote(volume.mount_point)
    machine.command(
        f'fallocate -l {volume.size_gb}G {image} && losetup -c "$(findmnt -n -o SOURCE --mountpoint {point})"'
        f" && {shlex.join(volume.file_system.grow)} {point} > /dev/null"
    )


def require_driver(volume: Volume | None, driver: str) -> None:
    """Refuse an engine whose storage driver is not the one that its data root was made for.

    Raises:
        StepFailedError: naming both drivers.
    """
    if volume is not None and driver != volume.file_system.driver:
        raise StepFailedError(
            f"The engine stores with {driver}, not with {volume.file_system.driver}, so nothing holds servers to "
            "their disks.",
            'Was it started with an option that contradicts "storage-driver" in its daemon.json? Take that away, '
            "then run `dockstack up` again.",
        )


def note_emptiness(machine: Machine, others: Collection[str]) -> bool:
    """Let ``clean`` remove the storage; return whether it must stay, as others keep something in it.

    Args:
        machine: the machine.
        others: containers, images and volumes in the engine that are not ours.
    """
    if not ours(machine.manifest):
        return False
    if not others:
        machine.manifest.set_done(EMPTY, "")
        return False
    machine.say(f"The engine keeps {len(others)} containers, images or volumes of others, so its storage stays")
    return True


def release(machine: Machine, entry: Made) -> None:
    """Remove a volume, if nothing of others is in it."""
    if not machine.exists(image_of(entry.name)):
        return
    if machine.manifest.done(EMPTY) is None:
        machine.say(f"Left {image_of(entry.name)}, mounted at {entry.name}; `umount` and `rm` it when nobody needs it")
        return
    remove(machine, entry.name)


def remove(machine: Machine, mount_point: str) -> None:
    """Remove a volume with all that is on it; one that is not there is fine."""
    point, image = shlex.quote(mount_point), shlex.quote(image_of(mount_point))
    machine.run(f"! mountpoint -q {point} || umount {point} || umount --lazy {point}", check=False)
    text = machine.read(FSTAB) or ""
    if (without := without_entry(text, mount_point)) != text:
        machine.file(FSTAB, without, claim=False)
        if machine.backend.name == "systemd":
            machine.run(["systemctl", "daemon-reload"], check=False)
    machine.run(f"rm -f {image} {image}.new", check=False)


def ours(manifest: Manifest) -> tuple[str, ...]:
    """Return the mount points of the volumes that were made on this machine."""
    return tuple(entry.name for entry in manifest.entries() if entry.kind == MADE)


def with_entry(text: str, volume: Volume) -> str:
    """Return fstab's text with the volume's line; pure."""
    options = ["loop", volume.options or volume.file_system.options]
    if volume.unit:  # these take it out of local-fs.target: a machine boots without it, the engine does not start
        options += [f"x-systemd.required-by={volume.unit}", f"x-systemd.before={volume.unit}"]
    else:
        options += ["noauto"]
    for unit in volume.before:
        options += [f"x-systemd.wanted-by={unit}", f"x-systemd.before={unit}"]
    fields = (volume.image, volume.mount_point, volume.kind, ",".join(options), "0", "0")
    line = " ".join(field.replace(" ", "\\040") for field in fields)
    if line in text.splitlines():
        return text
    kept = without_entry(text, volume.mount_point)
    return f"{kept}{'' if not kept or kept.endswith(chr(10)) else chr(10)}{COMMENT}\n{line}\n"


def without_entry(text: str, mount_point: str) -> str:
    """Return fstab's text without our line for a mount point; pure."""
    ours = [name.replace(" ", "\\040") for name in (image_of(mount_point), mount_point)]
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.split()[:2] == ours:
            if kept and kept[-1].strip() == COMMENT:
                kept.pop()
            continue
        kept.append(line)
    return "".join(kept)
