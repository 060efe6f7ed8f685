# SPDX-License-Identifier: Apache-2.0
"""What runs on this machine: process trees, memory, and processes that carry one of our marks."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
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
# The real user: a setuid program that somebody has started under a name of his choice is root's by the effective one.
LISTING = ("ps", "-e", "-o", "pid=,ppid=,cputimes=,ruid=,pidns=,comm=")
FORKED = re.compile(r"forked:([1-9]\d*)")  # a shim that stands for another process (payload/fork_shim.py)
SHIM = "fork_shim.py"
COLUMNS = 5  # of LISTING, and a name, which may be empty
POLL = 0.05
KILL_GRACE = 5.0
ENDED = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
ENDED_STATES = frozenset("ZXx")
STARTTIME = 17  # its place after the parent's pid
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process at one moment."""

    pid: int
    parent: int
    started: float  # seconds since the epoch
    name: str  # its first 15 bytes


def snapshot() -> dict[int, Process]:
    """Return all processes by pid; those that end meanwhile are left out."""
    everything = {pid: process for pid in psutil.pids() if (process := look(pid)) is not None}
    return _adopted(everything, stands_for)


def _adopted(everything: dict[int, Process], stands: Callable[[int, int], bool]) -> dict[int, Process]:
    """Have each process that was forked for a shim be the shim's child: to its supervisor, it is.

    Args:
        everything: all processes.
        stands: whether a process is a shim, and stands for another one: names are free to choose, also in containers.
    """
    for shim in list(everything.values()):
        named = FORKED.fullmatch(shim.name)
        pid = int(named[1]) if named else 0
        if pid in everything and stands(shim.pid, pid):
            everything[pid] = replace(everything[pid], parent=shim.pid)
    return everything


def stands_for(shim: int, forked: int) -> bool:
    """Return whether a process of this machine's root is a shim of ours, and has the mark that the other one has."""
    try:
        ours = psutil.Process(shim).uids().real == 0 and any(Path(word).name == SHIM for word in arguments(shim))
    except psutil.Error:
        return False
    own = _namespace("self")
    here = all(_namespace(str(pid)) == own for pid in (shim, forked))
    return ours and here and mark(shim, SERVICE_MARK) == mark(forked, SERVICE_MARK)


def look(pid: int) -> Process | None:
    """Return one process, or None if it is gone or a zombie.

    Its file is read here (proc(5), stat): psutil takes ten times as long, and all processes are looked at for each
    service of a run.
    """
    try:
        before, _, after = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return None
    state, parent, *rest = after.split()
    if state in ENDED_STATES:
        return None
    return Process(pid, int(parent), _booted() + int(rest[STARTTIME]) / _TICKS, before.partition("(")[2])


@cache
def _booted() -> float:
    booted: float = psutil.boot_time()
    return booted


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
    rows = [row for line in listing if len(row := (*line.split(maxsplit=5), "")) > COLUMNS]
    everything = {int(one): Process(int(one), int(parent), 0, name) for one, parent, _, _, _, name, *_ in rows}
    users = {int(one): (user, namespace) for one, _, _, user, namespace, *_ in rows}
    roots = ("0", users.get(pid, ("", ""))[1])

    def stands(shim: int, forked: int) -> bool:
        return users[shim] == roots and users[forked][1] == roots[1]

    wanted = tree(pid, _adopted(everything, stands))
    return sum(int(seconds) for one, _, seconds, *_ in rows if int(one) in wanted)


def mark(pid: int, name: str) -> str | None:
    """Return the value of an environment variable with which a process was started."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    start = f"{name}=".encode()
    values = (each[len(start) :] for each in environment.split(b"\0") if each.startswith(start))
    value = next(values, None) if start in environment else None
    return None if value is None else os.fsdecode(value)


def marked(name: str, value: str | None = None) -> dict[int, str]:
    """Return pid -> value of all processes that carry a mark.

    Those in other pid namespaces are left out: a container may hold a dockstack of its own.
    """
    marks = {pid: seen for pid in psutil.pids() if (seen := mark(pid, name)) is not None}
    own = _namespace("self")
    return {pid: seen for pid, seen in marks.items() if value in (None, seen) and _namespace(str(pid)) == own}


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
