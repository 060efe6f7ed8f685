# SPDX-License-Identifier: Apache-2.0
"""What tells a server's programs of block devices: its own, as plain files in the shape of the kernel's.

Each server that has volumes has a directory of such files, which is mounted over the kernel's in it, so that it sees
none of the host's devices. A file that changes is seen at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from dockstack.names import volume_serial

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dockstack.compute.model import Device

_DEVICES, _BLOCK, _CLASS, _NUMBERS, _PARTITIONS = "devices", "block", "class", "numbers", "partitions"
# Where each stands in a server. A link in one of them leads to the same place as the kernel's.
PLACES = {
    _DEVICES: "/sys/devices/virtual/block",
    _BLOCK: "/sys/block",
    _CLASS: "/sys/class/block",
    _NUMBERS: "/sys/dev/block",
    _PARTITIONS: "/proc/partitions",
}
_UP = {
    _BLOCK: "../devices/virtual/block",
    _CLASS: "../../devices/virtual/block",
    _NUMBERS: "../../devices/virtual/block",
}
_SECTOR, _BLOCK_BYTES = 512, 1024
_BARE = ("serial",)  # the kernel ends this one with no newline: drivers/block/virtio_blk.c, serial_show
_HEADING = "major minor  #blocks  name\n\n"


def renew(directory: Path, devices: Iterable[Device]) -> None:
    """Write all of a server's view anew, in place: it may be mounted."""
    wanted = {device.volume.device: device for device in devices}
    for name in _DEVICES, *_UP:
        (directory / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for stale in {path.name for path in (directory / _DEVICES).iterdir()} - set(wanted):
        _remove(directory, stale)
    for device in wanted.values():
        _write(directory, device)
    _list_partitions(directory)


def add(directory: Path, device: Device) -> None:
    """Show one more device, or one that has another size or number by now."""
    for name in _DEVICES, *_UP:
        (directory / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(directory, device)
    _list_partitions(directory)


def remove(directory: Path, name: str) -> None:
    """Show a device no more; absent is success."""
    if directory.is_dir():
        _remove(directory, name)
        _list_partitions(directory)


def drop(directory: Path) -> None:
    """Remove a server's view; absent is success."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def list_sources(directory: Path) -> list[tuple[str, str]]:
    """Return what of a view is mounted where; nothing where there is no view."""
    return [(str(directory / name), place) for name, place in PLACES.items()] if directory.is_dir() else []


def find_number(directory: Path, name: str) -> str:
    """Return a device's numbers, as "7:1"; empty if the view has no such device."""
    try:
        return (directory / _DEVICES / name / "dev").read_text().strip()
    except OSError:
        return ""


def describe(device: Device) -> dict[str, str]:
    """Return what the kernel would tell of a device: contents by file."""
    number = f"{device.major}:{device.minor}"
    event = {"MAJOR": device.major, "MINOR": device.minor, "DEVNAME": device.volume.device, "DEVTYPE": "disk"}
    return {
        "dev": number,
        "size": str(device.size // _SECTOR),
        "ro": str(int(device.volume.read_only)),
        "removable": "0",
        "hidden": "0",
        "serial": volume_serial(device.volume.id),
        "alignment_offset": "0",
        "uevent": "\n".join(f"{key}={value}" for key, value in event.items()),
        "queue/logical_block_size": str(_SECTOR),
        "queue/physical_block_size": str(_SECTOR),
        "queue/hw_sector_size": str(_SECTOR),
        "queue/minimum_io_size": str(_SECTOR),
        "queue/optimal_io_size": "0",
        "queue/rotational": "0",
        "queue/discard_granularity": "0",
        "queue/discard_max_bytes": "0",
    }


def _write(directory: Path, device: Device) -> None:
    name = device.volume.device
    own = directory / _DEVICES / name
    for file, text in describe(device).items():
        (own / file).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        (own / file).write_text(text if file in _BARE else text + "\n")
    number = f"{device.major}:{device.minor}"
    for path in list((directory / _NUMBERS).iterdir()):
        if path.readlink().name == name and path.name != number:
            path.unlink()
    for path in (directory / _BLOCK / name, directory / _CLASS / name, directory / _NUMBERS / number):
        target = f"{_UP[path.parent.name]}/{name}"
        if not path.is_symlink() or str(path.readlink()) != target:
            path.unlink(missing_ok=True)
            path.symlink_to(target)


def _remove(directory: Path, name: str) -> None:
    for kind in _UP:
        for path in list((directory / kind).iterdir()):
            if path.readlink().name == name:
                path.unlink()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory / _DEVICES / name)


def _list_partitions(directory: Path) -> None:
    """Write /proc/partitions into the same file as before, as that is what may be mounted."""
    lines = [_HEADING]
    for own in sorted((directory / _DEVICES).iterdir()):
        major, _, minor = (own / "dev").read_text().strip().partition(":")
        blocks = int((own / "size").read_text()) * _SECTOR // _BLOCK_BYTES
        lines.append(f"{major:>4} {minor:>8} {blocks:>10} {own.name}\n")
    descriptor = os.open(directory / _PARTITIONS, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(lines) if len(lines) > 1 else "")
        file.truncate()
