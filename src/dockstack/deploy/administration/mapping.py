# SPDX-License-Identifier: Apache-2.0
"""Have a host mapped to its cell, without which Nova places nothing on it.

Only a machine with the API database can: by itself every few seconds where ``up`` made the cloud, elsewhere by a
command of the operator's. That command is never run twice at a time, as the second ends with status 2.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

from dockstack.deploy.administration import hosts
from dockstack.deploy.node.output import tail
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud

COMMAND = "nova-manage cell_v2 discover_hosts"
BUSY = 2  # nova/cmd/manage.py: another one maps hosts at this moment
BUSY_TRIES = 12
BUSY_PAUSE = 5.0
COMMAND_LIMIT = 300
PATIENCE = 120.0  # seconds for a controller that does so by itself
AFTER_COMMAND = 10.0
POLL = 2.0


class Mapping:
    """Maps hosts of one cloud; one object for all, as they share the command."""

    def __init__(self, cloud: Cloud, command: str = "") -> None:
        """Take the command for the shell of this machine, "" where controllers map hosts by themselves."""
        self._cloud = cloud
        self._command = command
        self._at_work = threading.Lock()

    def ensure(self, host: str, tell: Callable[[str], None]) -> bool:
        """Have a host mapped; return whether it was not before.

        Raises:
            DockstackError: nobody has mapped it, or the command failed.
        """
        if hosts.is_mapped(self._cloud, host):
            return False
        if not self._command:
            tell(f"Waiting until a controller maps it; run there what does: {COMMAND}")
            self._await(host, PATIENCE)
            return True
        with self._at_work:
            if hosts.is_mapped(self._cloud, host):  # by the run for another one
                return True
            tell("Mapping it to its cell")
            self._run()
        self._await(host, AFTER_COMMAND)
        return True

    def _await(self, host: str, patience: float) -> None:
        if not wait_for(lambda: hosts.is_mapped(self._cloud, host), patience, POLL):
            raise DockstackError(
                f"No controller has mapped {host} to a cell; it stays disabled.",
                f"Run on one, never twice at a time: {COMMAND}. Or give deploy.map_command. Then run the command "
                "again: it goes on from here.",
            )

    def _run(self) -> None:
        for _ in range(BUSY_TRIES):
            try:
                done = subprocess.run(
                    ["sh", "-c", self._command],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=COMMAND_LIMIT,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise self._failure(f"has not ended within {COMMAND_LIMIT} s", "") from error
            if done.returncode != BUSY:
                break
            time.sleep(BUSY_PAUSE)
        if done.returncode:
            raise self._failure(f"ended with status {done.returncode}", tail(f"{done.stdout}\n{done.stderr}"))

    def _failure(self, what: str, said: str) -> DockstackError:
        return DockstackError(
            f"The command that maps hosts {what}: {self._command}",
            "Correct deploy.map_command, then run this again: it goes on from here.",
            said,
        )
