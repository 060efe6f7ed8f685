# SPDX-License-Identifier: Apache-2.0
"""A command's output on a node, and the error when it fails."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAIL_LINES = 25
QUESTION_LIMIT = 300  # seconds that a command may take which only looks, or stops something
CHANGE_LIMIT = 3600  # that one may take which installs or makes something
ENGINE_LIMIT = 30  # that an engine may take for an answer
KILL_AFTER = 5


class StepFailedError(DockstackError):
    """A step on a node failed; ``details`` holds the last lines of its output."""


class StepHungError(StepFailedError):
    """A command did not end in its time, and was ended."""

    def __init__(self, command: str, limit: int, details: str = "") -> None:
        """Name the command."""
        super().__init__(
            f"A command did not end within {limit} s and was ended: {command}",
            "What it asks hangs: `dockstack status` names services that do not answer. Continue or restart that one "
            "(`kill -CONT`, or `kill -9`: it is started again), look for a full or failing disk (`dmesg`), then try "
            "again.",
            details,
        )


@dataclass(frozen=True)
class Output:
    """What a command said."""

    ok: bool
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.stdout.splitlines()


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a text, without empty ones."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def limited(line: str, limit: int) -> str:
    """Return a shell line that ends another one, with what that has started, if it takes too long."""
    return shlex.join(["timeout", "-k", str(KILL_AFTER), str(limit), "sh", "-c", line])


def shell_line(
    command: str | Sequence[str],
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
) -> str:
    """Return one shell line that runs the command as wanted."""
    text = command if isinstance(command, str) else shlex.join(command)
    if not (user or environment or directory):
        return text
    if directory:
        text = f"cd {shlex.quote(directory)} && {text}"
    settings = [f"{name}={value}" for name, value in (environment or {}).items()]
    prefix = ["runuser", "-u", user, "--"] if user else []
    if settings:
        prefix += ["env", *settings]
    return shlex.join([*prefix, "sh", "-c", text])
