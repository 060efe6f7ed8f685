# SPDX-License-Identifier: Apache-2.0
"""A server gets what its flavor gives, and no more."""

from __future__ import annotations

import os
import time

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.resources import make_guest, open_shell, wait_for_status

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


def see_its_own(ctx: Context) -> None:
    """Processors, memory and uptime are the server's; uptime begins anew at a reboot; the host's disks are hidden."""
    guest = make_guest(ctx)
    vcpus = min(ctx.facts.flavor_vcpus, os.cpu_count() or 1)  # more vCPUs than processors share those that there are
    expect(guest.shell.run("grep -c ^processor /proc/cpuinfo"), str(vcpus), "the processors in /proc/cpuinfo")
    expect(guest.shell.run("nproc"), str(vcpus), "the processors that nproc counts")
    memory = guest.shell.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo")
    expect(memory, str(ctx.facts.flavor_memory_mb * 1024), "MemTotal in /proc/meminfo, in KiB")
    disks = guest.shell.run("cat /proc/partitions /proc/diskstats; ls -A /sys/block /sys/class/block").split()
    expect(disks, ["/sys/block:", "/sys/class/block:"], "what it sees of block devices")
    ctx.say("rebooting, to see the uptime begin anew")
    begin = time.monotonic()
    ctx.connection.compute.reboot_server(guest.server.id, "HARD")
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    after = float(open_shell(ctx, guest.address, guest.key).run("cut -d ' ' -f 1 /proc/uptime"))
    if after > time.monotonic() - begin:
        raise CheckFailed(f"After a reboot the server says that it has been up for {after} s: more than since then.")


VIEW = Exercise(
    "view", "What the server sees of its machine is its own", see_its_own, LOGIN_NEEDS | {Capability.DOCKER}
)
LIMITS = Exercise(
    "limits", "The flavor's memory and process limits hold", hold_limits, LOGIN_NEEDS | {Capability.DOCKER}
)
