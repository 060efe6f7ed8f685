# SPDX-License-Identifier: Apache-2.0
"""Progress displays: live on a terminal, plain lines elsewhere, the events themselves with ``--json``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dockstack.deploy.run.events import Event, Kind
from dockstack.display import printable
from dockstack.terminal import Screen, styled

if TYPE_CHECKING:
    from types import TracebackType

WORTH_A_LINE = 2.0  # seconds: a stage that changed nothing and was quicker is not mentioned


class Display(Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None:
        """Show one event."""
        ...

    def __enter__(self) -> Self:
        """Begin to draw."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        ...


@dataclass
class Story:
    """The state of a run as its events have reported it; shared by the displays."""

    total: int = 0
    finished: int = 0
    running: dict[str, tuple[str, float, str]] = field(default_factory=dict)  # task -> title, began, what it does now
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)  # phase -> first start, last end

    def tell(self, event: Event, now: float) -> None:
        """Take in one event."""
        if event.kind is Kind.PLAN:
            self.total = len(event.tasks)
        elif event.kind is Kind.START:
            self.running[event.task] = (event.title, now, "")
            first, last = self.phases.get(event.phase, (now, now))
            self.phases[event.phase] = (first, last)
        elif event.kind is Kind.SAY and event.task in self.running:
            title, began, _ = self.running[event.task]
            self.running[event.task] = (title, began, event.text)
        elif event.kind in {Kind.DONE, Kind.FAILED}:
            self.running.pop(event.task, None)
            self.finished += 1
            first, _ = self.phases.get(event.phase, (now, now))
            self.phases[event.phase] = (first, now)

    def phase_times(self) -> list[tuple[str, float]]:
        """Return each phase and how long it took; phases overlap."""
        return [(phase, last - first) for phase, (first, last) in self.phases.items()]


def done_line(event: Event) -> str:
    """Return the line of a finished stage, "" if it is not worth one."""
    if not event.changes and event.seconds < WORTH_A_LINE:
        return ""
    return f"{event.title} ({event.seconds:.1f} s)"


def end_lines(event: Event, story: Story) -> list[str]:
    """Return what is said at the end of a successful run."""
    what = "nothing had to be changed" if not event.changes else "done"
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in story.phase_times() if seconds >= WORTH_A_LINE)
    return [f"{story.finished} stages, {what}, in {event.seconds:.1f} s{f' ({phases})' if phases else ''}."]


def failure_lines(event: Event) -> list[str]:
    """Return the lines about a failed stage: the failure, its evidence, and how to go on."""
    lines = [f"failed: {event.title}", f"  {event.text}"]
    lines += [f"  | {line}" for line in event.details.splitlines()]
    return [*lines, f"what to do: {event.cure}"]


class Json:
    """Prints the events unchanged."""

    def show(self, event: Event) -> None:
        """Print one line."""
        print(event.line(), flush=True)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""


class Plain:
    """Prints a line for each stage that begins and ends."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self.story = Story()

    def show(self, event: Event) -> None:
        """Print what is worth a line."""
        self.story.tell(event, time.monotonic())
        lines: list[str] = []
        if event.kind is Kind.SAY:
            lines = [f"  {event.text}"]
        elif event.kind is Kind.DONE:
            lines = [f"done: {line}"] if (line := done_line(event)) else []
        elif event.kind is Kind.FAILED:
            lines = failure_lines(event)
        elif event.kind is Kind.END and event.ok:
            lines = end_lines(event, self.story)
        for line in lines:
            print(printable(line), flush=True)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""


class Terminal:
    """Draws what runs now, and leaves a line for each stage that is done."""

    def __init__(self, console: Screen) -> None:
        """Draw on this console."""
        self.story = Story()
        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=8, transient=True)

    def show(self, event: Event) -> None:
        """Take in one event; the live part draws itself."""
        self.story.tell(event, time.monotonic())
        if event.kind is Kind.DONE and (line := done_line(event)):
            self._console.print(styled(("✓ ", "green"), line))
        elif event.kind is Kind.FAILED:
            first, *rest = failure_lines(event)
            self._console.print(styled((f"✗ {first}", "bold red")))
            for line in rest:
                self._console.print(line, soft_wrap=True)
        elif event.kind is Kind.END and event.ok:
            for line in end_lines(event, self.story):
                self._console.print(styled(("✓ ", "bold green"), line))

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def _draw(self) -> Group:
        now = time.monotonic()
        table = Table.grid(padding=(0, 1))
        for title, began, doing in self.story.running.values():
            elapsed = Text(f"{now - began:4.0f} s", style="dim")
            table.add_row(
                self._spinner, title, elapsed, Text(printable(doing), style="dim", overflow="ellipsis", no_wrap=True)
            )
        return Group(table, Text(f"  {self.story.finished} of {self.story.total} stages", style="dim"))


def choose_display(*, json_lines: bool) -> Display:
    """Return the display that fits where the output goes."""
    if json_lines:
        return Json()
    console = Screen()
    return Terminal(console) if console.is_terminal else Plain()
