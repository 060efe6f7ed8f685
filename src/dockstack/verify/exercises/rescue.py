# SPDX-License-Identifier: Apache-2.0
"""Rescue: another image runs in the server's place and repairs its files."""

from __future__ import annotations

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.exercises.power import Interface, log_in_again
from dockstack.verify.model import Capability
from dockstack.verify.resources import make_guest, wait_for_status

KEPT = "dockstack-kept"


def rescue_and_unrescue(ctx: Context) -> None:
    """Rescue a server, repair a file of its own, and find it repaired when the server is itself again."""
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    home = guest.shell.run(f"echo broken > ~/{KEPT}; pwd")
    compute, server_id = ctx.connection.compute, guest.server.id

    ctx.say("rescuing")
    compute.rescue_server(server_id)
    wait_for_status(ctx.connection, server_id, "RESCUE", ctx.timeouts.active)
    shell = log_in_again(ctx, guest, interface)
    expect(shell.run(f"cat /mnt/rescue{home}/{KEPT}"), "broken", "the server's file in the rescuing one")
    shell.run(f"echo repaired > /mnt/rescue{home}/{KEPT}; echo gone > ~/dockstack-gone")
    ctx.say("unrescuing")
    compute.unrescue_server(server_id)
    wait_for_status(ctx.connection, server_id, "ACTIVE", ctx.timeouts.active)
    shell = log_in_again(ctx, guest, interface)
    expect(shell.run(f"cat ~/{KEPT}"), "repaired", "the server's file after the rescue")
    expect(shell.run("ls ~/dockstack-gone 2> /dev/null || echo none"), "none", "what the rescuing server left")


RESCUE = Exercise(
    "rescue", "A rescued server's files can be repaired", rescue_and_unrescue, LOGIN_NEEDS | {Capability.DOCKER}
)
