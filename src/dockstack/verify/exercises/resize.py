# SPDX-License-Identifier: Apache-2.0
"""Resize to more memory, reverted and confirmed; a smaller disk is refused."""

from __future__ import annotations

from typing import Any

from openstack import exceptions as sdk_errors

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.exercises.limits import MEMORY, MIB
from dockstack.verify.exercises.power import Interface, log_in_again
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import make_guest, wait_for_status


def resize_revert_confirm(ctx: Context) -> None:
    """Resize and revert, resize and confirm: files and address stay, the memory limit follows, no disk shrinks."""
    bigger = find_bigger(ctx)
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    guest.shell.run("echo kept > ~/dockstack-kept")
    compute, server_id = ctx.connection.compute, guest.server.id

    def check(memory_mb: int) -> None:
        shell = log_in_again(ctx, guest, interface)
        expect(shell.run("cat ~/dockstack-kept"), "kept", "a file written before the resize")
        expect(shell.run(MEMORY), str(memory_mb * MIB), "the memory limit in bytes")

    ctx.say(f"resizing from {ctx.facts.flavor_name} to {bigger.name}")
    resize(ctx, server_id, bigger.id)
    check(bigger.ram)
    ctx.say("reverting")
    compute.revert_server_resize(server_id)
    wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    check(ctx.facts.flavor_memory_mb)
    ctx.say(f"resizing to {bigger.name} again, and confirming")
    resize(ctx, server_id, bigger.id)
    compute.confirm_server_resize(server_id)
    wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    check(bigger.ram)
    ctx.say(f"asking for {ctx.facts.flavor_name} and its smaller disk")
    refuse_shrink(ctx, server_id, bigger.name)
    check(bigger.ram)


def find_bigger(ctx: Context) -> Any:
    """Find the flavor with the least memory that has more of it, and of disk, than the exercises' own.

    Raises:
        CheckFailed: there is none.
    """
    flavors = list(ctx.connection.compute.flavors())
    own = next(flavor for flavor in flavors if flavor.id == ctx.facts.flavor_id)
    larger = [
        flavor
        for flavor in flavors
        if flavor.ram > own.ram and flavor.disk > own.disk and not flavor.swap and not flavor.ephemeral
    ]
    if not larger:
        raise CheckFailed(
            f"There is no flavor with more memory and disk than {own.name}.", "Make one: `openstack flavor create`."
        )
    return min(larger, key=lambda flavor: (flavor.ram, flavor.disk))


def resize(ctx: Context, server_id: str, flavor_id: str) -> None:
    """Resize and wait until Nova asks for a confirmation."""
    ctx.connection.compute.resize_server(server_id, flavor_id)
    wait_for_status(ctx.connection, server_id, "VERIFY_RESIZE", ctx.timeouts.active)


def refuse_shrink(ctx: Context, server_id: str, flavor_name: str) -> None:
    """A resize to a smaller disk fails, the server keeps its flavor, and the reason can be read in its actions."""
    compute = ctx.connection.compute
    compute.resize_server(server_id, ctx.facts.flavor_id)

    def failure() -> str | None:
        (newest, *_) = compute.server_actions(server_id)
        try:
            action = compute.get_server_action(newest.request_id, server_id)
        except sdk_errors.NotFoundException:
            return None
        return "failed" if action.action == "resize" and action.message == "Error" else None

    wait_until(failure, ctx.timeouts.active, "Nova to refuse a resize to a smaller disk")
    server = wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    expect(server.flavor["original_name"], flavor_name, "the flavor after a refused resize")


RESIZE = Exercise(
    "resize",
    "A server gets another flavor and keeps everything else",
    resize_revert_confirm,
    LOGIN_NEEDS | {Capability.DOCKER},
)
