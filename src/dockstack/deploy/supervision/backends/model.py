# SPDX-License-Identifier: Apache-2.0
"""The interface of a supervising backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.deploy.supervision.services import Service


@dataclass(frozen=True)
class RunState:
    """Whether a service runs.

    Attributes:
        running: its main process is there.
        pid: of the main process.
        failed: it ended by itself and is not being started again.
        reason: the backend's words on why it does not run.
        waiting: its time has not begun: what ran before is asked to end, or what it requires is starting.
    """

    running: bool
    pid: int | None = None
    failed: bool = False
    reason: str = ""
    waiting: bool = False


class Backend(Protocol):
    """Starts, stops and watches services on one node."""

    name: str

    def render(self, service: Service) -> str:
        """Return the unit or program section; pure."""
        ...

    def prepare(self) -> None:
        """Make the supervisor itself ready; idempotent."""
        ...

    def wake(self) -> None:
        """Have the supervisor itself running, but start nothing."""
        ...

    def define(self, service: Service) -> bool:
        """Write the definition and make it known; return whether it changed."""
        ...

    def look(self, service: Service) -> RunState:
        """Return whether it runs."""
        ...

    def start(self, service: Service) -> None:
        """Start it, or start it anew with its present definition; return before it is ready."""
        ...

    def stop(self, service: Service) -> None:
        """Stop it and wait until it has ended; absent is success."""
        ...

    def stop_all(self, services: Sequence[Service], ended: Callable[[Service], object]) -> None:
        """Stop services side by side, each after those that require it; call ``ended`` after each."""
        ...

    def sweep(self, service: Service) -> None:
        """End processes of a running service that its main process does not know any more."""
        ...

    def remove(self, service: Service) -> None:
        """Stop it and remove its definition."""
        ...

    def finish(self) -> None:
        """End the supervisor itself after `down`, if it is ours."""
        ...

    def leave(self) -> None:
        """Undo what `prepare` did, when all services are removed."""
        ...
