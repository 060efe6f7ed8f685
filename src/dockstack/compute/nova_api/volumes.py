# SPDX-License-Identifier: Apache-2.0
"""Nova's block devices and what Cinder says of them, translated to the model."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nova.conf
import nova.context
from nova import exception, objects
from nova.block_device import new_format_is_ephemeral
from nova.virt import block_device, driver

from dockstack.compute.model import ROOT_DEVICE, DiskRates, Ephemeral, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockstack.compute.model import DeviceUsage

_PREFIX = "/dev/"
_EPHEMERAL, _FILE_SYSTEM = "ephemeral", "ext4"
_LETTERS = "bcdefghijklmnopqrstuvwxyz"  # a server's root file system, which is no device, is vda in Nova's records


def build_volume(connection_info: Any, mountpoint: str) -> Volume:
    """Translate what Cinder said of a volume.

    Args:
        connection_info: as Nova keeps it; empty while Cinder has not said anything.
        mountpoint: what Nova calls its place, "/dev/vdb".
    """
    said = connection_info or {}
    data = said.get("data") or {}
    return Volume(
        id=block_device.get_volume_id(said) or "",
        device=mountpoint.removeprefix(_PREFIX),
        protocol=said.get("driver_volume_type") or "",
        connection=data,
        read_only=data.get("access_mode") == "ro",
        rates=_build_rates(data.get("qos_specs") or {}),
    )


def build_volumes(block_device_info: Any) -> tuple[Volume, ...]:
    """Translate the volumes that Nova hands to a driver."""
    mapping = driver.block_device_info_get_mapping(block_device_info)
    volumes = [
        build_volume(each["connection_info"], _place(each["mount_device"], each.get("boot_index"))) for each in mapping
    ]
    blank = driver.block_device_info_get_ephemerals(block_device_info)
    disks = [
        _build_ephemeral(each.uuid, each["device_name"], each["size"], each["guest_format"], number)
        for number, each in enumerate(blank)
    ]
    return (*volumes, *disks)


def read_volumes(server_uuid: str) -> tuple[Volume, ...]:
    """Ask Nova which volumes a server has."""
    found = objects.BlockDeviceMappingList.get_by_instance_uuid(nova.context.get_admin_context(), server_uuid)
    return build_recorded(found)


def build_recorded(block_devices: Iterable[Any]) -> tuple[Volume, ...]:
    """Translate those of Nova's records of a server's block devices that are devices in it."""
    known = [bdm for bdm in block_devices if bdm.device_name]
    blank = [bdm for bdm in known if new_format_is_ephemeral(bdm)]
    disks = [
        _build_ephemeral(bdm.uuid, bdm.device_name, bdm.volume_size, bdm.guest_format, number)
        for number, bdm in enumerate(blank)
    ]
    return (*(_build_recorded(bdm) for bdm in known if bdm.is_volume), *disks)


def complete(instance: Any, volume: Volume) -> Volume:
    """Find out where in a server a volume stands, which Nova does not always say.

    Raises:
        exception.VolumeBDMNotFound: it has no such volume.
    """
    for known in read_volumes(instance.uuid):
        if known.id == volume.id:
            return replace(volume, device=known.device)
    raise exception.VolumeBDMNotFound(volume_id=volume.id)


def name_device(block_devices: Iterable[Any]) -> str:
    """Return the first name that none of a server's volumes has; what a request names, no container could promise.

    Args:
        block_devices: ``nova.objects.BlockDeviceMapping``.

    Raises:
        exception.TooManyDiskDevices: all are taken.
    """
    taken = {(bdm.device_name or "").removeprefix(_PREFIX) for bdm in block_devices}
    free = next((name for name in _list_names() if name not in taken), None)
    if free is None:
        raise exception.TooManyDiskDevices(maximum=len(_LETTERS))
    return _PREFIX + free


def name_devices(root_device_name: str, *block_device_lists: Iterable[Any]) -> None:
    """Name all of a new server's volumes, in the order of the request, and save that; its root keeps its name."""
    named: list[Any] = []
    for bdm in itertools.chain(*block_device_lists):
        if bdm.device_name != root_device_name:
            bdm.device_name = name_device(named)
            bdm.save()
        named.append(bdm)


def build_usage(instance: Any, volume_id: str, used: DeviceUsage) -> dict[str, Any]:
    """Tell what a server moved to and from a volume, in the words of Nova's usage cache."""
    words = ("rd_req", "rd_bytes", "wr_req", "wr_bytes")
    return {"volume": volume_id, "instance": instance, **dict(zip(words, count(used), strict=True))}


def count(used: DeviceUsage) -> list[int]:
    """Return requests and bytes read, then requests and bytes written."""
    return [used.read_requests, used.read_bytes, used.written_requests, used.written_bytes]


def _build_ephemeral(identity: str, device_name: str, size_gb: int, file_system: str | None, number: int) -> Volume:
    wanted = file_system or nova.conf.CONF.default_ephemeral_format or _FILE_SYSTEM
    about = Ephemeral(int(size_gb or 0), wanted, f"ephemeral{number}")  # as Nova's other drivers label it
    return Volume(identity, device_name.removeprefix(_PREFIX), _EPHEMERAL, ephemeral=about)


def _place(device_name: str, boot_index: int | None) -> str:
    """Return a volume's place in a server; the one that it boots from is its root, whatever a request calls it."""
    return _PREFIX + ROOT_DEVICE if boot_index == 0 else device_name


def _build_recorded(bdm: Any) -> Volume:
    device = _place(bdm.device_name, bdm.boot_index)
    said = build_volume(json.loads(bdm.connection_info) if bdm.connection_info else {}, device)
    return said if said.id else Volume(bdm.volume_id, said.device)


def _build_rates(specs: dict[str, Any]) -> DiskRates:
    """Read front-end QoS specs; what is for both directions together, bounds each of them here."""

    def read(kind: str, unit: str) -> int | None:
        value = specs.get(f"{kind}_{unit}_sec") or specs.get(f"total_{unit}_sec")
        return int(value) if value else None

    return DiskRates(read("read", "bytes"), read("write", "bytes"), read("read", "iops"), read("write", "iops"))


def _list_names() -> Iterator[str]:
    return (f"vd{letter}" for letter in _LETTERS)
