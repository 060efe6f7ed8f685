# SPDX-License-Identifier: Apache-2.0
"""Checks of a machine: system, room, control groups, clock, files; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy.join.obstacles import MOST_CLOCK
from dockstack.deploy.node.own_package import lock_digest
from dockstack.deploy.run import preflight
from dockstack.doctor.model import Finding, Mend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.doctor.machine import Subject

V1 = "tmpfs"  # what /sys/fs/cgroup is where each controller has a hierarchy of its own
CONTROLLERS = {"cpu": "processors", "cpuset": "dedicated processors", "memory": "memory", "pids": "processes"}
RATES = {"cgroup2fs": "io", V1: "blkio"}
FULL, LITTLE_MB = 90, 1024  # per cent used, and free
UP = "Run `dockstack up`, or on a compute node of another cloud `dockstack node add` for it."


def preflight_about(what: str) -> Callable[[Subject], Iterator[Finding]]:
    """Return a check that says what `up` would say about something."""

    def look(subject: Subject) -> Iterator[Finding]:
        for problem in preflight.by_subject(subject.node, subject.machine)[what]:
            yield Finding(problem.brief, problem.cure, note=problem.warning)

    return look


def disks(subject: Subject) -> Iterator[Finding]:
    """File systems that fill up."""
    for disk in subject.disks:
        if (disk.used >= FULL and disk.free_mb < LITTLE_MB * 10) or disk.free_mb < LITTLE_MB:
            yield Finding(
                f"{disk.point} is {disk.used} % full; {disk.free_mb} MiB are free.",
                "Make room: images that no server uses (`dockstack image cache` shows them), logs, or a larger disk.",
            )
        elif disk.inodes >= FULL:
            yield Finding(f"{disk.point} has {disk.inodes} % of its inodes in use.", "Remove small files by thousands.")


def cgroups(subject: Subject) -> Iterator[Finding]:
    """Controllers that limits need."""
    for name, what in CONTROLLERS.items():
        if name not in subject.controllers:
            yield Finding(
                f"The kernel has no control group controller {name} here, so {what} of servers are not limited.",
                f"Boot with it (cgroup_enable={name}), or give the container that this is in that controller.",
            )
    rates = RATES.get(subject.cgroup)
    if rates and rates not in subject.controllers:
        yield Finding(
            f"There is no controller {rates}: disk rates of flavors are not kept.", "Boot with it.", note=True
        )
    if subject.cgroup == V1:
        yield Finding(
            "Control groups are those of version 1.",
            "Nothing is to be done: both work. Servers with systemd need version 2 beside, at /sys/fs/cgroup/unified.",
            note=True,
        )


def clock(subject: Subject) -> Iterator[Finding]:
    """How far a clock is from this machine's, and whether somebody keeps it."""
    apart = subject.facts.clock
    if abs(apart) > MOST_CLOCK:
        where = "ahead of" if apart > 0 else "behind"
        yield Finding(f"Its clock is {abs(apart):.0f} s {where} this machine's.", "Have both keep time (chrony).")
    if not subject.clock_kept:
        yield Finding(
            "The kernel's clock is not kept by anybody.",
            "Install chrony, unless the machine below keeps it, as for a container or some virtual machines.",
            note=True,
        )


def files(subject: Subject) -> Iterator[Finding]:
    """Files with secrets that others may read."""
    for path, mode in subject.secret_modes.items():
        if mode & 0o007:
            line = f"chmod o= {shlex.quote(path)}"
            yield Finding(
                f"{path} has mode {mode:o}: every user of the machine may read its secrets.",
                f"{line}, and make its secrets new if somebody untrusted has been here.",
                mend=Mend(line, lambda line=line: subject.run(line)),  # type: ignore[misc]
            )


def foreign(subject: Subject) -> Iterator[Finding]:
    """An OpenStack, or a nova-compute, that is not ours."""
    yield from preflight_about("foreign")(subject)
    if subject.facts.nova_compute and not subject.ours:
        yield Finding(
            "A nova-compute runs here that is not ours.",
            "A machine has one hypervisor: use another, or take it out of its deployer's group of compute nodes.",
        )


def services(subject: Subject) -> Iterator[Finding]:
    """Services that do not run, or do not answer."""
    if not subject.status:
        yield Finding("`dockstack status` does not answer there.", f"Is dockstack whole? {UP}")
    for one in subject.status.get("services", ()):
        if not one["healthy"]:
            yield Finding(
                f"{one['title']} ({one['name']}) is {one['state']}: {one['problem']}",
                f"See `dockstack logs {shlex.quote(one['name'])}`; `dockstack up` starts what does not run.",
            )


def driver(subject: Subject) -> Iterator[Finding]:
    """The door through which Nova finds the driver."""
    if subject.door:
        yield Finding(
            f"Nova would not find the driver as it should: {subject.door.splitlines()[0].removeprefix('error: ')}", UP
        )


def versions(subject: Subject) -> Iterator[Finding]:
    """Whether the services are those that this dockstack installs."""
    release = subject.document.text("release") if subject.document else subject.node.attributes.text("release")
    if subject.facts.lock != lock_digest(f"{release}/openstack"):
        yield Finding(
            f"The services are not those that this dockstack has for {release}.",
            f"{UP} Servers go on meanwhile. Or use the dockstack that installed them.",
            note=True,
        )
