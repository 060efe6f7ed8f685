# SPDX-License-Identifier: Apache-2.0
"""Hosts with servers get another version one by one, and none any more once one has failed with it.

Where no version is kept to go back to, one that does not come up must not have been given to all of them at once.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.deploy.node.connection import UnreachableError
from dockstack.deploy.run.events import Event, Kind
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class OneByOne:
    """The turns of one command."""

    def __init__(self) -> None:
        """Begin with none."""
        self._turn = threading.Lock()
        self._failed = ""

    @contextmanager
    def turn(self, name: str, tell: Callable[[Event], None]) -> Iterator[Callable[[], None]]:
        """Wait for a node's turn, and have it for the time of the block.

        Whatever the block raises, the node has failed; but for a connection that breaks before ``begun``, what it
        yields, is called: the former version runs on there, and nothing was learnt of the other one.

        Args:
            name: the node's.
            tell: told that it waits.

        Raises:
            DockstackError: another has failed with that version; or what the block raises.
        """
        if not self._turn.acquire(blocking=False):
            tell(Event(Kind.SAY, text="Waiting: nodes with servers get another version one by one"))
            self._turn.acquire()
        try:
            if self._failed:
                raise DockstackError(
                    f"{name} has servers and runs its former version on: {self._failed} failed with this one.",
                    f"See to {self._failed} first. `dockstack node upgrade` keeps the former version to go back to.",
                )
            begun = threading.Event()
            try:
                yield begun.set
            except BaseException as error:
                if begun.is_set() or not isinstance(error, UnreachableError):
                    self._failed = name
                raise
        finally:
            self._turn.release()
