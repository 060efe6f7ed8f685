# SPDX-License-Identifier: Apache-2.0
"""The Docker exercise (after nova-docker's for DevStack), and that a delete leaves nothing behind."""

from __future__ import annotations

from dockstack.verify import host
from dockstack.verify.context import Context, Exercise
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import (
    PING,
    boot,
    delete_server,
    fixed_address,
    make_floating_ip,
    make_group,
    ports_of,
)


def boot_ping_delete(ctx: Context) -> None:
    """Boot from the image, see ACTIVE and an address, ping, delete, see it gone."""
    group = make_group(ctx, [PING])
    ctx.say(f"booting {ctx.facts.image_name} as {ctx.facts.flavor_name}")
    server = boot(ctx, group=group)
    address = fixed_address(ctx.connection, server.id)
    ctx.say(f"ACTIVE with {address}")
    if Capability.FLOATING_IP not in ctx.facts.missing and Capability.GUEST not in ctx.facts.missing:
        floating = make_floating_ip(ctx, server).floating_ip_address
        ctx.say(f"pinging it at {floating}")
        wait_until(
            lambda: answers_ping(floating),
            ctx.timeouts.answer,
            f"an answer to ping at {floating}, the server's floating IP",
            "Is the server's network up (`openstack console log show`), and its port ACTIVE (`openstack port list`)?",
        )
    ctx.say("deleting it")
    delete_server(ctx.connection, server.id, ctx.timeouts.terminate)


def delete_leaves_nothing(ctx: Context) -> None:
    """After a delete the node holds no container, namespace, switch port or device of the server."""
    server = boot(ctx)
    port_ids = tuple(port.id for port in ports_of(ctx.connection, server.id))
    before = host.find_traces(server.id, port_ids)
    for kind in ("containers", "namespaces", "switch_ports"):
        if not getattr(before, kind):
            raise CheckFailed(
                f"The running server {server.id} has no {kind.replace('_', ' ')} on this node.",
                "Either it does not run here, or the names have changed that this check knows.",
                before.describe(),
            )
    ctx.say("deleting it, then looking for traces")
    delete_server(ctx.connection, server.id, ctx.timeouts.terminate)
    after = host.find_traces(server.id, port_ids).describe()
    if after:
        raise CheckFailed(f"The deleted server {server.id} left behind: {after}.")
    left = [port.id for port in ports_of(ctx.connection, server.id)]
    if left:
        raise CheckFailed(f"The deleted server {server.id} left Neutron ports behind: {', '.join(left)}.")


DOCKER = Exercise("docker", "A server boots, has an address, answers ping and goes away", boot_ping_delete)
NO_LEFTOVERS = Exercise(
    "no-leftovers",
    "A deleted server leaves nothing on its node",
    delete_leaves_nothing,
    frozenset({Capability.HOST, Capability.DOCKER}),
)
