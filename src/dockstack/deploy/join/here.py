# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.join.here RUN``: make this machine what its commission says, and report in JSON lines.

``node add`` starts it on each node; RUN only names the process. It outlives the connection that started it, and whoever
comes again meanwhile waits behind it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.hypervisors import engine, storage
from dockstack.deploy.join import commission
from dockstack.deploy.join.stages import ComputeNode
from dockstack.deploy.node import processes
from dockstack.deploy.node.secrets import GivenSecrets
from dockstack.deploy.run import apply
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.run.lock import LOCK_FILE, BusyError, exclusive
from dockstack.deploy.run.plan import Task, tasks
from dockstack.deploy.wanted.inventory import remember
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dockstack.deploy.join.commission import Commission

POLL = 1.0


def work(told: Commission) -> tuple[Task, ...]:
    """Return what is to be done here."""
    node = told.node()
    return tasks(node, ComputeNode(node, told.document(), told.disabled).stages())


@contextmanager
def queued(tell: Callable[[Event], None], path: str | Path) -> Iterator[None]:
    """Hold the lock of this machine's cloud for the time of the block; who is at work is waited for, and told once."""
    told = False
    while True:
        try:
            with exclusive("node add", path):
                yield
                return
        except BusyError as busy:
            if not told:
                tell(Event(Kind.SAY, text=f"Waiting: {busy.brief}"))
            told = True
            time.sleep(POLL)


def main(path: str | Path = commission.PATH, lock: str | Path = LOCK_FILE) -> int:
    """Do it; the exit status is that of ``apply``."""
    try:
        with queued(apply.print_event, lock):
            # Only now, and for what it starts: another run ends what a killed one has left, but not who waits.
            os.environ[processes.RUN_MARK] = str(os.getpid())
            apply.end_leftovers()
            told = commission.read(path)
            node = told.node()
            # What later commands on this machine need to know, as of one with `up`.
            chosen = node.attributes
            remember(paths.SAVED_OPTIONS, {**storage.to_remember(chosen), **engine.to_remember(chosen)})
            return apply.carry_out(node, work(told), GivenSecrets(told.document().secrets()))
    except DockstackError as error:
        apply.print_event(Event(Kind.FAILED, text=error.brief, cure=error.resolution, details=error.details))
        apply.print_event(Event(Kind.END, ok=False))
        return 1


if __name__ == "__main__":
    sys.exit(main())
