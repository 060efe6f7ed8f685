# SPDX-License-Identifier: Apache-2.0
"""What every machine can be asked to do, and the plain shell on this one, which commands use that only look or stop."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.node.output import (
    KILL_AFTER,
    QUESTION_LIMIT,
    Output,
    StepFailedError,
    StepHungError,
    limited,
    shell_line,
    tail,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Shell(ABC):
    """Runs commands and writes files on a machine."""

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        check: bool = True,
        limit: int = QUESTION_LIMIT,
    ) -> Output:
        """Run a command that changes nothing and return its output.

        Args:
            command: argument list, or one shell line.
            user: run as this user.
            stdin: text for its standard input; the only place for a secret.
            environment: added to its environment; never a secret.
            directory: working directory.
            check: raise if it fails.
            limit: seconds that it may take; then it is ended, and counts as failed.

        Raises:
            StepFailedError: it failed and ``check`` is set.
            StepHungError: likewise, because it did not end in its time.
        """
        line = self._within(shell_line(command, user=user, environment=environment, directory=directory), limit)
        began = time.monotonic()
        try:
            result = self._execute(line, stdin, patience(limit))
        except TimeoutError:  # something of it could not be ended, or has left the pipe to others
            result = Output(ok=False, stdout="", stderr="")
        if check and not result.ok:
            what, said = self._redact(shell_line(command)), self._redact(tail(f"{result.stdout}\n{result.stderr}"))
            if time.monotonic() - began >= limit:
                raise StepHungError(what, limit, said)
            raise self._failure(what, said)
        return result

    @abstractmethod
    def file(
        self, path: str, content: str | bytes, *, owner: str = "root", group: str | None = None, mode: int = 0o644
    ) -> bool:
        """Write a file whole if it differs; return whether it did."""

    @abstractmethod
    def absent(self, path: str) -> bool:
        """Remove a file or link; return whether it was there."""

    @abstractmethod
    def _execute(self, line: str, stdin: str | None, timeout: int) -> Output:
        """Run a shell line.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
        """

    @abstractmethod
    def _failure(self, what: str, said: str) -> StepFailedError:
        """Return the error for a command that failed."""

    def _within(self, line: str, limit: int) -> str:
        """Return a line that is ended after so many seconds, with all that it has started."""
        return limited(line, limit)

    def _redact(self, text: str) -> str:
        """Return a text without the secrets that this shell knows."""
        return text


class LocalShell(Shell):
    """The shell of this machine. It knows no secrets, and need not load the engine of the recipes."""

    def file(
        self, path: str, content: str | bytes, *, owner: str = "root", group: str | None = None, mode: int = 0o644
    ) -> bool:
        """Write a file if its content differs."""
        data = content.encode() if isinstance(content, str) else content
        target = Path(path)
        if target.is_file() and target.read_bytes() == data:
            return False
        write_atomically(target, data, mode=mode)
        if owner != "root" or os.geteuid() == 0:
            shutil.chown(target, owner, group or pwd.getpwnam(owner).pw_gid)
        return True

    def absent(self, path: str) -> bool:
        """Remove a file or link."""
        target = Path(path)
        present = target.exists() or target.is_symlink()
        target.unlink(missing_ok=True)
        return present

    def _execute(self, line: str, stdin: str | None, timeout: int) -> Output:
        return execute_here(line, stdin, timeout)

    def _failure(self, what: str, said: str) -> StepFailedError:
        return StepFailedError(f"A command failed: {what}", "See its output above.", said)


def execute_here(line: str, stdin: str | None, timeout: int) -> Output:
    """Run a shell line on this machine, as whoever we are.

    Raises:
        TimeoutError: it takes longer than ``timeout`` seconds.
    """
    try:
        done = subprocess.run(
            ["sh", "-c", line],
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    return Output(done.returncode == 0, done.stdout.removesuffix("\n"), done.stderr.removesuffix("\n"))


def patience(limit: int) -> int:
    """Return when not even the end of a command is waited for any more."""
    return limit + 2 * KILL_AFTER
