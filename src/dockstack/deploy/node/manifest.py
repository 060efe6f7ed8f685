# SPDX-License-Identifier: Apache-2.0
"""What dockstack made on a node: noted before it is made, so that ``clean`` removes that and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dockstack.deploy.atomic_write import append_line, write_atomically


@dataclass(frozen=True)
class Made:
    """One thing that we made.

    Attributes:
        kind: file, directory, user, group, membership, package, database, bridge, venv ...
        name: unique within its kind; a path, a name.
        backup: where the file that stood there before is kept.
    """

    kind: str
    name: str
    backup: str | None = None


class Manifest:
    """The journal of a node below ``directory``: an append-only list of things, and a record of one-time actions."""

    def __init__(self, directory: str | Path) -> None:
        """Keep the journal in this directory."""
        self._directory = Path(directory)
        self._journal = self._directory / "manifest.jsonl"
        self._once = self._directory / "done"

    def made(self, kind: str, name: str, *, backup: str | None = None) -> None:
        """Note a thing that is about to be made; noting it again is harmless."""
        if not self.ours(kind, name):
            append_line(self._journal, json.dumps({"kind": kind, "name": name, "backup": backup}))

    def ours(self, kind: str, name: str) -> bool:
        """Tell whether we made it."""
        return any(entry.kind == kind and entry.name == name for entry in self.entries())

    def entries(self) -> list[Made]:
        """Return all things in the order in which they were made; a line torn by power loss is left out."""
        try:
            text = self._journal.read_text()
        except FileNotFoundError:
            return []
        entries = []
        for line in text.splitlines():
            try:
                entries.append(Made(**json.loads(line)))
            except (json.JSONDecodeError, TypeError):
                continue
        return entries

    def backup_path(self, path: str) -> str:
        """Return the backup path of a file that ours replaces."""
        return str(self._directory / "backup") + path

    def done(self, name: str) -> str | None:
        """Return the key with which a one-time action was last completed."""
        try:
            return (self._once / name).read_text()
        except FileNotFoundError:
            return None

    def set_done(self, name: str, key: str) -> None:
        """Record a completed one-time action."""
        write_atomically(self._once / name, key)

    def forget_done(self, name: str) -> None:
        """Let a one-time action be done again."""
        (self._once / name).unlink(missing_ok=True)
