# SPDX-License-Identifier: Apache-2.0
"""Device metadata: what the metadata service tells a server of the devices that its owner tagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nova.context
from nova import objects
from nova.virt import netutils

from dockstack.compute.nova_api import servers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.model import Port


def build_metadata(context: Any, instance: Any, network_info: Iterable[Any]) -> Any:
    """Describe a server's tagged interfaces, those with a VLAN, and its tagged volumes.

    A veth pair is on no bus, so none is named; the metadata service then says "none", and the MAC is the way to find
    the interface.

    Args:
        context: to read Nova's database.
        instance: whose.
        network_info: a ``nova.network.model.NetworkInfo``, where the VLANs stand.

    Returns:
        A ``nova.objects.InstanceDeviceMetadata``, or None if there is nothing to tell.
    """
    vlans = netutils.get_cached_vifs_with_vlan(network_info)
    recorded = objects.VirtualInterfaceList.get_by_instance_uuid(context, instance.uuid)
    devices = [_describe(vif, vlans.get(vif.address)) for vif in recorded if vif.tag or vlans.get(vif.address)]
    attached = objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
    devices += [_describe_volume(bdm) for bdm in attached if bdm.is_volume and bdm.tag]
    return objects.InstanceDeviceMetadata(devices=devices) if devices else None


def renew_metadata(context: Any, instance: Any) -> None:
    """Tell the metadata service of what a server has by now."""
    context = context or nova.context.get_admin_context()
    _keep(instance, build_metadata(context, instance, instance.get_network_info()))


def build_ports(context: Any, instance: Any, network_info: Iterable[Any] | None) -> tuple[Port, ...]:
    """Wait for Neutron's allocation and translate it; tell the metadata service before a new server asks it.

    Raises:
        exception.VirtualInterfacePlugException: Neutron could not bind a port to this host.
    """
    ports = servers.build_bound_ports(network_info)
    _keep(instance, build_metadata(context, instance, network_info or ()))
    return ports


def _keep(instance: Any, metadata: Any) -> None:
    if metadata is not None:
        instance.device_metadata = metadata
        instance.save()


def _describe_volume(bdm: Any) -> objects.DiskMetadata:
    return objects.DiskMetadata(path=bdm.device_name, serial=bdm.volume_id, tags=[bdm.tag])


def _describe(vif: Any, vlan: Any) -> objects.NetworkInterfaceMetadata:
    device = objects.NetworkInterfaceMetadata(mac=vif.address, vf_trusted=False)
    if vif.tag:
        device.tags = [vif.tag]
    if vlan:
        device.vlan = int(vlan)
    return device
