# SPDX-License-Identifier: Apache-2.0
"""Progress of a run: one live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from dockstack.terminal import styled
from dockstack.verify.tempest.model import Verdict

if TYPE_CHECKING:
    from dockstack.terminal import Screen
    from dockstack.verify.tempest.model import Outcome

EVERY = 30.0  # seconds between lines where nobody watches


class Progress:
    """Counts what began and ended."""

    def __init__(self, console: Screen, total: int) -> None:
        """Begin with nothing.

        Args:
            console: where to.
            total: how many tests there will be.
        """
        self._console = console
        self._total = total
        self._counts = dict.fromkeys(Verdict, 0)
        self._running: dict[str, float] = {}
        self._status = console.status("starting the tests")
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        """Show."""
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Show no more."""
        self._status.stop()

    def begin(self, name: str) -> None:
        """Count a test that runs now."""
        self._running[name] = time.monotonic()
        self._update()

    def end(self, outcome: Outcome) -> None:
        """Count an outcome; a failure is shown at once."""
        self._running.pop(outcome.name, None)
        self._counts[outcome.verdict] += 1
        if outcome.verdict is Verdict.FAILED:
            failed = styled(("FAILED", "bold red"), f" {outcome.name}: {outcome.reason}")
            self._console.print(failed, soft_wrap=True)
        self._update()

    def line(self) -> str:
        """Say where the run is."""
        done = sum(self._counts.values())
        running = ", ".join(name.rpartition(".")[2] for name in self._running)
        counts = ", ".join(f"{self._counts[verdict]} {verdict}" for verdict in Verdict)
        return f"{done} of {self._total}: {counts}; now {running or 'between classes'}"

    def _update(self) -> None:
        if self._console.is_terminal:
            self._status.update(self.line())
        elif time.monotonic() - self._printed >= EVERY:
            self._printed = time.monotonic()
            self._console.print(self.line(), soft_wrap=True)
