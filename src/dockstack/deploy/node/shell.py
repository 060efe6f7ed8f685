# SPDX-License-Identifier: Apache-2.0
"""A plain shell on this machine, for commands that only look or stop: they need not load the engine of the recipes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
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


class LocalShell:
    """Runs commands and writes files on this machine."""

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
        """Run a command and return its output.

        Raises:
            StepFailedError: it failed and ``check`` is set.
            StepHungError: likewise, because it did not end within ``limit`` seconds.
        """
        line = shell_line(command, user=user, environment=environment, directory=directory)
        began = time.monotonic()
        try:
            done = subprocess.run(
                ["sh", "-c", limited(line, limit)],
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=limit + 2 * KILL_AFTER,
            )
        except subprocess.TimeoutExpired as error:  # something of it could not be ended
            if check:
                raise StepHungError(line, limit) from error
            return Output(ok=False, stdout="", stderr="")
        if check and done.returncode != 0 and time.monotonic() - began >= limit:
            raise StepHungError(line, limit, tail(done.stdout + done.stderr))
        if check and done.returncode != 0:
            raise StepFailedError(f"A command failed: {line}", "See its output above.", tail(done.stdout + done.stderr))
        return Output(done.returncode == 0, done.stdout.rstrip("\n"), done.stderr.rstrip("\n"))

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
