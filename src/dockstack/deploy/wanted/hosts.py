# SPDX-License-Identifier: Apache-2.0
"""Further compute hosts on one machine: names, addresses and places; pure.

Such a host is a network namespace and a mount namespace in which the standard places (/run, /var/lib/nova,
/var/lib/docker, /etc/nova, ...) are its own. Its services are the ordinary ones, run inside these namespaces, so that
neither they nor the driver need to know that they share a machine.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.wanted.attributes import Attributes

BRIDGE = "br-hosts"
"""The switch between the hosts of one machine; each host has a bridge of this name, too."""

DIRECTORY = f"{paths.RUN}/hosts"
STATE = f"{paths.VAR}/hosts"
FIRST = 2  # the machine itself is the first host
PREFIX = "host"


@dataclass(frozen=True)
class ExtraHost:
    """A compute host besides the machine itself.

    Attributes:
        key: names its services, files and namespaces, as in "host2".
        name: Nova's and OVN's name of it.
        address: its own on the hosts' network, with the prefix length.
        gateway: the machine's address there, with the prefix length.
    """

    key: str
    name: str
    address: str
    gateway: str

    @property
    def tunnel_address(self) -> str:
        """Where the tunnels to its servers end."""
        return self.address.partition("/")[0]


def further_keys(attributes: Attributes) -> tuple[str, ...]:
    """Return the keys of the hosts besides the machine itself, as in "host2"."""
    return tuple(f"{PREFIX}{number}" for number in range(FIRST, attributes.number("hosts") + 1))


def extra_hosts(attributes: Attributes, hostname: str) -> tuple[ExtraHost, ...]:
    """Return the hosts besides the machine itself that the attributes ask for.

    Raises:
        DockstackError: their network has no room for them, or the tunnels are to end elsewhere.
    """
    count = attributes.number("hosts")
    if count < FIRST:
        return ()
    network = ipaddress.ip_network(attributes.text("network.hosts_cidr"))
    if network.num_addresses < count + 2:
        raise DockstackError(
            f"network.hosts_cidr {network} has no room for {count} hosts.",
            "Choose a larger one, as in --set network.hosts_cidr=198.19.77.0/24",
        )
    if not ipaddress.ip_address(attributes.text("network.encap_ip")).is_loopback:
        raise DockstackError(
            "Several hosts on one machine tunnel over network.hosts_cidr, but network.encap_ip names another address.",
            "Leave network.encap_ip away, or bring up one host on each machine.",
        )
    gateway = f"{network[1]}/{network.prefixlen}"
    return tuple(
        ExtraHost(key, host_name(hostname, key), f"{network[number_of(key)]}/{network.prefixlen}", gateway)
        for key in further_keys(attributes)
    )


def host_name(hostname: str, key: str) -> str:
    """Return Nova's name of a host, as in node-2.example.org."""
    short, dot, domain = hostname.partition(".")
    return f"{short}-{number_of(key)}{dot}{domain}"


def machine_tunnel_address(attributes: Attributes) -> str:
    """Return where the tunnels to the machine's own servers end."""
    if attributes.number("hosts") < FIRST:
        return attributes.text("network.encap_ip")
    return str(ipaddress.ip_network(attributes.text("network.hosts_cidr"))[1])


def mount_namespace(key: str) -> str:
    """Return the file that a host's mount namespace is bound to, so that the namespace outlives its processes."""
    return f"{DIRECTORY}/{key}.mnt"


def run_directory(key: str) -> str:
    """Return what is /run in a host."""
    return f"{DIRECTORY}/{key}"


def state_directory(key: str) -> str:
    """Return where a host keeps what outlives a reboot."""
    return f"{STATE}/{key}"


def outside(key: str, path: str) -> str:
    """Return where a file of a host is, seen from the machine."""
    if path.startswith("/run/"):
        return f"{run_directory(key)}{path.removeprefix('/run')}"
    for own in OWN:
        if path == own or path.startswith(f"{own}/"):
            return f"{state_directory(key)}{path}"
    return path


def number_of(key: str) -> int:
    """Return a host's number."""
    return int(key.removeprefix(PREFIX))


def service_name(key: str, name: str) -> str:
    """Return the name of a host's service."""
    return f"{key}-{name}"


def cables(key: str) -> tuple[tuple[str, str, str], ...]:
    """Return a host's links to the machine: the machine's end, the host's end, and which network they carry."""
    number = number_of(key)
    return ((f"dsh{number}-hosts", "hosts0", "hosts"), (f"dsh{number}-ext", "external0", "external"))


def keys_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of the hosts that own these services, in order of their numbers."""
    found = {name.partition("-")[0] for name in names if name.startswith(PREFIX)}
    return tuple(sorted((key for key in found if key.removeprefix(PREFIX).isdigit()), key=number_of))


OWN = (
    "/etc/neutron",
    "/etc/nova",
    "/etc/openvswitch",
    "/var/lib/docker",
    "/var/lib/neutron",
    "/var/lib/nova",
    paths.PATCH_DIRECTORY,
)
"""The directories besides /run that each host has for itself, kept below its state directory under the same paths."""
