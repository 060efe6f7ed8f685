# SPDX-License-Identifier: Apache-2.0
"""Nova's instance, flavor and network information, translated to the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nova.conf
from nova import exception
from nova.compute import vm_states
from nova.network import model as network_model

from dockstack.compute.model import Address, Image, InjectedFile, Port, Route, Server
from dockstack.compute.nova_api import limits
from dockstack.compute.nova_api.security_profile import build_confinement, refuse_unreadable
from dockstack.compute.nova_api.volumes import build_volumes
from dockstack.display import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

CONF = nova.conf.CONF

DEFAULT_MTU = 1500
DEFAULT_BRIDGE = "br-int"
DEVICE_PREFIX = "tap"
UNBOUND = (network_model.VIF_TYPE_BINDING_FAILED, network_model.VIF_TYPE_UNBOUND)


def build_server(instance: Any, image: Image, ports: tuple[Port, ...], admin_password: str | None = None) -> Server:
    """Translate a Nova instance to a server.

    Args:
        instance: a ``nova.objects.Instance``.
        image: the image that it boots from.
        ports: its ports, in the order of the request.
        admin_password: the password that Nova made for it, if any.
    """
    flavor = instance.flavor
    return Server(
        uuid=instance.uuid,
        name=printable(instance.display_name or instance.name),
        hostname=instance.hostname or instance.name,
        project_id=instance.project_id or "",
        user_id=instance.user_id or "",
        flavor=flavor.name,
        image=image,
        limits=limits.build_limits(instance, flavor),
        ports=ports,
        metadata=dict(instance.metadata or {}),
        admin_password=admin_password or None,
        key_data=instance.key_data or None,
        confinement=build_confinement(instance),
        rescued=instance.vm_state == vm_states.RESCUED,
    )


def build_new_server(
    instance: Any, image: Image, admin_password: str | None, injected_files: Iterable[tuple[str, bytes | str]] | None
) -> Server:
    """Translate a Nova instance that is about to be made, with what it is given once; its ports are not known yet.

    A server that comes back from the shelf is as its users left it: it gets no key again.

    Args:
        instance: a ``nova.objects.Instance``.
        image: the image that it boots from.
        admin_password: the password that Nova made for it, if any.
        injected_files: path and content of each file that the request came with (API below 2.57).
    """
    server = build_server(instance, image, (), admin_password)
    files = tuple(
        InjectedFile(path, content.encode() if isinstance(content, str) else content)
        for path, content in injected_files or ()
    )
    return replace(server, files=files, key_data=None if is_returning(instance) else server.key_data)


def find_admin_user(instance: Any) -> str:
    """Say whose password a server's administrator means."""
    return instance.image_meta.properties.get("os_admin_user") or "root"


def describe(
    instance: Any, network_info: Iterable[Any] | None = None, block_device_info: dict[str, Any] | None = None
) -> Server:
    """Translate a Nova instance that exists: its image was read when it was built, and may be gone by now."""
    server = build_server(instance, Image(id=instance.image_ref or "", name=""), build_ports(network_info))
    return with_volumes(server, block_device_info)


def with_volumes(server: Server, block_device_info: dict[str, Any] | None) -> Server:
    """Add which volumes a server has, if Nova says it."""
    return server if block_device_info is None else replace(server, volumes=build_volumes(block_device_info))


def build_rescue(instance: Any, image: Image, ports: tuple[Port, ...], password: str | None) -> Server:
    """Translate a Nova instance to the server that rescues it.

    Of its metadata only the host name counts: what it says to run may be what the server is rescued from.
    """
    server = build_server(instance, image, ports, password)
    return replace(server, metadata={key: value for key, value in server.metadata.items() if key == "docker_hostname"})


def rescue_image_id(instance: Any, image_meta: Any) -> str:
    """Return the id of the image to rescue with: what Nova names, or else what the server was booted from.

    Raises:
        exception.InstanceNotRescuable: there is none.
    """
    image_id = (image_meta.id if "id" in image_meta else None) or instance.image_ref
    if not image_id:
        reason = "this server was not booted from an image. Name one to rescue it with."
        raise exception.InstanceNotRescuable(instance_id=instance.uuid, reason=reason)
    return str(image_id)


def is_returning(instance: Any) -> bool:
    """Whether a server is about to be made from what Nova kept of it when it was shelved."""
    return bool(instance.image_ref) and instance.image_ref == instance.system_metadata.get("shelved_image_id")


def build_ports(network_info: Iterable[Any] | None) -> tuple[Port, ...]:
    """Translate Nova's network information to ports; eth0, eth1, ... in the order of the request.

    Args:
        network_info: a ``nova.network.model.NetworkInfo``; reading it waits for Neutron's allocation.
    """
    return tuple(_build_port(vif, f"eth{index}") for index, vif in enumerate(network_info or ()))


def build_bound_ports(network_info: Iterable[Any] | None) -> tuple[Port, ...]:
    """Translate as ``build_ports``, but refuse what Neutron could not bind to this host.

    Raises:
        exception.VirtualInterfacePlugException: naming the port.
    """
    refuse_unbound(network_info)
    return build_ports(network_info)


def _build_port(vif: Any, interface: str) -> Port:
    network = vif["network"]
    subnets = [subnet for subnet in network["subnets"] or () if subnet["ips"]]
    return Port(
        id=vif["id"],
        mac=vif["address"],
        device=vif["devname"] or (DEVICE_PREFIX + vif["id"])[: network_model.NIC_NAME_LEN],
        interface=interface,
        network_id=network["id"],
        mtu=int(network.get_meta("mtu") or DEFAULT_MTU),
        bridge=vif["details"].get("bridge_name") or network["bridge"] or DEFAULT_BRIDGE,
        vif_type=vif["type"],
        bridged=bool(vif["details"].get("ovs_hybrid_plug")),
        addresses=tuple(address for subnet in subnets for address in _build_addresses(subnet)),
        routes=tuple(
            Route(destination=str(route["cidr"]), gateway=route["gateway"]["address"])
            for subnet in subnets
            for route in subnet["routes"] or ()
        ),
        dns=tuple(dict.fromkeys(dns["address"] for subnet in subnets for dns in subnet["dns"] or ())),
        active=vif.get("active", True) is not False,
    )


def _build_addresses(subnet: Any) -> tuple[Address, ...]:
    length = str(subnet["cidr"]).rpartition("/")[2]
    gateway = (subnet["gateway"] or {}).get("address")
    dhcp = subnet.get_meta("dhcp_server")
    return tuple(Address(cidr=f"{ip['address']}/{length}", gateway=gateway, dhcp=dhcp) for ip in subnet["ips"])


def refuse_unbound(network_info: Iterable[Any] | None) -> None:
    """Refuse ports that Neutron could not bind to this host.

    Raises:
        exception.VirtualInterfacePlugException: naming the port.
    """
    for vif in list_unbound(network_info):
        raise exception.VirtualInterfacePlugException(
            f"Neutron could not bind port {vif['id']} to this host ({vif['type']}). Check that the network agent "
            "of this host is up and that Nova's and Neutron's host names agree; then reboot the server with --hard."
        )


def list_unbound(network_info: Iterable[Any] | None) -> list[Any]:
    """List what Neutron has not bound to any host, of Nova's network information."""
    return [vif for vif in network_info or () if vif["type"] in UNBOUND]


def refuse_unsupported(instance: Any, accel_info: Any) -> None:
    """Refuse what a container cannot be given yet, rather than boot a server that silently lacks it.

    Raises:
        exception.BuildAbortException: naming what is unsupported and what to do instead; another host would refuse too.
    """
    refuse_unreadable(instance)
    limits.refuse_unreadable(instance)
    if accel_info:
        reason = "servers on Docker hosts cannot use accelerators yet."
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)
