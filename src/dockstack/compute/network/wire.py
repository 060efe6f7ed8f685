# SPDX-License-Identifier: Apache-2.0
"""A server's NIC: a veth pair whose server end is complete before the first process starts."""

from __future__ import annotations

import ipaddress
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.model import NAME_PREFIX, namespace_name
from dockstack.compute.privileged import network as privileged
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.compute.model import Port, Server

METADATA = "169.254.169.254/32"
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


def plan_routes(port: Port, metadata_route: str = "link") -> tuple[PlannedRoute, ...]:
    """Say which routes a NIC gets: its subnets' host routes, a default route per family, and one to the metadata.

    The metric is the interface's number above 100: all NICs keep theirs, the first one wins.

    Args:
        port: the NIC.
        metadata_route: "link" or "none" (see [docker] metadata_route); a host route to it wins.
    """
    metric = _FIRST_METRIC + int("0" + "".join(re.findall(r"\d+$", port.interface)))
    networks = [ipaddress.ip_interface(address.cidr).network for address in port.addresses]
    wanted = {str(ipaddress.ip_network(route.destination, strict=False)): route.gateway for route in port.routes}
    for address in port.addresses:
        if address.gateway:
            everything = "0.0.0.0/0" if ipaddress.ip_address(address.gateway).version == 4 else "::/0"  # noqa: PLR2004
            wanted.setdefault(everything, address.gateway)
    if metadata_route == "link" and any(network.version == 4 for network in networks):  # noqa: PLR2004
        wanted.setdefault(METADATA, "")
    return tuple(
        PlannedRoute(destination, gateway, metric, _needs_on_link(gateway, networks))
        for destination, gateway in wanted.items()
    )


def wire(server: Server, port: Port, metadata_route: str = "link", *, offload: bool = True) -> None:
    """Make the port's veth pair and configure the server's end: MAC, MTU, addresses, routes. Again is fine.

    The namespace must exist; the switch end is plugged afterwards, since it must exist then.

    Raises:
        WireError: the kernel refused.
    """
    routes = [
        [route.destination, route.gateway, route.metric, route.on_link] for route in plan_routes(port, metadata_route)
    ]
    with _explained(f"wiring port {port.id} of server {server.uuid}"):
        privileged.wire(
            namespace_name(server.uuid),
            port.device,
            {
                "interface": port.interface,
                "mac": port.mac,
                "mtu": port.mtu,
                "addresses": [address.cidr for address in port.addresses],
                "routes": routes,
                "offload": offload,
            },
        )


def unwire(port: Port) -> None:
    """Remove the port's veth pair; absent is success."""
    unwire_device(port.device)


def unwire_device(device: str) -> None:
    """Remove a veth pair by the name of its host's end, for the sweep of strays; absent is success."""
    with _explained(f"removing device {device}"):
        privileged.delete_device(device)


def silence(server_uuid: str) -> None:
    """Take a stopped server off the network: its namespace lives on, and the kernel would still answer a ping in it.

    ``wire`` brings the links up again.

    Raises:
        WireError: the kernel refused.
    """
    with _explained(f"taking down the links of server {server_uuid}"):
        for device in sorted(device for device, owner in wired().items() if owner == server_uuid):
            privileged.lower_device(device)


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
