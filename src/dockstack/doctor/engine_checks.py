# SPDX-License-Identifier: Apache-2.0
"""Checks of a machine's container engine; pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from dockstack.deploy.hypervisors import engine_obstacles
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.hypervisors.engine_file import DISPATCHER, RUNTIME
from dockstack.doctor.model import Finding, Mend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.doctor.machine import Subject

TRIED = ("20.10", "26.1", "28.5")  # docs/distributions.md
OLDEST = (20, 10)
LIMITS = {
    "MemoryLimit": "memory",
    "CpuCfsQuota": "processors",
    "CPUSet": "dedicated processors",
    "PidsLimit": "processes",
}
RELOAD = "Run `dockstack up` (a compute node of another cloud: `dockstack node add`), which has the engine read it."


def answers(subject: Subject) -> Iterator[Finding]:
    """Whether it answers, where there is one."""
    socket = engine_of(subject.node.attributes).socket
    if subject.facts.machine.engine.info:
        return
    if subject.facts.engine:
        yield Finding(
            f"There is a Docker engine, and none answers on {socket}.",
            "See `dockstack status`, or `systemctl status docker`; `dockstack up` starts it. Is docker.socket another?",
            note=not subject.ours,
        )
    else:
        yield Finding(
            "There is no Docker engine.", "`dockstack up` and `dockstack node add` install it.", note=not subject.ours
        )


def settings(subject: Subject) -> Iterator[Finding]:
    """Settings with which servers cannot run, each by its key."""
    for obstacle in engine_obstacles.obstacles(subject.node.attributes, subject.facts.machine.engine):
        yield Finding(obstacle.brief, obstacle.cure)


def version(subject: Subject) -> Iterator[Finding]:
    """Whether it is one that was tried."""
    text = str(subject.facts.machine.engine.info.get("ServerVersion", ""))
    match = re.match(r"(\d+)\.(\d+)", text)
    if not match:
        return
    known = (int(match[1]), int(match[2]))
    if known < OLDEST:
        yield Finding(f"The engine is Docker {text}; the driver needs 20.10.", "Install a newer one.")
    elif not text.startswith(TRIED):
        yield Finding(f"Docker {text} has not been tried; {', '.join(TRIED)} have.", "Going on is fine.", note=True)


def runtime(subject: Subject) -> Iterator[Finding]:
    """Whether it has taken over our runtime, and keeps servers over its own restarts."""
    info = subject.facts.machine.engine.info
    if not info:
        return
    if ((info.get("Runtimes") or {}).get(RUNTIME) or {}).get("path") != DISPATCHER:
        yield Finding(f"The engine does not know the runtime {RUNTIME}: no server starts.", RELOAD)
    if not info.get("LiveRestoreEnabled"):
        yield Finding("The engine's live-restore is off: servers stop with each restart of it.", RELOAD)


def socket(subject: Subject) -> Iterator[Finding]:
    """Who may speak to it."""
    owner, mode = subject.socket
    if mode & 0o007:
        path = engine_of(subject.node.attributes).socket
        line = f"chmod o= {shlex.quote(path)}"
        yield Finding(
            f"{path} ({owner}) has mode {mode:o}: every user of the machine is root on it.",
            f"{line}; add people to the group instead.",
            mend=Mend(line, lambda: subject.run(line)),
        )


def limits(subject: Subject) -> Iterator[Finding]:
    """What it says that it cannot limit, and whether it filters system calls."""
    info = subject.facts.machine.engine.info
    if not info:
        return
    for key, what in LIMITS.items():
        if info.get(key) is False:
            yield Finding(f"The engine cannot limit {what} ({key} is false).", "See the check cgroups.")
    if info.get("SwapLimit") is False:
        yield Finding(
            "The engine cannot limit swap: a server's memory may be twice its flavor's where the machine has swap.",
            "Boot with swapaccount=1, or without swap.",
            note=True,
        )
    if not any("name=seccomp" in str(option) for option in info.get("SecurityOptions") or ()):
        yield Finding("The engine filters no system calls (seccomp).", "Use a kernel with CONFIG_SECCOMP_FILTER.")


def root_disks(subject: Subject) -> Iterator[Finding]:
    """Whether a server may fill its host's disk."""
    for told in subject.status.get("root_disks", ()):
        if not told["limited"]:
            where = f" (host {told['host']})" if told["host"] else ""
            yield Finding(
                f"Root disks are not limited{where}: {told['text']}.",
                "Choose docker.storage with the first `up`, or see docs/limits.md#root-disk.",
                note=True,
            )
