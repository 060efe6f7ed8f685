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


class StepFailedError(DockstackError):
    """A step on a node failed; ``details`` holds the last lines of its output."""


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
