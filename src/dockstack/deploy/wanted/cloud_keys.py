# SPDX-License-Identifier: Apache-2.0
"""Every key of the cloud document: what a compute node must know of a cloud, and which nodes need it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dockstack.deploy.wanted.attributes import Attribute, AttributeRefusedError, Kind

OVN, OPEN_VSWITCH = "ovn", "openvswitch"
RELEASES = ("2026.1", "2026.2")
KOLLA, OPENSTACK_ANSIBLE = "Kolla-Ansible", "OpenStack-Ansible"
DEPLOYERS = (KOLLA, OPENSTACK_ANSIBLE)


class Need(StrEnum):
    """Which nodes must know a key."""

    ALWAYS = "always"
    OVN = "with OVN"
    OPEN_VSWITCH = "with ML2/OVS"
    CINDER = "with Cinder"
    OPTIONAL = "if you like"

    def holds(self, mechanism: str, *, cinder: bool) -> bool:
        """Tell whether a node of such a cloud cannot do without the key; "" where its switch is its deployer's."""
        networks = {OVN: Need.OVN, OPEN_VSWITCH: Need.OPEN_VSWITCH}
        return self in {Need.ALWAYS, networks.get(mechanism)} or (self is Need.CINDER and cinder)


@dataclass(frozen=True)
class Key(Attribute):
    """A key: an attribute of the cloud rather than of a node.

    Attributes:
        need: who must know it; there it is missing as long as it is empty.
        secret: kept in the file that only root reads, never shown, never on a command line.
        blank: an empty value counts where a source says so.
    """

    need: Need = Need.OPTIONAL
    secret: bool = False
    blank: bool = False

    def parse(self, value: Any, source: str) -> Any:
        """Return the value in its Python type; a secret that is refused does not stand in the error."""
        if self.secret and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise AttributeRefusedError(f"{self.name} (from {source}) is no text.", "Write it in quotes.")
        return super().parse(str(value) if self.secret else value, source)


ACCOUNTS = ("nova", "placement", "neutron", "cinder")
"""The accounts that a compute node's services log in with, by what they are for."""


def _account(name: str) -> tuple[Key, ...]:
    prefix, cinder = f"accounts.{name}", name == "cinder"
    login = (
        "The account for Cinder; empty: the cloud has no Cinder."
        if cinder
        else f"The account for {name.capitalize()}, with the role service."
    )
    return (
        Key(f"{prefix}.username", Kind.STRING, "", login, need=Need.OPTIONAL if cinder else Need.ALWAYS),
        Key(
            f"{prefix}.password",
            Kind.STRING,
            "",
            "Its password.",
            need=Need.CINDER if cinder else Need.ALWAYS,
            secret=True,
        ),
        Key(f"{prefix}.project", Kind.STRING, "service", "Its project."),
        Key(f"{prefix}.project_domain", Kind.STRING, "Default", "The domain of that project."),
        Key(f"{prefix}.user_domain", Kind.STRING, "Default", "The domain of the account."),
    )


QUEUE_OPTIONS = (
    ("amqp_durable_queues", Kind.BOOLEAN, False),
    ("amqp_auto_delete", Kind.BOOLEAN, False),
    ("rabbit_ha_queues", Kind.BOOLEAN, False),
    ("rabbit_quorum_queue", Kind.BOOLEAN, False),
    ("rabbit_transient_quorum_queue", Kind.BOOLEAN, False),
    ("rabbit_quorum_delivery_limit", Kind.INTEGER, 0),
    ("rabbit_quorum_max_memory_length", Kind.INTEGER, 0),
    ("rabbit_quorum_max_memory_bytes", Kind.INTEGER, 0),
    ("rabbit_transient_queues_ttl", Kind.INTEGER, 1800),
    ("rabbit_stream_fanout", Kind.BOOLEAN, False),
    ("rabbit_qos_prefetch_count", Kind.INTEGER, 0),
    ("use_queue_manager", Kind.BOOLEAN, False),
    ("ssl", Kind.BOOLEAN, False),
)
"""Options of [oslo_messaging_rabbit] that decide how queues are declared, with oslo.messaging's defaults."""

CLOUD_KEYS: tuple[Key, ...] = (
    Key(
        "release",
        Kind.STRING,
        "",
        "The cloud's OpenStack release. Services' files do not tell it, so it is said: a compute node newer than its "
        "conductors must not start.",
        ("", *RELEASES),
        need=Need.ALWAYS,
    ),
    Key(
        "deployer",
        Kind.STRING,
        "",
        "Who looks after the cloud's machines, and after the engines on them. Where one is named, nodes have an engine "
        "of dockstack's own unless docker.own says otherwise; empty: whoever made the cloud leaves its nodes alone.",
        ("", *DEPLOYERS),
    ),
    # -- messaging ------------------------------------------------------------------------------------------------
    Key(
        "messaging.transport_url",
        Kind.STRING,
        "",
        "RabbitMQ as nova-compute reaches it: the one of the nodes' cell, where the API has another.",
        need=Need.ALWAYS,
        secret=True,
    ),
    Key(
        "messaging.neutron_transport_url",
        Kind.STRING,
        "",
        "RabbitMQ as Neutron's agents reach it.",
        need=Need.OPEN_VSWITCH,
        secret=True,
    ),
    *(
        Key(f"messaging.{name}", kind, default, "As the cloud has it: RabbitMQ refuses a queue declared otherwise.")
        for name, kind, default in QUEUE_OPTIONS
    ),
    # -- identity -------------------------------------------------------------------------------------------------
    Key("identity.auth_url", Kind.STRING, "", "Keystone, as the nodes reach it.", need=Need.ALWAYS),
    Key("identity.region", Kind.STRING, "", "The cloud's region in the catalogue.", need=Need.ALWAYS),
    Key("identity.interface", Kind.STRING, "internal", "Which endpoints of the catalogue the nodes call."),
    *(key for account in ACCOUNTS for key in _account(account)),
    # -- TLS ------------------------------------------------------------------------------------------------------
    Key(
        "tls.authority",
        Kind.STRING,
        "",
        "Certificates (PEM) of who signed those of the APIs and of RabbitMQ; empty: whom the node's system trusts.",
    ),
    Key("ovn.authority", Kind.STRING, "", "Certificates (PEM) of who signed those of OVN's databases."),
    Key(
        "ovn.issue",
        Kind.BOOLEAN,
        False,
        "Whether each node gets a certificate of its own for OVN, from the cloud's authority on the machine that adds "
        "it: a cloud of `dockstack up` does so.",
    ),
    Key("ovn.certificate", Kind.STRING, "", "The nodes' certificate for OVN (PEM), where they do not get their own."),
    Key("ovn.private_key", Kind.STRING, "", "Its key (PEM).", secret=True),
    # -- images ---------------------------------------------------------------------------------------------------
    Key(
        "registry.address",
        Kind.STRING,
        "",
        "The cloud's own registry as the nodes reach it, HOST[:PORT], or http://HOST[:PORT] without TLS: images that "
        "point to it boot there, too; empty: there is none.",
        blank=True,
    ),
    # -- networks -------------------------------------------------------------------------------------------------
    Key(
        "network.mechanism",
        Kind.STRING,
        OVN,
        "Neutron's mechanism on these nodes: OVN, or agents that program Open vSwitch.",
        (OVN, OPEN_VSWITCH),
    ),
    Key(
        "network.switch",
        Kind.STRING,
        "own",
        "Who runs Open vSwitch and what programs it on the nodes (ovn-controller and the metadata agent, or Neutron's "
        "Open vSwitch agent): dockstack itself, or the cloud's deployer, as `dockstack cloud export` asks it to.",
        ("own", "deployer"),
    ),
    Key("ovn.southbound", Kind.LIST, [], "OVN's southbound databases, or relays, as tcp:HOST:PORT.", need=Need.OVN),
    Key("ovn.northbound", Kind.LIST, [], "OVN's northbound databases, which the agent reads.", need=Need.OVN),
    Key("ovn.encap_type", Kind.STRING, "geneve", "The tunnels between chassis.", ("geneve", "vxlan")),
    Key("openvswitch.tunnel_types", Kind.LIST, ["vxlan"], "The tunnels of ML2/OVS; empty: there are none."),
    Key("openvswitch.vxlan_port", Kind.PORT, 4789, "The port that VXLAN tunnels of ML2/OVS go to."),
    Key("openvswitch.l2_population", Kind.BOOLEAN, False, "Whether Neutron tells the agents who is where."),
    Key(
        "openvswitch.bridge_mappings",
        Kind.LIST,
        [],
        "Physical networks that the nodes have, each with its bridge: physnet1:br-ex. A node of dockstack's makes the "
        "bridges; their network cards are yours to add.",
    ),
    Key("openvswitch.extensions", Kind.LIST, [], "What the agent does besides: qos, or nothing."),
    Key(
        "openvswitch.firewall_driver",
        Kind.STRING,
        "openvswitch",
        "What makes security groups on the cloud's nodes. Those of dockstack's own switch have openvswitch, or noop.",
    ),
    Key(
        "openvswitch.distributed_routing",
        Kind.BOOLEAN,
        False,
        "Whether routers are on compute nodes (DVR); nodes of dockstack's own switch cannot have them.",
    ),
    Key(
        "openvswitch.metadata",
        Kind.STRING,
        "router",
        "Who answers servers at 169.254.169.254: routers, and DHCP servers in networks without a gateway; or DHCP "
        "servers everywhere (force_metadata of Neutron's DHCP agents).",
        ("router", "dhcp"),
    ),
    # -- metadata, consoles ---------------------------------------------------------------------------------------
    Key("metadata.host", Kind.STRING, "", "Nova's metadata API, as the nodes reach it.", need=Need.OVN),
    Key("metadata.port", Kind.PORT, 8775, "Its port."),
    Key("metadata.protocol", Kind.STRING, "http", "How it is spoken to.", ("http", "https")),
    Key("metadata.secret", Kind.STRING, "", "What agents sign requests with.", need=Need.OVN, secret=True, blank=True),
    Key("consoles.serial_url", Kind.STRING, "", "What users get for a serial console; empty: there are none."),
    Key("consoles.novnc_url", Kind.STRING, "", "What users get for a VNC console; empty: there are none."),
)
