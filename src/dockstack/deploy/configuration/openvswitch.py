# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch and OVN at their standard places; sockets only, but for OVN's databases where others may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.paths import OVN_AUTHORITY, OVN_CERTIFICATE

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

DATABASE_SOCKET = "/run/openvswitch/db.sock"
DATABASE_REMOTE = f"unix:{DATABASE_SOCKET}"


def open_vswitch_settings(settings: Settings) -> tuple[str, ...]:
    """Return the arguments of `ovs-vsctl set Open_vSwitch .`; they must be in place before ovs-vswitchd starts.

    Without a southbound database, this is no chassis of OVN's.
    """
    networks = settings.networks
    mappings = f"{networks.physical_network}:{networks.external_bridge}"
    values = [
        f"external-ids:system-id={settings.hostname}",
        f"external-ids:hostname={settings.hostname}",
    ]
    if settings.southbound:
        values += [
            f"external-ids:ovn-remote={_atom(settings.southbound)}",
            f"external-ids:ovn-encap-type={settings.encap_type}",
            f"external-ids:ovn-encap-ip={settings.tunnel_address}",
            *([f"external-ids:ovn-bridge-mappings={mappings}"] if networks.external_bridge else []),
            f"external-ids:ovn-bridge-datapath-type={settings.datapath}",
            "external-ids:ovn-monitor-all=true",
        ]
    if settings.datapath == "netdev":
        # Without it a veth's unfinished checksums make the userspace connection tracker drop every TCP packet.
        values.append("other_config:userspace-tso-enable=true")
    return tuple(values)


def tunnel_options(datapath: str) -> tuple[tuple[str, str], ...]:
    """Return the options of [docker] in nova.conf of a host whose servers reach others through tunnels.

    Servers compute checksums in software, as Open vSwitch 3.1's userspace datapath drops unfinished ones at a tunnel.
    """
    return (("checksum_offload", "false"),) if datapath == "netdev" else ()


def listener_arguments(settings: Settings, side: str) -> tuple[str, ...]:
    """Return how ovsdb-server lets other machines in to one of OVN's databases, "nb" or "sb".

    With TLS, whoever has no certificate of the cloud's own authority is turned away. The certificate's file holds its
    key, too; ovsdb-server reads it again when it changes.
    """
    if not settings.listen_address:
        return ()
    port = settings.ports.ovn_northbound if side == "nb" else settings.ports.ovn_southbound
    place = f"{port}:{settings.listen_address}"
    if not settings.tls:
        return (f"--remote=ptcp:{place}",)
    files = (f"--private-key={OVN_CERTIFICATE}", f"--certificate={OVN_CERTIFICATE}", f"--ca-cert={OVN_AUTHORITY}")
    return (f"--remote=pssl:{place}", *files)


def _atom(value: str) -> str:
    """Return a value as one atom of the database's syntax, where a comma separates several."""
    return f'"{value}"' if "," in value else value


def chassis_options(settings: Settings, *, bandwidth: bool) -> str:
    """Return external-ids:ovn-cms-options of this chassis, which OVN passes on to Neutron; may be empty.

    Args:
        settings: of the host.
        bandwidth: also offer bandwidth that ports may be guaranteed. Neutron reports it to Placement when this value
            changes and at its own start, and in both cases only if Placement has the host's provider by then.
    """
    networks = settings.networks
    options = ["enable-chassis-as-gw"] if settings.gateway_chassis else []
    if bandwidth and networks.external_bandwidth:
        each_way = f"{networks.external_bandwidth * 1000}"  # kbit/s
        options += [
            f"resource_provider_bandwidths={networks.external_bridge}:{each_way}:{each_way}",
            f"resource_provider_hypervisors={networks.external_bridge}:{settings.hostname}",
        ]
    return ",".join(options)
