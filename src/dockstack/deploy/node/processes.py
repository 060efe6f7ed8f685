# SPDX-License-Identifier: Apache-2.0
"""What runs on this machine: process trees, memory, and processes that carry one of our marks."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROC = Path("/proc")  # for namespaces, which psutil does not know
SERVICE_MARK = (
    "DOCKSTACK_SERVICE"  # in the environment of every process that supervisor starts for us, and its children
)
RUN_MARK = "DOCKSTACK_UP"  # in the environment of `up` and of every command that it runs
LISTING = ("ps", "-e", "-o", "pid=,ppid=,cputimes=")
POLL = 0.05
KILL_GRACE = 5.0
ENDED = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})


@dataclass(frozen=True)
class Process:
    """A process at one moment."""

    pid: int
    parent: int
    started: float  # seconds since the epoch
    name: str


def snapshot() -> dict[int, Process]:
    """Return all processes by pid; those that end meanwhile are left out."""
    return {pid: process for pid in psutil.pids() if (process := look(pid)) is not None}


def look(pid: int) -> Process | None:
    """Return one process, or None if it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() in ENDED:
                return None
            return Process(pid, process.ppid(), process.create_time(), process.name())
    except psutil.Error:
        return None


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


def processor_seconds(pid: int, listing: Iterable[str]) -> int:
    """Return what a process and its descendants have used; the listing is the output of LISTING on their machine."""
    rows = [tuple(map(int, line.split())) for line in listing]
    everything = {one: Process(one, parent, 0, "") for one, parent, _ in rows}
    wanted = tree(pid, everything)
    return sum(seconds for one, _, seconds in rows if one in wanted)


def mark(pid: int, name: str) -> str | None:
    """Return the value of an environment variable with which a process was started."""
    try:
        environment: dict[str, str] = psutil.Process(pid).environ()
    except psutil.Error:
        return None
    return environment.get(name)


def marked(name: str, value: str | None = None) -> dict[int, str]:
    """Return pid -> value of all processes that carry a mark.

    Those in other pid namespaces are left out: a container may hold a dockstack of its own.
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
        return [part for part in psutil.Process(pid).cmdline() if part]
    except psutil.Error:
        return []


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
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.Error:
            continue
    return total


def started_at(pid: int) -> float | None:
    """Return when a process started, seconds since the epoch."""
    process = look(pid)
    return None if process is None else process.started


def end(
    pids: Iterable[int],
    timeout: float,
    *,
    first: signal.Signals = signal.SIGTERM,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """End processes: the ``first`` signal, and SIGKILL for those that are left after ``timeout`` seconds."""
    waiting = [process for pid in pids if (process := _running(pid)) is not None]
    for number, limit in ((first, timeout), (signal.SIGKILL, KILL_GRACE)):
        for process in waiting:
            with suppress(psutil.NoSuchProcess):
                say(f"Ending {process.name()} ({process.pid})")
                process.send_signal(number)
        deadline = time.monotonic() + limit
        # Not psutil.wait_procs: it reaps those that are our own children, whose status somebody here still asks for.
        while waiting and time.monotonic() < deadline:
            time.sleep(POLL)
            waiting = [process for process in waiting if _runs(process)]
        if not waiting:
            return


def _running(pid: int) -> Any:
    """Return a process as psutil has it, safe against reuse of the pid; None if it has ended."""
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return None
    return process if _runs(process) else None


def _runs(process: Any) -> bool:
    try:
        return bool(process.is_running()) and process.status() not in ENDED
    except psutil.NoSuchProcess:
        return False
