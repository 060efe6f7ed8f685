# SPDX-License-Identifier: Apache-2.0
"""Make the Settings that all builders take, from a node's attributes and from facts read on the node."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import migration
from dockstack.deploy.configuration.glance import UNFILTERED
from dockstack.deploy.configuration.openvswitch import tunnel_options
from dockstack.deploy.configuration.registry import wanted as has_registry
from dockstack.deploy.configuration.settings import SECRET_NAMES, ImageQuotas, Networks, Ports, Settings
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.hypervisors import Contribution, chosen
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes

FIRST_FLOATING_ADDRESS = 10
LOOPBACK = "127.0.0.1"
REGISTRY_ACCOUNT = "registry-account"
"""What the manifest calls it that the registry has its account; it is noted before anybody can push."""
REGISTRY_PORT = "registry-port"
"""What it calls the port that Glance's images of the registry have in their addresses."""
_QUESTION = (
    "hostname; if test -d /sys/module/openvswitch || modprobe -q openvswitch 2>/dev/null; then echo system;"
    " else echo netdev; fi; sed -n 's/^nameserver  *//p' /etc/resolv.conf"
)


def settings_of(machine: Machine) -> Settings:
    """Return the settings of the cloud as one node needs them."""
    made = settings_with(machine, {name: machine.secrets.get(name) for name in SECRET_NAMES})
    forks = machine.attributes.flag("services.fork_server") and machine.node.has(Role.CONTROLLER)
    return replace(made, fork_server=forks)


def settings_with(machine: Machine, secrets: dict[str, str]) -> Settings:
    """Return a node's settings with these secrets: on a node of somebody else's cloud, none is asked for."""
    hostname, datapath, *resolvers = machine.run(_QUESTION).stdout.split()
    wanted = machine.attributes.text("network.datapath")
    plugin = chosen(machine.node)
    return settings_from(
        machine.attributes,
        plugin.contribution() if plugin else None,
        secrets,
        hostname=hostname,
        datapath=datapath if wanted == "auto" else wanted,
        resolvers=tuple(resolvers),
        distribution=machine.distribution,
        registry_ran=machine.manifest.done(REGISTRY_ACCOUNT) is not None,
    )


def settings_from(
    attributes: Attributes,
    contribution: Contribution | None,
    secrets: dict[str, str],
    *,
    hostname: str,
    datapath: str,
    resolvers: tuple[str, ...] = (),
    distribution: Distribution = DEBIAN_12,
    registry_ran: bool = False,
) -> Settings:
    """Return the settings; pure.

    Where a registry ran, Glance keeps knowing how images of it are read: it could not delete them otherwise.
    """
    added = contribution or Contribution(compute_driver="")
    listen, tls = attributes.text("listen_address"), attributes.flag("tls.enable")
    tunnels_end = hosts.machine_tunnel_address(attributes)
    filtered = attributes.text("release") not in UNFILTERED  # preflight refuses it; this is the second bolt
    registry = has_registry(attributes)
    alone = ipaddress.ip_address(tunnels_end).is_loopback
    neighbours = () if alone else (*tunnel_options(datapath), *migration.options())
    made = Settings(
        secrets=secrets,
        hostname=hostname,
        distribution=distribution,
        bind_address=LOOPBACK if tls else listen,
        listen_address="" if ipaddress.ip_address(listen).is_loopback else listen,
        tls=tls,
        controller_address=attributes.text("public_address") or (LOOPBACK if listen == "0.0.0.0" else listen),
        tunnel_address=tunnels_end,
        region=attributes.text("region"),
        virtualenv=paths.OPENSTACK_VENV,
        state_directory=paths.VAR,
        run_directory=paths.RUN,
        datapath=datapath,
        hosts=attributes.number("hosts"),
        ports=_ports(attributes),
        networks=_networks(attributes, resolvers),
        container_formats=(*attributes.items("image.container_formats"), *added.container_formats),
        compute_driver=added.compute_driver,
        hypervisor_options=added.nova,
        metadata_extension=added.metadata_extension,
        agent_watch=added.agent_watch,
        image_store=attributes.text("image.store"),
        image_size_limit_gb=attributes.number("image.largest_gb"),
        image_quotas=_image_quotas(attributes),
        registry=registry,
        http_images=registry or (filtered and registry_ran),
        registry_store=attributes.text("registry.store"),
        flavors=attributes.items("compute.flavors"),
        compatibility=attributes.text("compatibility"),
        volumes=attributes.flag("volumes.enable"),
        volume_pool=attributes.text("volumes.store"),
        volume_backups=attributes.text("volumes.backups"),
        key_manager=attributes.flag("key_manager.enable"),
        debug=attributes.flag("debug"),
        cpu_allocation_ratio=attributes.ratio("compute.cpu_allocation_ratio"),
        ram_allocation_ratio=attributes.ratio("compute.ram_allocation_ratio"),
        disk_allocation_ratio=attributes.ratio("compute.disk_allocation_ratio"),
        reserved_memory_mb=attributes.number("compute.reserved_memory_mb"),
        reserved_disk_mb=attributes.number("compute.reserved_disk_mb"),
        concurrent_builds=attributes.number("compute.max_concurrent_builds"),
        api_threads=attributes.number("workers.threads"),
        conductor_workers=attributes.number("workers.conductor"),
        scheduler_workers=attributes.number("workers.scheduler"),
        buffer_pool_mb=attributes.number("database.buffer_pool_mb"),
        database_connections=attributes.number("database.max_connections"),
    )
    return made.with_driver_options(neighbours)


def _image_quotas(attributes: Attributes) -> ImageQuotas:
    return ImageQuotas(
        size_gb=attributes.number("image.quota_gb"),
        staged_gb=attributes.number("image.quota_staged_gb"),
        count=attributes.number("image.quota_count"),
        uploads=attributes.number("image.quota_uploads"),
    )


def _ports(attributes: Attributes) -> Ports:
    return Ports(
        keystone=attributes.number("ports.keystone"),
        placement=attributes.number("ports.placement"),
        glance=attributes.number("ports.glance"),
        nova=attributes.number("ports.nova"),
        nova_metadata=attributes.number("ports.metadata"),
        serial_console=attributes.number("ports.serial_console"),
        novnc=attributes.number("ports.novnc"),
        neutron=attributes.number("ports.neutron"),
        cinder=attributes.number("ports.cinder"),
        barbican=attributes.number("ports.barbican"),
        registry=attributes.number("ports.registry"),
        rabbitmq=attributes.number("ports.rabbitmq"),
        rabbitmq_distribution=attributes.number("ports.rabbitmq_distribution"),
        epmd=attributes.number("ports.epmd"),
        ovn_northbound=attributes.number("ports.ovn_northbound"),
        ovn_southbound=attributes.number("ports.ovn_southbound"),
    )


def _networks(attributes: Attributes, resolvers: tuple[str, ...]) -> Networks:
    external = ipaddress.IPv4Network(attributes.text("network.external_cidr"))
    gateway = ipaddress.IPv4Address(attributes.text("network.external_gateway"))
    if gateway not in external:
        raise DockstackError(
            f"network.external_gateway {gateway} is not in network.external_cidr {external}.",
            "Set both, as in --set network.external_cidr=198.51.100.0/24 --set network.external_gateway=198.51.100.1",
        )
    return Networks(
        external_name=attributes.text("network.external_name"),
        physical_network=attributes.text("network.physical_network"),
        external_cidr=str(external),
        external_gateway=str(gateway),
        external_pool=_pool(external, gateway),
        external_bridge=attributes.text("network.external_bridge"),
        external_bandwidth=attributes.number("network.external_bandwidth"),
        tenant_name=attributes.text("network.tenant_name"),
        tenant_cidr=attributes.text("network.tenant_cidr"),
        tenant_cidr_v6=attributes.text("network.tenant_cidr_v6"),
        automatic_cidr=attributes.text("network.automatic_cidr"),
        router_name=attributes.text("network.router_name"),
        dns_servers=attributes.items("network.dns") or usable_resolvers(resolvers),
        masquerade=attributes.flag("network.nat"),
    )


def _pool(network: ipaddress.IPv4Network, gateway: ipaddress.IPv4Address) -> tuple[str, str]:
    """Return the floating addresses: from the tenth on, or from behind the gateway in a small or unusual network."""
    last = network[-2]
    first = min(network[0] + FIRST_FLOATING_ADDRESS, last)
    if gateway >= first:
        first, last = (first, gateway - 1) if gateway == last else (gateway + 1, last)
    return str(first), str(last)


def usable_resolvers(resolvers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the IPv4 name servers that a server can reach: those of this machine that are not its own loopback."""
    usable = []
    for text in resolvers:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.version == 4 and not address.is_loopback:  # noqa: PLR2004
            usable.append(str(address))
    return tuple(usable)
