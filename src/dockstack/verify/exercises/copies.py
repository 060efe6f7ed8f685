# SPDX-License-Identifier: Apache-2.0
"""Snapshot, shelve and rebuild: what the server wrote is kept or gone, as each of them promises."""

from __future__ import annotations

from typing import Any

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.exercises.power import RUNNING, START_OF_INIT, Interface, log_in_again
from dockstack.verify.interrupts import postponed
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import make_guest, wait_for_status

WRITE = "echo kept > ~/dockstack-kept; sync"
READ = "cat ~/dockstack-kept"
SHELVED = ("SHELVED", "SHELVED_OFFLOADED")


def boot_from_snapshot(ctx: Context) -> None:
    """A running server becomes an image and goes on undisturbed; a second one from it has the first one's files."""
    guest = make_guest(ctx)
    started = guest.shell.run(START_OF_INIT)
    guest.shell.run(WRITE)
    ctx.say("creating an image of the running server")
    image = create_image(ctx, guest.server.id)
    expect(image.container_format, "docker", "the image's container format")
    expect(guest.shell.run(START_OF_INIT), started, "the start time of the first process, after its image was made")
    copy = make_guest(ctx, what="copy", image_id=image.id)
    expect(copy.shell.run(READ), "kept", "the first server's file in the second")
    expect(copy.shell.run("hostname"), copy.server.hostname or copy.server.name, "the second server's own host name")


def create_image(ctx: Context, server_id: str) -> Any:
    """Make an image of a server and wait until it can be booted from."""
    image_client = ctx.connection.image
    with postponed():
        image = ctx.connection.compute.create_server_image(server_id, ctx.name("image"))
        ctx.stack.callback(image_client.delete_image, image.id, ignore_missing=True)

    def look() -> Any:
        found = image_client.find_image(image.id)
        if found is None:
            raise CheckFailed(
                f"The image of server {server_id} vanished before it was complete.",
                "Nova deletes the image of a snapshot that failed: /var/log/nova/nova-compute.log says why.",
            )
        return found if found.status == "active" else None

    found = wait_until(look, ctx.timeouts.active, f"image {image.id} to be active")
    wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    return found


def shelve_and_unshelve(ctx: Context) -> None:
    """A shelved server leaves its host and comes back with its files, its address and its key."""
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    guest.shell.run(WRITE)
    compute, server_id = ctx.connection.compute, guest.server.id
    ctx.say("shelving")
    compute.shelve_server(server_id)
    wait_until(lambda: is_shelved(compute.get_server(server_id)), ctx.timeouts.active, f"server {server_id} shelved")
    ctx.say("unshelving")
    compute.unshelve_server(server_id)
    server = wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    expect(server.power_state, RUNNING, "the power state of an unshelved server")
    shell = log_in_again(ctx, guest, interface)
    expect(shell.run(READ), "kept", "a file written before the server was shelved")


def is_shelved(server: Any) -> bool:
    """Whether Nova has done with shelving a server.

    Raises:
        CheckFailed: it gave up.
    """
    if server.task_state is None and server.status not in SHELVED:
        raise CheckFailed(
            f"Shelving left {server.name} {server.status}.", "Look for its id in /var/log/nova/nova-compute.log."
        )
    return server.status in SHELVED and server.task_state is None


def rebuild(ctx: Context) -> None:
    """A rebuilt server is new but for its address and its interface: its old files are gone."""
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    guest.shell.run(WRITE)
    ctx.say("rebuilding")
    ctx.connection.compute.rebuild_server(guest.server.id, ctx.facts.image_id, name=guest.server.name)
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    shell = log_in_again(ctx, guest, interface)
    if shell.attempt(READ).status == 0:
        raise CheckFailed("A file that was written before the rebuild is still there.")


SNAPSHOT = Exercise(
    "snapshot", "An image of a running server boots another", boot_from_snapshot, LOGIN_NEEDS | {Capability.DOCKER}
)
SHELVE = Exercise("shelve", "A shelved server comes back as it was", shelve_and_unshelve, LOGIN_NEEDS)
REBUILD = Exercise("rebuild", "A rebuilt server is new and keeps its network interface", rebuild, LOGIN_NEEDS)
