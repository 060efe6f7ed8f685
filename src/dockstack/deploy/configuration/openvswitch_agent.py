# SPDX-License-Identifier: Apache-2.0
"""neutron-openvswitch-agent on a compute node of a cloud with ML2/OVS: its files, from the cloud document; pure.

It speaks to Neutron over the message bus only, so that it has that bus's account and no other secret. Routers, DHCP and
metadata are elsewhere in such a cloud: nothing of the agent's runs as another process, and rootwrap is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import neutron, oslo, privilege
from dockstack.deploy.configuration.openvswitch import DATABASE_REMOTE
from dockstack.deploy.configuration.oslo_file import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.wanted.cloud_document import CloudDocument

BRIDGES = ("br-int", "br-tun")
"""What it makes itself."""

METADATA_ROUTES = {"router": "gateway", "dhcp": "dhcp"}
"""[docker] metadata_route, by who answers servers."""


def mapped_bridges(cloud: CloudDocument) -> tuple[str, ...]:
    """Return the bridges of physical networks, without which it would not start."""
    return tuple(mapping.rpartition(":")[2] for mapping in cloud.values.items("openvswitch.bridge_mappings"))


def metadata_options(cloud: CloudDocument) -> tuple[tuple[str, str], ...]:
    """Return the options of [docker] by which servers find who answers at 169.254.169.254."""
    return (("metadata_route", METADATA_ROUTES[cloud.text("openvswitch.metadata")]),)


def neutron_conf(cloud: CloudDocument, settings: Settings, messaging: Mapping[str, str]) -> Ini:
    """Return neutron.conf.

    Args:
        cloud: the document.
        settings: of the node.
        messaging: [oslo_messaging_rabbit], as nova-compute has it.
    """
    return {
        "DEFAULT": {
            **oslo.logging_options(settings),
            "host": settings.hostname,
            "state_path": neutron.STATE_DIRECTORY,
            "transport_url": literal(cloud.text("messaging.neutron_transport_url")),
        },
        "oslo_concurrency": {"lock_path": f"{neutron.STATE_DIRECTORY}/lock"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_messaging_rabbit": dict(messaging),
        **privilege.helper_sections(settings, "neutron"),
    }


def agent_conf(cloud: CloudDocument, settings: Settings) -> Ini:
    """Return openvswitch_agent.ini.

    Security groups are made in the switch, whatever the cloud's other nodes do: each agent tells Neutron what it needs.
    """
    tunnels = cloud.values.items("openvswitch.tunnel_types")
    mappings = cloud.values.items("openvswitch.bridge_mappings")
    population = str(cloud.values.flag("openvswitch.l2_population")).lower()
    filtered = cloud.text("openvswitch.firewall_driver") != "noop"
    return {
        "ovs": {
            "ovsdb_connection": DATABASE_REMOTE,
            "datapath_type": settings.datapath,
            **({"local_ip": settings.tunnel_address} if tunnels else {}),
            **({"bridge_mappings": ",".join(mappings)} if mappings else {}),
        },
        "agent": {
            "tunnel_types": ",".join(tunnels),
            "vxlan_udp_port": cloud.text("openvswitch.vxlan_port"),
            "l2_population": population,
            "arp_responder": population,
            "extensions": ",".join(cloud.values.items("openvswitch.extensions")),
        },
        "securitygroup": {
            "enable_security_group": str(filtered).lower(),
            "firewall_driver": "openvswitch" if filtered else "noop",
        },
    }
