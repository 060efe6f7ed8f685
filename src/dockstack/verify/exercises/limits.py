# SPDX-License-Identifier: Apache-2.0
"""A server gets what its flavor gives, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.model import Capability, CheckFailed, Exercise
from dockstack.verify.resources import make_guest

if TYPE_CHECKING:
    from dockstack.verify.context import Context

# The same limits in cgroup v1 and v2.
MEMORY = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | head -n 1"
PIDS = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null | head -n 1"
MIB = 1024 * 1024


def hold_limits(ctx: Context) -> None:
    """The cgroup inside shows the flavor's memory and a limit on processes, and the memory limit really holds."""
    guest = make_guest(ctx)
    wanted = ctx.facts.flavor_memory_mb * MIB
    expect(guest.shell.run(MEMORY), str(wanted), f"the memory limit of flavor {ctx.facts.flavor_name} in bytes")
    pids = guest.shell.run(PIDS)
    if not pids.isdigit():
        raise CheckFailed(f"The limit on processes inside is {pids!r}: a fork bomb would take the whole node.")
    ctx.say("asking for twice the memory")
    greedy = guest.shell.attempt(f"head -c {2 * wanted} /dev/zero | tail -n 1 | wc -c")
    if greedy.output.split() == [str(2 * wanted)]:
        raise CheckFailed(f"A process held {2 * ctx.facts.flavor_memory_mb} MiB in a server with half of that.")
    expect(guest.shell.run("echo alive"), "alive", "the server's answer after a process of it was refused memory")


LIMITS = Exercise(
    "limits", "The flavor's memory and process limits hold", hold_limits, LOGIN_NEEDS | {Capability.DOCKER}
)
