# SPDX-License-Identifier: Apache-2.0
"""What runs on this machine, read from /proc: trees, memory, and processes that carry one of our marks."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROC = Path("/proc")
SERVICE_MARK = (
    "DOCKSTACK_SERVICE"  # in the environment of every process that supervisor starts for us, and its children
)
RUN_MARK = "DOCKSTACK_UP"  # in the environment of `up` and of every command that it runs
POLL = 0.05
KILL_GRACE = 5.0
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    started: float  # seconds since boot: together with the pid, it names a process for good
    state: str
    name: str


def snapshot() -> dict[int, Process]:
    """Return all processes by pid; those that end meanwhile are left out."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            process = look(int(entry.name))
            if process is not None:
                found[process.pid] = process
    return found


def look(pid: int) -> Process | None:
    """Return one process, or None if it is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] in {"Z", "X"}:
        return None
    return Process(pid, int(fields[1]), int(fields[19]) / _CLOCK_TICKS, fields[0], name)


def tree(pid: int, all_processes: dict[int, Process]) -> set[int]:
    """Return the pid and all its descendants."""
    children: dict[int, list[int]] = {}
    for process in all_processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if current in all_processes and current not in found:
            found.add(current)
            waiting.extend(children.get(current, []))
    return found


def mark(pid: int, name: str) -> str | None:
    """Return the value of an environment variable with which a process was started."""
    prefix = f"{name}=".encode()
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    for item in environment.split(b"\0"):
        if item.startswith(prefix):
            return item[len(prefix) :].decode(errors="replace")
    return None


def marked(name: str, value: str | None = None) -> dict[int, str]:
    """Return pid -> value of all processes that carry a mark.

    Those in other pid namespaces are not meant: a container may hold a dockstack of its own.
    """
    found = {}
    own = _namespace("self")
    for pid in snapshot():
        seen = mark(pid, name) if _namespace(str(pid)) == own else None
        if seen is not None and (value is None or seen == value):
            found[pid] = seen
    return found


def _namespace(pid: str) -> str | None:
    try:
        return str((PROC / pid / "ns" / "pid").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def arguments(pid: int) -> list[str]:
    """Return a process's argument list, empty if it is gone or a kernel thread."""
    try:
        data = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [part.decode(errors="replace") for part in data.split(b"\0") if part]


def with_arguments(*last: str) -> list[int]:
    """Return the pids of our pid namespace whose argument list ends so."""
    own = _namespace("self")
    found = [pid for pid in snapshot() if tuple(arguments(pid)[-len(last) :]) == last]
    return [pid for pid in found if _namespace(str(pid)) == own]


def pss(pids: Iterable[int]) -> int:
    """Return the proportional memory of processes, bytes: shared pages are counted once in all."""
    total = 0
    for pid in pids:
        try:
            rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total


def started_at(pid: int) -> float | None:
    """Return when a process started, seconds since the epoch."""
    process = look(pid)
    if process is None:
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + process.started


def end(
    pids: Iterable[int],
    timeout: float,
    *,
    first: signal.Signals = signal.SIGTERM,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """End processes: the ``first`` signal, and SIGKILL for those that are left after ``timeout`` seconds."""
    waiting = {pid: process for pid in pids if (process := look(pid)) is not None}
    for number, limit in ((first, timeout), (signal.SIGKILL, KILL_GRACE)):
        for pid, process in waiting.items():
            say(f"Ending {process.name} ({pid})")
            _signal(pid, number)
        deadline = time.monotonic() + limit
        while waiting and time.monotonic() < deadline:
            time.sleep(POLL)
            waiting = {pid: process for pid, process in waiting.items() if _same(process)}
        if not waiting:
            return


def _same(process: Process) -> bool:
    seen = look(process.pid)
    return seen is not None and seen.started == process.started


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
