# SPDX-License-Identifier: Apache-2.0
"""A compute node of a cloud that we did not make: its files and services, from the cloud document; pure.

What is returned here is all that ever goes onto such a node. The settings that the other builders get hold one secret,
that of the metadata, and with ML2/OVS none, so that a builder which asks for another, as for a database's password,
fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import (
    migration,
    neutron,
    nova,
    openvswitch_agent,
    oslo,
    privilege,
    programs,
    scripts,
)
from dockstack.deploy.configuration.ini import merge_ini, render_ini
from dockstack.deploy.configuration.openvswitch import DATABASE_REMOTE, tunnel_options
from dockstack.deploy.configuration.oslo_file import literal
from dockstack.deploy.configuration.settings import Ports, Settings
from dockstack.deploy.paths import ETC
from dockstack.deploy.wanted.cloud_keys import OPEN_VSWITCH, OVN, QUEUE_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.cloud_document import CloudDocument

NOVA_CONF = "/etc/nova/nova.conf"
NEUTRON_CONF = "/etc/neutron/neutron.conf"
AGENT_CONF = "/etc/neutron/ovn_agent.ini"
AUTHORITY = f"{ETC}/cloud-authority.pem"
OVN_FILES = {
    "ovn.authority": (f"{ETC}/ovn-authority.pem", "ca_cert"),
    "ovn.certificate": (f"{ETC}/ovn-certificate.pem", "certificate"),
    "ovn.private_key": (f"{ETC}/ovn-key.pem", "private_key"),
}
ALWAYS_HERE = frozenset({"migration", "nova-compute"})
"""The services of such a node besides the engine's and the switch's; all others are the cloud's, elsewhere."""
SWITCHES = {
    OVN: frozenset({"ovsdb", "ovs-vswitchd", "ovn-controller", "neutron-ovn-agent"}),
    OPEN_VSWITCH: frozenset({"ovsdb", "ovs-vswitchd", "neutron-openvswitch-agent"}),
}
"""Those of the switch, by the cloud's mechanism, where the cloud's deployer does not run it."""
ANYWHERE = ALWAYS_HERE.union(*SWITCHES.values())
"""All that a node of any cloud may have."""
DEPLOYERS_SWITCH = ("127.0.0.1", 6640)
"""Where the switch's database answers on a node on which the cloud's deployer runs it: all of them have it so."""


@dataclass(frozen=True)
class NodeFile:
    """A file on a node; root's, and read by a group besides."""

    content: str
    group: str = "root"
    mode: int = 0o644
    secret: bool = False  # the whole of it, not only values of options that say so by their names


def settings_on(cloud: CloudDocument, settings: Settings) -> Settings:
    """Return a node's settings with what the builders ask of a cloud; no gateway, no external bridge, no listener."""
    ovn = cloud.mechanism == OVN
    metadata = () if ovn else openvswitch_agent.metadata_options(cloud)
    tunnels = tunnel_options(settings.datapath)
    here = settings.with_driver_options((*tunnels, *migration.options(), *metadata, *_registry_options(cloud)))
    return replace(
        here,
        secrets={"metadata_secret": literal(cloud.text("metadata.secret"))} if ovn else {},
        listen_address="",
        tls=False,
        controller_address=cloud.text("metadata.host"),
        ports=Ports(nova_metadata=cloud.values.number("metadata.port")),
        region=cloud.text("identity.region"),
        northbound=",".join(cloud.values.items("ovn.northbound")) if ovn else "",
        southbound=",".join(cloud.values.items("ovn.southbound")) if ovn else "",
        encap_type=cloud.text("ovn.encap_type"),
        gateway_chassis=False,
        networks=replace(settings.networks, physical_network="", external_bridge=""),
    )


def files(cloud: CloudDocument, settings: Settings) -> dict[str, NodeFile]:
    """Return all files by their paths.

    Args:
        cloud: a document without problems.
        settings: of the node; what they say of a cloud does not count.
    """
    on_node = settings_on(cloud, settings)
    found = {NOVA_CONF: NodeFile(render_ini(nova_conf(cloud, on_node)), "nova", 0o640), **_sudoers(on_node, "nova")}
    if cloud.own_switch:
        found |= _ovn_files(cloud, on_node) if cloud.mechanism == OVN else _agent_files(cloud, on_node)
        found[scripts.OPEN_VSWITCH_DATABASE] = NodeFile(scripts.open_vswitch_database(), mode=0o755)
    if cloud.text("tls.authority"):
        found[AUTHORITY] = NodeFile(_pem(cloud, "tls.authority"))
    return found


def _registry_options(cloud: CloudDocument) -> tuple[tuple[str, str], ...]:
    """Return from where the driver pulls as its users: the cloud's registry has the certificates that the APIs have."""
    address = cloud.text("registry.address")
    authority = (("registry_ca_file", AUTHORITY),) if address and cloud.text("tls.authority") else ()
    return (("cloud_registry", address), *authority) if address else ()


def _agent_files(cloud: CloudDocument, settings: Settings) -> dict[str, NodeFile]:
    """Return the files of the switch and of Neutron's Open vSwitch agent."""
    conf = openvswitch_agent.neutron_conf(cloud, settings, _messaging(cloud, settings))
    switch = scripts.open_vswitch_configuration(settings, openvswitch_agent.mapped_bridges(cloud))
    return {
        NEUTRON_CONF: NodeFile(render_ini(conf), "neutron", 0o640),
        programs.OPEN_VSWITCH_AGENT_CONF: NodeFile(
            render_ini(openvswitch_agent.agent_conf(cloud, settings)), "neutron", 0o640
        ),
        scripts.OPEN_VSWITCH_SETTINGS: NodeFile(switch, mode=0o755),
        **_sudoers(settings, "neutron", rootwrap=False),
    }


def _ovn_files(cloud: CloudDocument, settings: Settings) -> dict[str, NodeFile]:
    """Return the files of the switch and of the metadata agent."""
    found = {
        NEUTRON_CONF: NodeFile(render_ini(neutron_conf(settings)), "neutron", 0o640),
        AGENT_CONF: NodeFile(render_ini(agent_conf(cloud, settings)), "neutron", 0o640),
        privilege.ROOTWRAP_CONF: NodeFile(render_ini(privilege.rootwrap_conf())),
        f"{privilege.ROOTWRAP_FILTERS}/dockstack.filters": NodeFile(render_ini(privilege.rootwrap_filters())),
        scripts.OPEN_VSWITCH_SETTINGS: NodeFile(scripts.open_vswitch_configuration(settings), mode=0o755),
        **_sudoers(settings, "neutron"),
    }
    if encrypted(cloud):
        for key, (path, _) in OVN_FILES.items():
            secret = key == "ovn.private_key"
            group, mode = (programs.OVS_GROUP, 0o640) if secret else ("root", 0o644)
            found[path] = NodeFile(_pem(cloud, key), group, mode, secret)
    return found


def _sudoers(settings: Settings, user: str, *, rootwrap: bool = True) -> dict[str, NodeFile]:
    rules = privilege.sudoers(settings, user, rootwrap=rootwrap)
    return {f"/etc/sudoers.d/dockstack-{user}": NodeFile(rules, mode=0o440)}


def services(
    distribution: Distribution,
    cloud: CloudDocument,
    settings: Settings,
    groups: tuple[str, ...] = (),
    watch: tuple[str, ...] = (),
) -> tuple[Service, ...]:
    """Return the node's services in the order in which they start.

    Args:
        distribution: the node's.
        cloud: the document.
        settings: of the node.
        groups: that nova-compute needs for its hypervisor.
        watch: files whose content decides on a restart of nova-compute besides its own.
    """
    ordinary = (
        *programs.network_fabric(settings, distribution),
        *programs.neutron(settings),
        programs.openvswitch_agent(settings),
        replace(migration.server(settings), requires=("ovs-vswitchd",)),  # its address may be on a bridge
        *programs.nova_compute(settings, groups, watch),
    )
    return tuple(_on_node(service, cloud) for service in ordinary if service.name in here(cloud))


def here(cloud: CloudDocument) -> frozenset[str]:
    """Return the names of the services that a node of this cloud has from us, besides the engine's."""
    return ALWAYS_HERE | SWITCHES[cloud.mechanism] if cloud.own_switch else ALWAYS_HERE


def _on_node(service: Service, cloud: CloudDocument) -> Service:
    """Leave out what is a controller's: the services that it waits for there, and the external bridge."""
    flags = _ovn_flags(cloud) if service.name == "ovn-controller" else ()
    return replace(
        service,
        command=(*service.command, *flags),
        requires=tuple(name for name in service.requires if name in here(cloud)),
        prepare=tuple(command for command in service.prepare if command != (scripts.EXTERNAL_BRIDGE,)),
        watch=tuple(path for path in (*service.watch, *_pem_paths(flags)) if path != scripts.EXTERNAL_BRIDGE),
    )


def encrypted(cloud: CloudDocument) -> bool:
    """Tell whether OVN's databases are spoken to over TLS."""
    return any(remote.startswith("ssl:") for remote in cloud.values.items("ovn.southbound"))


def _ovn_flags(cloud: CloudDocument) -> tuple[str, ...]:
    if not encrypted(cloud):
        return ()
    return tuple(f"--{option.replace('_', '-')}={path}" for path, option in OVN_FILES.values())


def _pem_paths(flags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(flag.partition("=")[2] for flag in flags)


def _pem(cloud: CloudDocument, key: str) -> str:
    return cloud.text(key).rstrip("\n") + "\n"


# -- what stands in them ----------------------------------------------------------------------------------------------


def nova_conf(cloud: CloudDocument, settings: Settings) -> Ini:
    """Return nova.conf of nova-compute; ``settings`` are those of ``settings_on``."""
    host, port = DEPLOYERS_SWITCH
    return {
        "DEFAULT": nova.host_defaults(settings, literal(cloud.text("messaging.transport_url"))),
        # Speak as an older conductor understands it, for as long as there is one.
        "upgrade_levels": {"compute": "auto"},
        "service_user": {**_account(cloud, "nova"), "send_service_user_token": "true"},
        "placement": _client(cloud, "placement"),
        "neutron": _client(cloud, "neutron"),
        # Without the limit, a Glance that hangs in mid-transfer would hold a build or a snapshot for ever.
        "glance": {**_client(cloud, "nova"), "timeout": "600"},
        **_cinder(cloud),
        "serial_console": _console(cloud, "serial_url", "base_url", "proxyclient_address", settings),
        "vnc": {
            **_console(cloud, "novnc_url", "novncproxy_base_url", "server_proxyclient_address", settings),
            "server_listen": settings.tunnel_address,
        },
        "oslo_concurrency": {"lock_path": f"{nova.STATE_DIRECTORY}/lock"},
        "os_vif_ovs": {
            "ovsdb_connection": DATABASE_REMOTE if cloud.own_switch else f"tcp:{host}:{port}",
            # Until the agent has written a port's flows and filters, nothing goes in or out.
            **({"isolate_vif": "true"} if cloud.mechanism == OPEN_VSWITCH else {}),
        },
        **{section: dict(options) for section, options in settings.hypervisor_options},
        **privilege.helper_sections(settings, "nova"),
        "oslo_messaging_rabbit": _messaging(cloud, settings),
    }


def neutron_conf(settings: Settings) -> Ini:
    """Return neutron.conf of the agent, which speaks to OVN's databases and to the metadata API, not to the bus."""
    return {
        "DEFAULT": {
            **oslo.logging_options(settings),
            "host": settings.hostname,
            "state_path": neutron.STATE_DIRECTORY,
        },
        "oslo_concurrency": {"lock_path": f"{neutron.STATE_DIRECTORY}/lock"},
        **privilege.helper_sections(settings, "neutron"),
    }


def agent_conf(cloud: CloudDocument, settings: Settings) -> Ini:
    """Return ovn_agent.ini: the same as in a cloud of our own, and TLS where the cloud has it."""
    tls = {
        f"ovn_{side}_{option}": path for side in ("nb", "sb") for path, option in OVN_FILES.values() if encrypted(cloud)
    }
    protocol = {"nova_metadata_protocol": cloud.text("metadata.protocol")}
    if cloud.text("tls.authority"):
        protocol["auth_ca_cert"] = AUTHORITY
    return merge_ini(neutron.ovn_agent_conf(settings), {"DEFAULT": protocol, "ovn": tls})


def _account(cloud: CloudDocument, name: str) -> dict[str, str]:
    prefix = f"accounts.{name}"
    authority = {"cafile": AUTHORITY} if cloud.text("tls.authority") else {}
    return {
        "auth_type": "password",
        "auth_url": cloud.text("identity.auth_url"),
        "username": literal(cloud.text(f"{prefix}.username")),
        "password": literal(cloud.text(f"{prefix}.password")),
        "user_domain_name": literal(cloud.text(f"{prefix}.user_domain")),
        "project_name": literal(cloud.text(f"{prefix}.project")),
        "project_domain_name": literal(cloud.text(f"{prefix}.project_domain")),
        "region_name": cloud.text("identity.region"),
        **authority,
    }


def _client(cloud: CloudDocument, name: str) -> dict[str, str]:
    return {**_account(cloud, name), "valid_interfaces": cloud.text("identity.interface")}


def _cinder(cloud: CloudDocument) -> Ini:
    if not cloud.text("accounts.cinder.username"):
        return {}
    account = _account(cloud, "cinder")
    region = account.pop("region_name")
    authority = {"verify_ssl_path": AUTHORITY, "cafile": AUTHORITY} if cloud.text("tls.authority") else {}
    keys = {
        "auth_endpoint": cloud.text("identity.auth_url"),
        "barbican_endpoint_type": cloud.text("identity.interface"),
        "barbican_region_name": region,
        "send_service_user_token": "true",
        **authority,
    }
    return {
        "cinder": {**account, "os_region_name": region},
        # Of use where the cloud has a key manager; nobody asks it but for an encrypted volume.
        "barbican": keys,
        "barbican_service_user": _account(cloud, "nova"),
    }


def _console(
    cloud: CloudDocument, key: str, url_option: str, address_option: str, settings: Settings
) -> dict[str, str]:
    url = cloud.text(f"consoles.{key}")
    if not url:
        return {"enabled": "false"}
    return {"enabled": "true", url_option: url, address_option: settings.tunnel_address}


def _messaging(cloud: CloudDocument, settings: Settings) -> Mapping[str, str]:
    """Return [oslo_messaging_rabbit]: queues as the cloud declares them, the rest as everywhere with us."""
    queues = {name: str(cloud.values[f"messaging.{name}"]).lower() for name, _, _ in QUEUE_OPTIONS}
    authority = {"ssl_ca_file": AUTHORITY} if cloud.text("tls.authority") else {}
    ours = oslo.messaging_sections(settings)["oslo_messaging_rabbit"]
    return {**ours, **queues, **authority}
