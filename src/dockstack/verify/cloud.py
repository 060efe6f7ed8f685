# SPDX-License-Identifier: Apache-2.0
"""Connect to the cloud and find out what it offers."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openstack
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

from dockstack.errors import DockstackError
from dockstack.oci.distribution.client import find_registry
from dockstack.verify import host
from dockstack.verify.model import Capability, CloudFacts, SystemImage

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_CLOUD = "dockstack"
DEFAULT_IMAGE = "dockstack-base"
DEFAULT_USER = "dockstack"
DEFAULT_NETWORK = "private"
DEFAULT_EXTERNAL = "public"
TROUBLE = (sdk_errors.SDKException, auth_errors.ClientException)  # what a question to a cloud may end with
SYSTEM_IMAGES = ("debian-bookworm", "debian-trixie")
MEMORY_MB = 64  # the smallest flavor that the base image runs well in

NOT_ANSWERING = (
    "See which service is down with `dockstack status`, bring the cloud up with `dockstack up`, "
    "or name another cloud of clouds.yaml with --os-cloud."
)


class NoCloudError(DockstackError):
    """clouds.yaml names no such cloud."""


@dataclass(frozen=True)
class Choices:
    """Options that replace what would be found: image, flavor, network."""

    image: str | None = None
    flavor: str | None = None
    network: str | None = None


def connect(cloud: str) -> Any:
    """Connect to a cloud of clouds.yaml and prove that Keystone and Nova answer.

    Raises:
        NoCloudError: there is no such cloud.
        DockstackError: it does not answer.
    """
    logging.getLogger("keystoneauth").setLevel(logging.ERROR)  # it warns of what we are about to say better
    try:
        connection = openstack.connect(cloud=cloud, app_name="dockstack")
        connection.authorize()
        next(iter(connection.compute.servers(details=False, limit=1)), None)
    except sdk_errors.ConfigException as error:
        raise NoCloudError(f"There is no cloud {cloud!r} in clouds.yaml.", NOT_ANSWERING, str(error)) from error
    except TROUBLE as error:
        raise DockstackError(f"The cloud {cloud!r} does not answer.", NOT_ANSWERING, str(error)) from error
    return connection


def find_facts(connection: Any, choices: Choices) -> CloudFacts:
    """Find image, flavor, networks and capabilities.

    Raises:
        DockstackError: the cloud has no image, flavor or network that servers could boot with.
    """
    missing: dict[Capability, str] = {}
    hypervisors, hostnames = find_hypervisors(connection, missing)
    image = choose_image(connection, choices.image)
    flavor = choose_flavor(connection, choices.flavor)
    network = choose_network(connection, choices.network)
    external = find_external(connection, network.id)
    note_missing(missing, hypervisors, hostnames, external)
    if not any(connection.network.get_subnet(subnet).ip_version == 6 for subnet in network.subnet_ids):  # noqa: PLR2004
        missing[Capability.IPV6] = f"network {network.name} has no IPv6 subnet"
    if image.container_format != "docker":
        missing.setdefault(Capability.LOGIN, f"image {image.name} is no container image of dockstack")
    if find_registry(connection.session) is None:
        missing[Capability.REGISTRY] = "the cloud has no registry (`registry.enable`)"
    if not has_volumes(connection.session):
        missing[Capability.VOLUMES] = "the cloud has no volumes (`volumes.enable`)"
    if not _has(connection.session, "key-manager"):
        missing[Capability.KEY_MANAGER] = "the cloud has no key manager (`key_manager.enable`)"
    return CloudFacts(
        hypervisors=tuple(sorted(hypervisors)),
        image_id=image.id,
        image_name=image.name,
        flavor_id=flavor.id,
        flavor_name=flavor.name,
        flavor_memory_mb=flavor.ram,
        flavor_vcpus=flavor.vcpus,
        network_id=network.id,
        network_name=network.name,
        external_network_id=external,
        login_user=(image.properties or {}).get("os_admin_user") or DEFAULT_USER,
        missing=missing,
        system=find_system(connection, missing),
    )


def has_volumes(session: Any) -> bool:
    """Tell whether the catalogue names Cinder."""
    return _has(session, "block-storage")


def _has(session: Any, service_type: str) -> bool:
    try:
        return session.get_endpoint(service_type=service_type) is not None
    except auth_errors.CatalogException:
        return False


def find_system(connection: Any, missing: dict[Capability, str]) -> SystemImage | None:
    """Find an image that `dockstack image build debian` made, and the smallest flavor for it."""
    images = [each for each in connection.image.images(status="active") if each.name in SYSTEM_IMAGES]
    if not images:
        missing[Capability.SYSTEM] = (
            f"no image {' or '.join(SYSTEM_IMAGES)}; `dockstack image build debian --import --public` makes one"
        )
        return None
    image = images[0]
    fitting = [
        each
        for each in sorted(connection.compute.flavors(), key=lambda flavor: (flavor.ram, flavor.vcpus, flavor.disk))
        if each.ram >= image.min_ram and each.disk >= image.min_disk
    ]
    if not fitting:
        missing[Capability.SYSTEM] = f"no flavor has the {image.min_ram} MB that image {image.name} wants"
        return None
    return SystemImage(image.id, fitting[0].id)


def find_hypervisors(connection: Any, missing: dict[Capability, str]) -> tuple[set[str], list[str]]:
    """Return the types and host names of the hypervisors that are up; only an administrator may ask.

    Raises:
        DockstackError: none is up.
    """
    try:
        found = list(connection.compute.hypervisors(details=True))
    except sdk_errors.ForbiddenException:
        missing[Capability.ADMIN] = "these credentials are no administrator's"
        return set(), []
    up = [each for each in found if each.state == "up" and each.status == "enabled"]
    if not up:
        names = ", ".join(f"{each.name} is {each.state}, {each.status}" for each in found)
        raise DockstackError(
            f"No compute node is up: {names or 'the cloud has none'}.",
            "See `dockstack status` and `dockstack logs nova-compute`; then run `dockstack up`.",
        )
    return {each.hypervisor_type.lower() for each in up}, [each.name for each in up]


def note_missing(
    missing: dict[Capability, str], hypervisors: set[str], hostnames: list[str], external: str | None
) -> None:
    """Write down why capabilities are missing."""
    if hypervisors == {"fake"}:
        missing[Capability.GUEST] = "Nova's fake driver runs no servers"
        missing[Capability.LOGIN] = "Nova's fake driver runs no servers"
    if "docker" not in hypervisors:
        found = ", ".join(sorted(hypervisors)) or "unknown"
        missing[Capability.DOCKER] = f"no compute node runs Docker (hypervisors: {found})"
    if external is None:
        missing[Capability.FLOATING_IP] = "no external network is routed to the tenant's network"
        missing[Capability.LOGIN] = "no floating IP leads to a server"
    if reason := why_not_the_host(hypervisors, hostnames):
        missing[Capability.HOST] = reason


def why_not_the_host(hypervisors: set[str], hostnames: list[str]) -> str:
    """Say why this process cannot look at the engine and the switch itself; empty if it can."""
    if os.geteuid() != 0:
        return "not root on the cloud's machine"
    if "docker" not in hypervisors:
        return "no engine to look at"
    elsewhere = set(hostnames) - {socket.gethostname(), socket.getfqdn()} - host.further_names()
    if not elsewhere:
        return ""
    if len(hostnames) == 1:
        return f"this machine is {socket.gethostname()}, the compute node is {hostnames[0]}"
    return f"not the cloud's only machine: {', '.join(sorted(elsewhere))}"


def choose_image(connection: Any, wanted: str | None) -> Any:
    """Take the wanted image, else the base image, else the first container image."""
    if wanted:
        return found_or_refuse(connection.image.find_image(wanted), "image", wanted)
    images = list(connection.image.images(status="active"))
    containers = [each for each in images if each.container_format == "docker"]
    named = [each for each in containers if each.name == DEFAULT_IMAGE]
    for candidates in (named, containers, images):
        if candidates:
            return candidates[0]
    raise DockstackError("The cloud has no image to boot from.", "Make one with `dockstack image build`.")


def choose_flavor(connection: Any, wanted: str | None) -> Any:
    """Take the wanted flavor, else the smallest with enough memory."""
    if wanted:
        return found_or_refuse(connection.compute.find_flavor(wanted), "flavor", wanted)
    flavors = sorted(connection.compute.flavors(), key=lambda each: (each.ram, each.vcpus, each.disk))
    fitting = [each for each in flavors if each.ram >= MEMORY_MB]
    if not fitting:
        raise DockstackError(
            f"The cloud has no flavor with at least {MEMORY_MB} MB.",
            "Make one: `openstack flavor create --ram 64 --disk 1 m1.nano`.",
        )
    return fitting[0]


def choose_network(connection: Any, wanted: str | None) -> Any:
    """Take the wanted network, else `private`, else the first with a subnet that is not external."""
    if wanted:
        return found_or_refuse(connection.network.find_network(wanted), "network", wanted)
    networks = [each for each in connection.network.networks() if not each.is_router_external and each.subnet_ids]
    for candidates in ([each for each in networks if each.name == DEFAULT_NETWORK], networks):
        if candidates:
            return candidates[0]
    raise DockstackError("The cloud has no tenant network with a subnet.", "Run `dockstack up`, or create one.")


def find_external(connection: Any, network_id: str) -> str | None:
    """Return the external network that a router joins to this network; None if there is none."""
    owners = (
        "network:router_interface",
        "network:router_interface_distributed",
        "network:ha_router_replicated_interface",
    )
    routers = routers_of(connection.network.ports(network_id=network_id), owners)
    for router_id in routers:
        gateway = connection.network.get_router(router_id).external_gateway_info
        if gateway:
            return str(gateway["network_id"])
    return None


def routers_of(ports: Iterable[Any], owners: tuple[str, ...]) -> list[str]:
    """Return the routers that these ports belong to."""
    return [port.device_id for port in ports if port.device_owner in owners]


def found_or_refuse(found: Any, kind: str, wanted: str) -> Any:
    """Return what was found, or say that it is not there."""
    if found is None:
        raise DockstackError(f"The cloud has no {kind} {wanted!r}.", f"See `openstack {kind} list`.")
    return found
