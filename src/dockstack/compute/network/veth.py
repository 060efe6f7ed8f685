# SPDX-License-Identifier: Apache-2.0
"""A server's NIC: a veth pair whose server end is complete before the first process starts."""

from __future__ import annotations

import ipaddress
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.privileged import network as privileged
from dockstack.errors import DockstackError
from dockstack.names import NAME_PREFIX, namespace_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dockstack.compute.model import Bandwidth, Port, Server

MAIN_TABLE = 254  # linux/rtnetlink.h: RT_TABLE_MAIN
METADATA = "169.254.169.254/32"
_NAME = re.compile(r"eth[0-9]{1,3}")
_FIRST_TABLE = 1000  # for further NICs; also the priority of its rules: before the kernel's own
_LEAST_BURST = 1 << 16  # bytes; the largest packet that segmentation makes
_FIRST_METRIC = 100  # as DHCP clients do, so that a server's own routes (metric 0) win


class WireError(DockstackError):
    """The kernel refused a link, an address or a route."""


@dataclass(frozen=True)
class PlannedRoute:
    """One route of a NIC."""

    destination: str
    gateway: str  # empty: directly on the link
    metric: int
    on_link: bool = False  # the gateway is in none of the NIC's networks
    table: int = MAIN_TABLE


def plan_routes(port: Port, metadata_route: str = "link") -> tuple[PlannedRoute, ...]:
    """Say which routes a NIC gets: its subnets' host routes, a default route per family, and one to the metadata.

    The metric is the interface's number above 100: all NICs keep theirs, the first one wins.

    Each further NIC has a table of its own besides, for what its addresses send (see ``plan_sources``).

    Args:
        port: the NIC.
        metadata_route: "link", "gateway", "dhcp" or "none" (see [docker] metadata_route); a host route to it wins.
    """
    metric = _FIRST_METRIC + number_of(port)
    networks = [ipaddress.ip_interface(address.cidr).network for address in port.addresses]
    wanted = {str(ipaddress.ip_network(route.destination, strict=False)): route.gateway for route in port.routes}
    for address in port.addresses:
        if address.gateway:
            everything = "0.0.0.0/0" if ipaddress.ip_address(address.gateway).version == 4 else "::/0"  # noqa: PLR2004
            wanted.setdefault(everything, address.gateway)
    if metadata_route == "link" and any(network.version == 4 for network in networks):  # noqa: PLR2004
        wanted.setdefault(METADATA, "")
    for address in port.addresses:
        by_dhcp = metadata_route == "dhcp" or (metadata_route == "gateway" and not address.gateway)
        if by_dhcp and address.dhcp and ipaddress.ip_address(address.dhcp).version == 4:  # noqa: PLR2004
            wanted.setdefault(METADATA, address.dhcp)
    routes = tuple(
        PlannedRoute(destination, gateway, metric, _needs_on_link(gateway, networks))
        for destination, gateway in wanted.items()
    )
    if not number_of(port):
        return routes
    direct = tuple(PlannedRoute(str(network), "", metric) for network in dict.fromkeys(networks))
    return (*routes, *(replace(route, table=_FIRST_TABLE + number_of(port)) for route in (*direct, *routes)))


def plan_sources(port: Port) -> tuple[str, ...]:
    """Say for which source addresses a NIC's own table decides, so that answers leave by the NIC that was asked.

    The first NIC needs none: the main table's routes are its own. Without this, an address of another NIC could not be
    reached from outside its subnet: the answer would leave by the first NIC, whose port security drops it. In a virtual
    machine its owner sets this up; in a container only the host can.
    """
    return tuple(address.cidr.partition("/")[0] for address in port.addresses) if number_of(port) else ()


def number_of(port: Port) -> int:
    """Return the number at the end of the interface's name, 0 if there is none."""
    return int("0" + "".join(re.findall(r"\d+$", port.interface)))


def wire(server: Server, port: Port, metadata_route: str = "link", *, offload: bool = True) -> None:
    """Make the port's veth pair and configure the server's end: MAC, MTU, addresses, routes. Again is fine.

    What an earlier call configured and this one does not is taken away; what the server's owner added stays.

    The namespace must exist; the switch end is plugged afterwards, since it must exist then.

    Raises:
        WireError: the kernel refused.
    """
    planned = plan_routes(port, metadata_route)
    with _explained(f"wiring port {port.id} of server {server.uuid}"):
        privileged.wire(
            namespace_name(server.uuid),
            port.device,
            {
                "interface": port.interface,
                "mac": port.mac,
                "mtu": port.mtu,
                "addresses": [address.cidr for address in port.addresses],
                "routes": [[each.destination, each.gateway, each.metric, each.on_link, each.table] for each in planned],
                "table": _FIRST_TABLE + number_of(port),
                "sources": plan_sources(port),
                "offload": offload,
                "inbound": _rate(server.limits.inbound),
                "outbound": _rate(server.limits.outbound),
            },
        )


def _rate(bandwidth: Bandwidth | None) -> list[int]:
    """Return bytes a second and bytes at once; empty for no limit.

    The least burst lets a packet of any size through, and fills the rate although the kernel looks only now and then.
    """
    if bandwidth is None:
        return []
    rate = bandwidth.average_kb * 1000
    return [rate, bandwidth.burst_kb * 1024 or max(_LEAST_BURST, rate // 100)]


def unwire(port: Port) -> None:
    """Remove the port's veth pair; absent is success."""
    unwire_device(port.device)


def unwire_device(device: str) -> None:
    """Remove a veth pair by the name of its host's end, for the sweep of strays; absent is success."""
    with _explained(f"removing device {device}"):
        privileged.delete_device(device)


def link_down(server_uuid: str) -> None:
    """Take a stopped or frozen server off the network: in its namespace the kernel would still answer a ping.

    ``link_up`` brings the links up again, and so does ``wire``.

    Raises:
        WireError: the kernel refused.
    """
    with _explained(f"taking down the links of server {server_uuid}"):
        for device in sorted(device for device, owner in wired().items() if owner == server_uuid):
            privileged.lower_device(device)


def link_up(server_uuid: str) -> None:
    """Let a server be heard again that was silenced.

    Raises:
        WireError: the kernel refused.
    """
    with _explained(f"bringing up the links of server {server_uuid}"):
        for device in sorted(device for device, owner in wired().items() if owner == server_uuid):
            privileged.raise_device(device)


def names(server_uuid: str, links: Path = Path("/sys/class/net")) -> dict[str, str]:
    """Return the host's ends of a server's pairs, each with the interface that it is in the server.

    Raises:
        WireError: the kernel refused.
    """
    with _explained(f"looking at the interfaces of server {server_uuid}"):
        inside = {link["index"]: link["name"] for link in privileged.interfaces(namespace_name(server_uuid))}
    found = {}
    for device, owner in wired(links).items():
        try:
            peer = int((links / device / "iflink").read_text()) if owner == server_uuid else 0
        except OSError:  # it went away meanwhile
            continue
        if peer in inside:
            found[device] = inside[peer]
    return found


def name_ports(ports: Iterable[Port], present: Mapping[str, str], labelled: Mapping[str, str]) -> tuple[Port, ...]:
    """Say which interface each port is or becomes in its server.

    Args:
        ports: in the order of Nova.
        present: what is there now: the host's end of each pair, with its interface.
        labelled: what was there at first; counts where nothing is there now.
    """
    ports = tuple(ports)
    named: dict[str, str] = {}
    taken = set(present.values())
    for known, free in ((present, False), (labelled, True)):
        for port in ports:
            name = known.get(port.device, "")
            if port.device not in named and _NAME.fullmatch(name) and not (free and name in taken):
                named[port.device] = name
                taken.add(name)
    unused = (name for number in count() if (name := f"eth{number}") not in taken)
    return tuple(replace(port, interface=named.get(port.device) or next(unused)) for port in ports)


def wired(links: Path = Path("/sys/class/net")) -> dict[str, str]:
    """Return the host's ends of all pairs of ours, each with its server, for the sweep of strays; needs no root."""
    found = {}
    for link in links.glob("tap*"):
        try:
            alias = (link / "ifalias").read_text().strip()
        except OSError:  # it went away meanwhile
            continue
        if alias.startswith(NAME_PREFIX):
            found[link.name] = alias.removeprefix(NAME_PREFIX)
    return found


def _needs_on_link(gateway: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    if not gateway:
        return False
    address = ipaddress.ip_address(gateway)
    return not address.is_link_local and not any(address in network for network in networks)


@contextmanager
def _explained(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WireError(
            f"The kernel refused {action}: {error.strerror or error}.",
            "Check the port's addresses and routes in Neutron, and that nova-compute's privsep helper runs as root.",
        ) from error
