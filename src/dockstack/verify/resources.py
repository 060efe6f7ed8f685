# SPDX-License-Identifier: Apache-2.0
"""Make what the exercises need; each "do" registers its "undo" on the context's stack."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from openstack import exceptions as sdk_errors

from dockstack.verify.interrupts import postponed
from dockstack.verify.model import CheckFailed
from dockstack.verify.probe import POLL_SECONDS, wait_until
from dockstack.verify.shell import KeyPair, Shell, log_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.verify.context import Context, Tenant

FAULT_SECONDS = 15.0
PING = {"protocol": "icmp"}
PING6 = {"protocol": "ipv6-icmp", "ether_type": "IPv6"}
SSH = {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}


@dataclass(frozen=True)
class Guest:
    """A server that we are logged in to."""

    server: Any
    address: str  # its floating IP
    key: KeyPair
    shell: Shell
    group: Any


def make_key(ctx: Context, tenant: Tenant | None = None, what: str = "key") -> tuple[str, KeyPair]:
    """Generate a key pair and import its public half; return its name and the pair."""
    tenant = tenant or ctx.tenant
    pair = KeyPair.generate()
    name = ctx.name(what)
    with postponed():
        key = tenant.connection.compute.create_keypair(name=name, public_key=pair.public, type="ssh")
        ctx.stack.callback(tenant.connection.compute.delete_keypair, key, ignore_missing=True)
    return name, pair


def make_group(ctx: Context, rules: Sequence[dict[str, Any]], tenant: Tenant | None = None, what: str = "group") -> Any:
    """Make a security group that lets in nothing but these rules."""
    network = (tenant or ctx.tenant).connection.network
    with postponed():
        group = network.create_security_group(name=ctx.name(what), description="made by dockstack verify")
        ctx.stack.callback(delete_group, network, group.id, ctx.timeouts.terminate)
    for rule in rules:
        allow(tenant or ctx.tenant, group.id, rule)
    return group


def delete_group(network: Any, group_id: str, seconds: float) -> None:
    """Delete a security group as soon as no port uses it: Nova may free a port after its server is gone.

    Raises:
        CheckFailed: it is still in use after that time.
    """

    def attempt() -> bool:
        try:
            network.delete_security_group(group_id, ignore_missing=True)
        except sdk_errors.ConflictException:
            return False
        return True

    wait_until(
        attempt, seconds, f"security group {group_id} to be free", "A port was left behind: `openstack port list`."
    )


def allow(tenant: Tenant, group_id: str, rule: dict[str, Any]) -> Any:
    """Add an ingress rule to a group; it is deleted with the group."""
    full = {"ether_type": "IPv4", **rule}
    return tenant.connection.network.create_security_group_rule(security_group_id=group_id, direction="ingress", **full)


class ServerRequest(TypedDict, total=False):
    """What an exercise may want of a server; what is left out is as the cloud's facts say."""

    what: str  # "server" if left out; begins its name
    tenant: Tenant | None
    group: Any
    key_name: str
    user_data: str
    config_drive: bool
    image_id: str
    root_volume_id: str  # in the place of an image
    metadata: dict[str, str]


def boot(ctx: Context, **wanted: Unpack[ServerRequest]) -> Any:
    """Boot a server and wait until it is ACTIVE.

    Raises:
        CheckFailed: it went to ERROR (the details hold its fault) or was not ACTIVE in time.
    """
    server = request_server(ctx, **wanted)
    ctx.say(f"waiting for {server.name} to be ACTIVE")
    tenant = wanted.get("tenant") or ctx.tenant
    return wait_for_status(tenant.connection, server.id, "ACTIVE", ctx.timeouts.active)


def request_server(ctx: Context, **wanted: Unpack[ServerRequest]) -> Any:
    """Ask for a server and do not wait for it."""
    tenant = wanted.get("tenant") or ctx.tenant
    request: dict[str, Any] = {
        "name": ctx.name(wanted.get("what", "server")),
        "image_id": wanted.get("image_id") or ctx.facts.image_id,
        "flavor_id": ctx.facts.flavor_id,
        "networks": [{"uuid": tenant.network_id}],
        "metadata": wanted.get("metadata", {}),
    }
    if group := wanted.get("group"):
        request["security_groups"] = [{"name": group.id}]
    if user_data := wanted.get("user_data"):
        request["user_data"] = base64.b64encode(user_data.encode()).decode()
    if volume_id := wanted.get("root_volume_id"):
        request["block_device_mapping"] = [
            {"boot_index": 0, "uuid": volume_id, "source_type": "volume", "destination_type": "volume"}
        ]
        request["image_id"] = ""
    request |= {key: wanted[key] for key in ("key_name", "config_drive") if wanted.get(key)}
    with postponed():
        server = tenant.connection.compute.create_server(**request)
        ctx.stack.callback(delete_server, tenant.connection, server.id, ctx.timeouts.terminate)
    ctx.seen.append((tenant.connection, server.id))
    return tenant.connection.compute.get_server(server.id)


def wait_for_status(connection: Any, server_id: str, status: str, seconds: float) -> Any:
    """Wait until a server has a status and no task any more.

    Raises:
        CheckFailed: it went to ERROR, or the time is over.
    """
    last = ["unknown"]

    def look() -> Any:
        server = connection.compute.get_server(server_id)
        last[0] = f"{server.status}, task {server.task_state}"
        if server.status == "ERROR" and status != "ERROR":
            fault = fault_of(connection, server)
            raise CheckFailed(
                f"{server.name} went to ERROR: {fault.get('message', 'no fault was recorded')}",
                "The fault names the cause; more is in /var/log/nova/nova-compute.log under this server's id.",
                f"{server.id}\n{fault.get('details', '')}".strip(),
            )
        return server if server.status == status and server.task_state is None else None

    try:
        return wait_until(look, seconds, f"server {server_id} to be {status}")
    except CheckFailed as failure:
        if failure.details:
            raise
        raise CheckFailed(
            f"Server {server_id} was not {status} within {seconds:g} s; it is {last[0]}.",
            "Look for its id in /var/log/nova/nova-compute.log; on a slow machine raise ACTIVE_TIMEOUT.",
        ) from failure


def fault_of(connection: Any, server: Any) -> dict[str, Any]:
    """Return the fault of a server in ERROR; Nova writes it a moment after the state."""
    deadline = time.monotonic() + FAULT_SECONDS
    while not server.fault and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        server = connection.compute.get_server(server.id)
    return dict(server.fault or {})


def delete_server(connection: Any, server_id: str, seconds: float) -> None:
    """Delete a server and wait until it is gone; one that is not there is fine.

    Raises:
        CheckFailed: it is still there after that time.
    """
    connection.compute.delete_server(server_id, ignore_missing=True)
    wait_until(
        lambda: is_gone(connection, server_id),
        seconds,
        f"server {server_id} to be gone after its delete",
        "Look for its id in /var/log/nova/nova-compute.log; on a slow machine raise TERMINATE_TIMEOUT.",
    )


def is_gone(connection: Any, server_id: str) -> bool:
    """Whether Nova says 404 for a server."""
    try:
        connection.compute.get_server(server_id)
    except sdk_errors.NotFoundException:
        return True
    return False


def delete_volume(connection: Any, volume_id: str, seconds: float) -> None:
    """Delete a volume and wait until it is gone; one that is not there is fine.

    Raises:
        CheckFailed: it is still there after that time.
    """
    block_storage = connection.block_storage

    def is_gone() -> bool:
        try:
            block_storage.get_volume(volume_id)
        except sdk_errors.NotFoundException:
            return True
        return False

    block_storage.delete_volume(volume_id, ignore_missing=True)
    wait_until(
        is_gone,
        seconds,
        f"volume {volume_id} to be gone after its delete",
        "Look for its id in /var/log/cinder/cinder-volume.log.",
    )


def ports_of(connection: Any, server_id: str) -> list[Any]:
    """Return a server's ports."""
    return list(connection.network.ports(device_id=server_id))


def fixed_address(connection: Any, server_id: str, version: int = 4) -> str:
    """Return the first fixed address of an IP version.

    Raises:
        CheckFailed: the server has none.
    """
    for port in ports_of(connection, server_id):
        for fixed in port.fixed_ips:
            if (":" in fixed["ip_address"]) == (version == 6):  # noqa: PLR2004 - IP version 6
                return str(fixed["ip_address"])
    raise CheckFailed(
        f"Server {server_id} has no IPv{version} address.", "Look at its ports: `openstack port list --server`."
    )


def make_floating_ip(ctx: Context, server: Any, tenant: Tenant | None = None) -> Any:
    """Make a floating IP for the server's first port."""
    tenant = tenant or ctx.tenant
    network = tenant.connection.network
    ports = ports_of(tenant.connection, server.id)
    if not ports:
        raise CheckFailed(f"{server.name} has no port.", "Look at `openstack port list --server`.")
    with postponed():
        floating = network.create_ip(
            floating_network_id=tenant.external_network_id, port_id=ports[0].id, description=ctx.name("ip")
        )
        ctx.stack.callback(network.delete_ip, floating.id, ignore_missing=True)
    return floating


def make_guest(
    ctx: Context, *, rules: Sequence[dict[str, Any]] = (PING, SSH), **wanted: Unpack[ServerRequest]
) -> Guest:
    """Boot a server with a key pair, a floating IP and a login; ``rules`` are what its group lets in."""
    tenant, what = wanted.get("tenant"), wanted.get("what", "server")
    group = make_group(ctx, rules, tenant, f"{what}-group")
    key_name, key = make_key(ctx, tenant, f"{what}-key")
    wanted |= {"group": group, "key_name": key_name}
    server = boot(ctx, **wanted)
    floating = make_floating_ip(ctx, server, tenant)
    ctx.say(f"logging in to {floating.floating_ip_address}")
    shell = open_shell(ctx, floating.floating_ip_address, key)
    return Guest(server, floating.floating_ip_address, key, shell, group)


def pinging_shell(ctx: Context, guest: Guest) -> Shell:
    """Return a login that may send pings: the user's, or root's where the image's ping is for root only."""
    if guest.shell.attempt("ping -c 1 -W 1 127.0.0.1").status == 0:
        return guest.shell
    return open_shell(ctx, guest.address, guest.key, "root")


def open_shell(ctx: Context, address: str, key: KeyPair, user: str | None = None) -> Shell:
    """Log in, by default as the image's user; the context's stack closes the connection."""
    shell = log_in(address, user or ctx.facts.login_user, key, ctx.timeouts.answer, ctx.timeouts.command)
    ctx.stack.callback(shell.close)
    return shell
