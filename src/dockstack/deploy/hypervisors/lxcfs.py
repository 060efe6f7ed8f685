# SPDX-License-Identifier: Apache-2.0
"""LXCFS: shows each server its own processors, memory, load and uptime. It is an instance of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.hypervisors.nova_compute import NovaCompute
    from dockstack.deploy.supervision.machine import Machine

NAME = "lxcfs"

# A killed instance leaves its mount behind, dead, and a supervisor starts the next one without asking us.
_SCRIPT = 'umount --lazy "$1" 2>/dev/null; exec /usr/bin/lxcfs "$@"'


def service(distribution: Distribution) -> Service:
    """Return LXCFS as a service; it counts processors by a server's quota and its set of processors."""
    directory = paths.LXCFS_DIRECTORY
    options = ("--enable-loadavg", "--enable-cfs", "--foreground", f"--pidfile={paths.RUN}/lxcfs.pid")
    return Service(
        name=NAME,
        title="What servers see of their machine",
        command=("/bin/sh", "-c", _SCRIPT, "sh", directory, *options),
        check=Check(CheckKind.COMMAND, command=("grep", "-q", "^MemTotal", f"{directory}/proc/meminfo")),
        packages=distribution.packages_of(NAME),
        prepare=(
            ("install", "-d", "-m", "755", paths.RUN),
            ("sh", "-c", f"umount --lazy {directory} 2>/dev/null; mkdir -p {directory}"),
        ),
        end_statuses=distribution.end_statuses.get(NAME, ()),
        oom_score=-900,
    )


def start(machine: Machine) -> None:
    """Have LXCFS running, except on a node without FUSE."""
    if machine.run(["test", "-c", "/dev/fuse"], check=False).ok:
        ensure_running(machine, service(machine.distribution))
    else:
        machine.say("There is no /dev/fuse here, so servers will see this machine's processors, memory and uptime")


def withdraw(machine: Machine, nova: NovaCompute, socket: str) -> None:
    """Unmount LXCFS's files in running servers before it stops: reading them would fail afterwards."""
    renewal = nova.program("dockstack.compute.containers.lxcfs")
    machine.run([*renewal, "--engine", f"unix://{socket}", "--lxcfs", paths.LXCFS_DIRECTORY], check=False)


def remove_mount(machine: Machine) -> None:
    """Remove what a killed LXCFS left mounted."""
    machine.run(["umount", "--lazy", paths.LXCFS_DIRECTORY], check=False)
