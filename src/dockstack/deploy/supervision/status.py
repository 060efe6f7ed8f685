# SPDX-License-Identifier: Apache-2.0
"""The condition of each service, as ``status`` shows it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.node import processes
from dockstack.deploy.supervision import readiness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.supervision.backends.model import Backend, RunState
    from dockstack.deploy.supervision.services import Service

PATIENCE = 5.0
CHECKS_AT_ONCE = 8


@dataclass(frozen=True)
class Condition:
    """One service, now.

    Attributes:
        state: "running", "stopped" or "failed".
        since: seconds since the epoch.
        memory: proportional memory of its processes, bytes.
        problem: why it is not healthy; "" if it is.
        note: what else there is to know of it.
    """

    name: str
    title: str
    state: str
    pid: int | None
    since: float | None
    memory: int
    problem: str
    note: str = ""

    @property
    def healthy(self) -> bool:
        """It runs and answers."""
        return self.state == "running" and not self.problem


def conditions(services: Sequence[Service], backend: Backend) -> list[Condition]:
    """Look at all services at once, as a hung supervisor answers about none; then ask whether they are ready."""
    if not services:
        return []
    everything = processes.snapshot()
    with ThreadPoolExecutor(len(services)) as pool:
        seen = list(pool.map(backend.look, services))
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        return list(pool.map(lambda service, state: _look(service, state, everything), services, seen))


def _look(service: Service, seen: RunState, everything: dict[int, processes.Process]) -> Condition:
    if not seen.running or seen.pid is None:
        state = "failed" if seen.failed else "stopped"
        return Condition(service.name, service.title, state, None, None, 0, seen.reason or "it does not run")
    problem = readiness.ask(service.check, patience=PATIENCE).problem if service.check else ""
    memory = processes.pss(processes.tree(seen.pid, everything))
    since = processes.started_at(seen.pid)
    main = everything.get(seen.pid)
    alone = service.shim and main is not None and not processes.FORKED.fullmatch(main.name)
    note = "not forked: it shares no memory" if alone else ""
    return Condition(service.name, service.title, "running", seen.pid, since, memory, problem, note)


def age(since: float | None, now: float | None = None) -> str:
    """Return how long ago, as a person says it."""
    if since is None:
        return "-"
    seconds = int((now or time.time()) - since)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
