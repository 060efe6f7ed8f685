# SPDX-License-Identifier: Apache-2.0
"""What this machine knows of the nodes that it has added: how far each came, noted before each step begins.

What is done and what is left stands on the nodes and in their cloud, where each command looks; so that this is for
people, and for a node that does not answer any more.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = f"{paths.STATE_DIRECTORY}/nodes"


class Step(StrEnum):
    """How far a node came."""

    SENDING = "sending dockstack"  # to it
    RUNNING = "joining"  # its own run; it goes on without us
    JOINED = "joined"
    PROVING = "being proven"
    ENABLED = "enabled"
    DRAINING = "draining"
    DRAINED = "drained"
    UPGRADING = "upgrading"
    REMOVING = "removing"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """One node.

    Attributes:
        node: what the person calls it.
        login: how it was reached, as user@address:port.
        hostname: what Nova calls it.
        release: OpenStack's, which it has or is to have.
        step: how far it came.
        at: since when, seconds since the epoch.
        problem: why it failed.
        cure: what to do about that.
        key: the file of the private key by which it was reached, "" for that of SSH's own settings; likewise below.
        jump: the hosts on the way to it.
        known_hosts: the file with its host key.
    """

    node: str
    login: str
    hostname: str
    release: str
    step: Step = Step.SENDING
    at: float = field(default_factory=time.time)
    problem: str = ""
    cure: str = ""
    key: str = ""
    jump: str = ""
    known_hosts: str = ""

    def now(self, step: Step, problem: str = "", cure: str = "") -> Entry:
        """Return it a step further."""
        return replace(self, step=step, at=time.time(), problem=problem, cure=cure)


class Journal:
    """One file a node, each written whole."""

    def __init__(self, directory: str | Path = DIRECTORY) -> None:
        """Keep it in this directory."""
        self._directory = Path(directory)

    def note(self, entry: Entry) -> None:
        """Write down how far a node came.

        Raises:
            DockstackError: this cannot be written.
        """
        try:
            write_atomically(self._path(entry.node), json.dumps(asdict(entry), indent=1) + "\n")
        except OSError as error:
            raise DockstackError(
                f"{self._directory} cannot be written: {error.strerror}.", "Run this command as root."
            ) from error

    def entry(self, node: str) -> Entry | None:
        """Return what is known of one node."""
        return next((entry for entry in self._entries() if entry.node == node), None)

    def hostname(self, node: str) -> str:
        """Return what Nova calls a node, "" if it is not known here."""
        found = self.entry(node)
        return found.hostname if found else ""

    def now(self, node: str, step: Step, problem: str = "", cure: str = "") -> None:
        """Note that a node which is known here has come to another step; of others, nothing is noted."""
        found = self.entry(node)
        if found is not None:
            self.note(found.now(step, problem, cure))

    def forget(self, node: str) -> None:
        """Know nothing of a node that is none any more."""
        self._path(node).unlink(missing_ok=True)

    def entries(self) -> tuple[Entry, ...]:
        """Return all nodes by their names; a file that is none of ours is left out."""
        return tuple(self._entries())

    def _entries(self) -> Iterator[Entry]:
        for path in sorted(self._directory.glob("*.json")):
            try:
                plain = json.loads(path.read_text())
                yield Entry(**{**plain, "step": Step(plain["step"])})
            except (ValueError, TypeError, KeyError):
                continue

    def _path(self, node: str) -> Path:
        return self._directory / f"{quote(node, safe='')}.json"
