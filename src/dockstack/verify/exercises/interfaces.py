# SPDX-License-Identifier: Apache-2.0
"""A second network interface is attached to a running server, survives a reboot, and is detached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.exercises.power import Interface, log_in_again
from dockstack.verify.interrupts import postponed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import make_guest, pinging_shell, wait_for_status

if TYPE_CHECKING:
    from dockstack.verify.resources import Guest
    from dockstack.verify.shell import Shell

SECOND = "cat /sys/class/net/eth1/address"


def attach_and_detach(ctx: Context) -> None:
    """Attach a port: a neighbour reaches it, before and after a reboot, and the first interface never notices."""
    guest = make_guest(ctx)
    neighbour = make_guest(ctx, what="neighbour")
    interface = Interface.read(guest.shell)
    port = make_port(ctx, guest)
    address = next(fixed["ip_address"] for fixed in port.fixed_ips if ":" not in fixed["ip_address"])
    compute, server_id = ctx.connection.compute, guest.server.id
    pinger = pinging_shell(ctx, neighbour)

    ctx.say(f"attaching a port with {address}")
    compute.create_server_interface(server_id, port_id=port.id)
    reach(ctx, pinger, address)
    expect(guest.shell.run(SECOND), port.mac_address, "the MAC address of the second interface")
    expect(Interface.read(guest.shell), interface, "the first interface")
    ctx.say("rebooting")
    compute.reboot_server(server_id, "HARD")
    wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    shell = log_in_again(ctx, guest, interface)
    reach(ctx, pinger, address)
    ctx.say("detaching it")
    compute.delete_server_interface(port.id, server=server_id)
    wait_until(lambda: shell.attempt(SECOND).status != 0, ctx.timeouts.active, "the second interface to go")
    expect(Interface.read(shell), interface, "the first interface")


def make_port(ctx: Context, guest: Guest) -> Any:
    """Make a port on the tenant's network with the server's security group."""
    network = ctx.connection.network
    with postponed():
        port = network.create_port(
            name=ctx.name("port"), network_id=ctx.tenant.network_id, security_groups=[guest.group.id]
        )
        ctx.stack.callback(network.delete_port, port.id, ignore_missing=True)
    return port


def reach(ctx: Context, pinger: Shell, address: str) -> None:
    """Wait until the neighbour gets an answer.

    Raises:
        CheckFailed: none came in time.
    """
    wait_until(
        lambda: pinger.attempt(f"ping -c 1 -W 1 {address}").status == 0,
        ctx.timeouts.answer,
        f"an answer from {address}, the second interface's address",
    )


INTERFACES = Exercise(
    "interfaces", "A network interface is attached to a running server and detached", attach_and_detach, LOGIN_NEEDS
)
