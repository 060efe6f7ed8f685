# SPDX-License-Identifier: Apache-2.0
"""Events of a run: one JSON object a line, the same for the progress display and for ``--json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from dockstack.deploy.supervision.services import ServiceStart


class Kind(StrEnum):
    """What happened."""

    PLAN = "plan"  # the list of tasks, once
    START = "start"  # a task begins
    SAY = "say"  # what a running task does now
    DONE = "done"  # a task succeeded
    FAILED = "failed"  # a task failed
    END = "end"  # the run is over


@dataclass(frozen=True)
class Event:
    """One line.

    Attributes:
        kind: what happened.
        task: "node/stage", where it belongs to one.
        title: what a person reads.
        phase: the task's phase.
        text: what a task does now, or what failed.
        cure: what to do about a failure.
        details: the last lines of the failing log.
        changes: how much a task or the run changed.
        seconds: how long it took.
        ok: whether the run succeeded.
        tasks: the keys of all tasks, in the plan.
        services: the services that a finished task looks after.
        at: when the task began, seconds since the run began.
        after: the keys of the tasks that it had waited for.
        starts: the services that a finished task started, each with its time since the task began.
    """

    kind: Kind
    task: str = ""
    title: str = ""
    phase: str = ""
    text: str = ""
    cure: str = ""
    details: str = ""
    changes: int = 0
    seconds: float = 0.0
    ok: bool = True
    tasks: tuple[str, ...] = field(default=())
    services: tuple[str, ...] = field(default=())
    at: float = 0.0
    after: tuple[str, ...] = field(default=())
    starts: tuple[ServiceStart, ...] = field(default=())

    def line(self) -> str:
        """Return the event as one JSON line; fields without a value are left out, except ``ok`` of the end."""
        plain = {name: value for name, value in asdict(self).items() if value not in ("", 0, 0.0, ()) and name != "ok"}
        if self.kind is Kind.END:
            plain |= {"ok": self.ok, "changes": self.changes}
        return json.dumps({"event": plain.pop("kind"), **plain})


def parse(line: str) -> Event | None:
    """Return the event of a line, or None if it is not an event (a library may print warnings)."""
    try:
        plain: Any = json.loads(line)
        if not isinstance(plain, dict):
            return None
        kind = Kind(plain.pop("event"))
    except (json.JSONDecodeError, KeyError, ValueError):
        return None
    for name in ("tasks", "services", "after"):
        plain[name] = tuple(plain.get(name, ()))
    plain["starts"] = tuple(ServiceStart(*start) for start in plain.get("starts", ()))
    return Event(kind, **plain)
