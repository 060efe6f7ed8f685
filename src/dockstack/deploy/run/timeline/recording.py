# SPDX-License-Identifier: Apache-2.0
"""A run as its events told it: when each stage began and ended, and the chain of stages that its time went into."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from dockstack.deploy.run.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.supervision.services import ServiceStart

AT_ONCE = 0.1  # seconds that a stage may begin after what it waited for: each costs a fork


class Ended(StrEnum):
    """How a stage ended."""

    WELL = "done"
    FAILED = "failed"
    NOT = "not finished"


class Cause(StrEnum):
    """Why a stage did not begin earlier."""

    FIRST = "it was the first"
    NEEDED = "needed"
    SLOT = "no slot was free before the end of"


@dataclass(frozen=True)
class Bar:
    """One stage of the run; times are seconds since the run began.

    Attributes:
        key: "node/stage".
        title: what a person reads.
        phase: as in the progress display.
        began: when it began.
        ended: when it ended, or was last known to run.
        after: the keys of the stages that it needed.
        how: how it ended.
        starts: the services that it started, with their times since it began.
    """

    key: str
    title: str
    phase: str
    began: float
    ended: float
    after: tuple[str, ...] = ()
    how: Ended = Ended.NOT
    starts: tuple[ServiceStart, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Link:
    """A stage of the critical path.

    Attributes:
        bar: the stage.
        cause: why it began when it did.
        before: what it had waited for; None for the first.
    """

    bar: Bar
    cause: Cause = Cause.FIRST
    before: Bar | None = None

    @property
    def reason(self) -> str:
        """The cause, as a line for people."""
        return f"{self.cause.value} {self.before.title}" if self.before else self.cause.value


@dataclass
class Recording:
    """Takes the events of one run.

    Attributes:
        called: when the command was called, by the system's clock; 0.0 if that is not known.
        before: seconds from then until the run began: the command line's own start, the checks of the machine.
        seconds: of the whole run, once it has ended.
        ok: whether it succeeded.
    """

    called: float = 0.0
    before: float = 0.0
    seconds: float = 0.0
    ok: bool = False
    _bars: dict[str, Bar] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        """Take in one event."""
        if event.kind is Kind.PLAN and self.called:
            self.before = time.time() - self.called
        elif event.kind is Kind.START:
            self._bars[event.task] = Bar(event.task, event.title, event.phase, event.at, event.at, event.after)
        elif event.kind in {Kind.DONE, Kind.FAILED} and (bar := self._bars.get(event.task)):
            how = Ended.WELL if event.kind is Kind.DONE else Ended.FAILED
            ended = bar.began + event.seconds
            self._bars[event.task] = replace(bar, ended=ended, how=how, starts=event.starts)
        elif event.kind is Kind.END:
            self.seconds, self.ok = event.seconds, event.ok

    def bars(self) -> tuple[Bar, ...]:
        """Return all stages that began, in that order; one that was interrupted ends with the run."""
        last = max([self.seconds, *(bar.ended for bar in self._bars.values())])
        closed = (replace(bar, ended=last) if bar.how is Ended.NOT else bar for bar in self._bars.values())
        return tuple(sorted(closed, key=lambda bar: bar.began))


def critical_path(bars: Iterable[Bar]) -> tuple[Link, ...]:
    """Return the chain of stages that the run's length came from, the first one first.

    It is followed back from the stage that ended last: each began when the last of those that it needed had ended, or
    later, when a slot became free (``deploy.parallel``). To shorten any other stage does not shorten the run.
    """
    by_key = {bar.key: bar for bar in bars}
    path: list[Link] = []
    current = max(by_key.values(), key=lambda bar: bar.ended, default=None)
    while current is not None:
        link = _link(current, by_key)
        path.append(link)
        del by_key[current.key]
        current = link.before
    return tuple(reversed(path))


def _link(bar: Bar, others: dict[str, Bar]) -> Link:
    needed = max((others[key] for key in bar.after if key in others), key=lambda one: one.ended, default=None)
    ready = needed.ended if needed else 0.0
    if bar.began > ready + AT_ONCE:
        earlier = [one for one in others.values() if one is not bar and ready < one.ended <= bar.began + AT_ONCE]
        if earlier:
            return Link(bar, Cause.SLOT, max(earlier, key=lambda one: one.ended))
    return Link(bar, Cause.NEEDED, needed) if needed else Link(bar)
