# SPDX-License-Identifier: Apache-2.0
"""``bench up``: how long the cloud takes to come up, and what it weighs when it idles.

The commands of the command line are timed, each in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dockstack.errors import DockstackError
from dockstack.terminal import styled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TAIL_LINES = 20
BUDGETS = {"fresh up": 300.0, "second up": 10.0, "warm up": 60.0}  # seconds; memory below
IDLE_BUDGET_MIB = 3072
MIB = 1024 * 1024


@dataclass(frozen=True)
class Step:
    """One task of ``up``, as its own events tell."""

    task: str
    phase: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """One command, from outside."""

    name: str
    seconds: float
    changes: int = 0
    steps: tuple[Step, ...] = ()

    @property
    def within_budget(self) -> bool | None:
        """Whether it kept its budget; None if it has none."""
        budget = BUDGETS.get(self.name)
        return None if budget is None else self.seconds <= budget


@dataclass(frozen=True)
class Measured:
    """All that one run of ``bench up`` measured; memory is PSS in MiB, by service."""

    runs: tuple[Run, ...]
    memory: dict[str, float]
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def memory_total(self) -> float:
        """The whole idle cloud."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Phases:
    """Which commands to time."""

    fresh: bool  # remove everything first
    warm: bool  # stop and start
    idle_seconds: float


def measure(command: Sequence[str], phases: Phases, machine: dict[str, Any], say: Callable[[str], None]) -> Measured:
    """Time the commands one after another; ``command`` is how `dockstack` is called.

    Raises:
        DockstackError: one of the commands failed; the details hold its last lines.
    """
    runs: list[Run] = []
    if phases.fresh:
        say("removing the cloud")
        runs.append(timed(command, "clean", ["clean", "--yes"]))
        say("bringing it up from nothing")
        runs.append(timed(command, "fresh up", ["up", "--json"]))
    say("up, with nothing to do")
    runs.append(timed(command, "second up", ["up", "--json"]))
    if phases.warm:
        say("stopping")
        runs.append(timed(command, "down", ["down"]))
        say("starting again")
        runs.append(timed(command, "warm up", ["up", "--json"]))
    say(f"letting it idle for {phases.idle_seconds:g} s")
    time.sleep(phases.idle_seconds)
    memory = memory_of(json.loads(output_of([*command, "status", "--json"])))
    return Measured(tuple(runs), memory, machine)


def timed(command: Sequence[str], name: str, arguments: Sequence[str]) -> Run:
    """Run one command and read the events that it prints."""
    started = time.monotonic()
    text = output_of([*command, *arguments])
    seconds = time.monotonic() - started
    events = list(events_in(text))
    steps = tuple(
        Step(str(event.get("task", "")), str(event.get("phase", "")), float(event.get("seconds", 0.0)))
        for event in events
        if event.get("event") == "done"
    )
    changes = sum(int(event.get("changes", 0)) for event in events if event.get("event") == "end")
    return Run(name, seconds, changes, steps)


def output_of(command: Sequence[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        DockstackError: it failed.
    """
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join([*done.stdout.splitlines(), *done.stderr.splitlines()][-TAIL_LINES:])
        raise DockstackError(f"`{' '.join(command)}` failed.", "Mend that first, then measure.", tail)
    return done.stdout


def events_in(text: str) -> Iterable[dict[str, Any]]:
    """Yield the events of ``up --json``: one JSON object a line; other lines are left out."""
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def memory_of(status: dict[str, Any]) -> dict[str, float]:
    """Return each service's PSS in MiB from ``status --json``, which tells bytes."""
    return {
        str(service["name"]): round(float(service.get("memory") or 0) / MIB, 1)
        for service in status.get("services", ())
    }


def runs_table(measured: Measured) -> Table:
    """Build the table of commands."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("command")
    for title in ("seconds", "budget", "changes"):
        table.add_column(title, justify="right")
    for run in measured.runs:
        budget = BUDGETS.get(run.name)
        colour = "red" if run.within_budget is False else "green"
        seconds = styled(f"{run.seconds:.1f}" if budget is None else (f"{run.seconds:.1f}", colour))
        table.add_row(run.name, seconds, f"{budget:g}" if budget else "", str(run.changes) if run.steps else "")
    return table


def steps_table(run: Run, longest: int = 12) -> Table:
    """Build the table of a run's longest steps."""
    table = Table(title=f"{run.name}: where the time went", box=None, pad_edge=False, header_style="bold")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for step in sorted(run.steps, key=lambda each: -each.seconds)[:longest]:
        table.add_row(step.task, f"{step.seconds:.1f}")
    return table


def memory_table(measured: Measured) -> Table:
    """Build the table of memory, the largest first."""
    table = Table(title="idle memory, PSS", box=None, pad_edge=False, header_style="bold")
    table.add_column("service")
    table.add_column("MiB", justify="right")
    for name, mib in sorted(measured.memory.items(), key=lambda each: -each[1]):
        table.add_row(name, f"{mib:.0f}")
    table.add_row("all", f"{measured.memory_total:.0f} of {IDLE_BUDGET_MIB}")
    return table


def document_of(measured: Measured) -> dict[str, Any]:
    """Build the document for machines."""
    return {
        "machine": measured.machine,
        "runs": [asdict(run) | {"within_budget": run.within_budget} for run in measured.runs],
        "idle_memory_mib": measured.memory,
        "idle_memory_total_mib": round(measured.memory_total, 1),
        "budgets": {"seconds": BUDGETS, "idle_memory_mib": IDLE_BUDGET_MIB},
    }
