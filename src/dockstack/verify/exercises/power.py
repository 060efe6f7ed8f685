# SPDX-License-Identifier: Apache-2.0
"""Reboot, stop, start, pause: the server's processes change, its network interfaces do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import answers_ping, answers_tcp, wait_until
from dockstack.verify.resources import make_guest, open_shell, wait_for_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.verify.resources import Guest
    from dockstack.verify.shell import Shell

# nova/compute/power_state.py
RUNNING, PAUSED, SHUTDOWN, SUSPENDED = 1, 3, 4, 7
START_OF_INIT = "cut -d ' ' -f 22 /proc/1/stat"  # clock ticks since the machine's boot: proc(5), field starttime


@dataclass(frozen=True)
class Interface:
    """The first network interface, which must not change."""

    mac: str
    addresses: tuple[str, ...]

    @classmethod
    def read(cls, shell: Shell) -> Interface:
        """Read it inside the server."""
        addresses = shell.run("ip -o addr show dev eth0 scope global | awk '{ print $4 }'").split()
        return cls(shell.run("cat /sys/class/net/eth0/address"), tuple(sorted(addresses)))


def reboot(ctx: Context, kind: str) -> None:
    """Reboot; the processes are new, the interface is the same, and the key still lets us in."""
    guest = make_guest(ctx)
    interface, started = Interface.read(guest.shell), guest.shell.run(START_OF_INIT)
    guest.shell.run("echo kept > /tmp/dockstack-kept")
    ctx.say(f"{kind.lower()} reboot")
    ctx.connection.compute.reboot_server(guest.server.id, kind)
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    shell = log_in_again(ctx, guest, interface)
    if shell.run(START_OF_INIT) == started:
        raise CheckFailed(f"After a {kind.lower()} reboot the first process is still the old one.")
    expect(shell.run("cat /tmp/dockstack-kept"), "kept", "a file written before the reboot")


def soft_reboot(ctx: Context) -> None:
    """Reboot as an operating system would."""
    reboot(ctx, "SOFT")


def hard_reboot(ctx: Context) -> None:
    """Reboot as a power switch would."""
    reboot(ctx, "HARD")


def stop_and_start(ctx: Context) -> None:
    """A stopped server is SHUTOFF and silent; started again, it is as before."""
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    halt(ctx, guest, ctx.connection.compute.stop_server, "SHUTOFF", SHUTDOWN)
    go_on(ctx, guest, ctx.connection.compute.start_server, interface)


def pause_and_unpause(ctx: Context) -> None:
    """A paused server is PAUSED and does nothing; unpaused, the same processes go on."""
    guest = make_guest(ctx)
    interface, started = Interface.read(guest.shell), guest.shell.run(START_OF_INIT)
    halt(ctx, guest, ctx.connection.compute.pause_server, "PAUSED", PAUSED)
    shell = go_on(ctx, guest, ctx.connection.compute.unpause_server, interface)
    expect(shell.run(START_OF_INIT), started, "the start time of the first process")


def suspend_and_resume(ctx: Context) -> None:
    """A suspended server is SUSPENDED and silent; resumed, the same processes go on."""
    guest = make_guest(ctx)
    interface, started = Interface.read(guest.shell), guest.shell.run(START_OF_INIT)
    halt(ctx, guest, ctx.connection.compute.suspend_server, "SUSPENDED", SUSPENDED)
    shell = go_on(ctx, guest, ctx.connection.compute.resume_server, interface)
    expect(shell.run(START_OF_INIT), started, "the start time of the first process")


def halt(ctx: Context, guest: Guest, action: Callable[[str], object], status: str, power_state: int) -> None:
    """Do an action after which a server must not answer, and check that."""
    ctx.say(f"waiting for the server to be {status}")
    action(guest.server.id)
    server = wait_for_status(ctx.connection, guest.server.id, status, ctx.timeouts.active)
    expect(server.power_state, power_state, f"the power state of a server that is {status}")
    if answers_ping(guest.address):
        raise CheckFailed(f"The server is {status} and still answers ping at {guest.address}.")


def go_on(ctx: Context, guest: Guest, action: Callable[[str], object], interface: Interface) -> Shell:
    """Do an action after which a server must answer again, and log in as before."""
    ctx.say("waiting for the server to be ACTIVE again")
    action(guest.server.id)
    server = wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    expect(server.power_state, RUNNING, "the power state of a server that is ACTIVE")
    return log_in_again(ctx, guest, interface)


def log_in_again(ctx: Context, guest: Guest, interface: Interface) -> Shell:
    """Log in at the same address and compare the interface."""
    ctx.say(f"logging in to {guest.address} again")
    wait_until(lambda: answers_tcp(guest.address, 22), ctx.timeouts.answer, f"TCP port 22 of {guest.address} to answer")
    shell = open_shell(ctx, guest.address, guest.key)
    expect(Interface.read(shell), interface, "the network interface")
    return shell


SOFT_REBOOT = Exercise("soft-reboot", "A soft reboot keeps the network interface", soft_reboot, LOGIN_NEEDS)
HARD_REBOOT = Exercise("hard-reboot", "A hard reboot keeps the network interface", hard_reboot, LOGIN_NEEDS)
STOP_START = Exercise("stop-start", "A server stops, and starts as it was", stop_and_start, LOGIN_NEEDS)
PAUSE = Exercise(
    "pause", "A paused server stands still and goes on", pause_and_unpause, LOGIN_NEEDS | {Capability.DOCKER}
)
SUSPEND = Exercise("suspend", "A suspended server is silent and goes on where it was", suspend_and_resume, LOGIN_NEEDS)
