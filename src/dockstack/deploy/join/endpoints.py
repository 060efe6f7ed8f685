# SPDX-License-Identifier: Apache-2.0
"""What a node must reach of a cloud; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dockstack.deploy.configuration.compute_node import DEPLOYERS_SWITCH
from dockstack.deploy.wanted.cloud_keys import OPEN_VSWITCH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.wanted.cloud_document import CloudDocument

DEFAULT_PORTS = {"http": 80, "https": 443, "rabbit": 5672}
BUS_HOST = re.compile(r"(?:^|@)(\[[^]]+\]|[^:@/,\[]+)(?::(\d+))?$")


def endpoints(cloud: CloudDocument) -> tuple[tuple[str, int], ...]:
    """Return what a node must reach: host and port of the bus, Keystone, and what the switch needs.

    That is OVN's databases and the metadata API, or with ML2/OVS the bus of Neutron's agents.

    Where the deployer runs the switch, what that needs is his; the switch itself must be there.
    """
    found = _brokers(cloud.text("messaging.transport_url"))
    keystone = urlsplit(cloud.text("identity.auth_url"))
    found.append((keystone.hostname or "", keystone.port or DEFAULT_PORTS.get(keystone.scheme, 0)))
    if not cloud.own_switch:
        return _once([*found, DEPLOYERS_SWITCH])
    if cloud.mechanism == OPEN_VSWITCH:
        found += _brokers(cloud.text("messaging.neutron_transport_url"))
        return _once(found)
    for remote in (*cloud.values.items("ovn.southbound"), *cloud.values.items("ovn.northbound")):
        host, _, port = remote.partition(":")[2].rpartition(":")
        found.append((host, int(port)))
    found.append((cloud.text("metadata.host"), cloud.values.number("metadata.port")))
    return _once(found)


def _brokers(transport_url: str) -> list[tuple[str, int]]:
    return [
        (match.group(1), int(match.group(2) or DEFAULT_PORTS["rabbit"]))
        for part in urlsplit(transport_url).netloc.split(",")
        if (match := BUS_HOST.search(part))
    ]


def _once(found: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(dict.fromkeys((host.strip("[]"), port) for host, port in found))
