# SPDX-License-Identifier: Apache-2.0
"""Have a node do what its commission says, and read on what it tells until the end.

The node's process does not depend on the connection: whoever is killed here, or cut off, leaves a run that goes on.
"""

from __future__ import annotations

import shlex
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.join import commission, look
from dockstack.deploy.node import environments
from dockstack.deploy.node.output import limited, tail
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.join.commission import Commission
    from dockstack.deploy.node.connection import Connection

RUNS = f"{paths.RUN}/add"  # what runs tell, and what they say on stderr; gone with the next boot
MODULE = "dockstack.deploy.join.here"
POLL = 1.0
SHORT = 60  # seconds for a command that only writes a file or starts a process
TAIL = 25


@dataclass
class RemoteRun:
    """One run on one node.

    Attributes:
        connection: to the node.
        python: of the command line's environment there.
        path: where the node's commission is.
        runs: the directory of what runs tell.
        name: this one's.
    """

    connection: Connection
    python: str
    path: str = commission.PATH
    runs: str = RUNS
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def hand_over(self, told: Commission) -> None:
        """Write the commission whole, readable by root only; it travels on standard input, as it holds secrets.

        Raises:
            DockstackError: the node did not take it.
        """
        new, place = shlex.quote(f"{self.path}.{self.name}"), shlex.quote(self.path)
        line = (
            f"mkdir -p {shlex.quote(self.path.rpartition('/')[0])} && umask 077 && rm -f {new} && cat >{new}"
            f" && sync {new} && mv -f {new} {place}"
        )
        if not self.connection.run(limited(line, SHORT), told.text(), patience(SHORT)).ok:
            raise DockstackError(
                f"{self.connection.node.name} does not take its commission.", f"Can root write {self.path} there?"
            )

    def start(self) -> int:
        """Start the run and return its process id."""
        index = [f"PIP_INDEX_URL={value}" for value in environments.index_environment().values()]
        program = shlex.join(["env", *index, "setsid", self.python, "-m", MODULE, self.name])
        file = shlex.quote(f"{self.runs}/{self.name}")
        line = f"cd / && umask 022 && mkdir -p -m 700 {shlex.quote(self.runs)} && : >{file} || exit 1"
        line += f"; {program} </dev/null >{file} 2>{file}.err & echo $!"
        return int(look.ask(self.connection, line).stdout.strip() or 0)

    def follow(self, pid: int, tell: Callable[[Event], None]) -> Event:
        """Pass on what the run tells, and return its last event.

        Raises:
            DockstackError: it ended before its end, as by kill -9 or for want of memory.
            UnreachableError: the connection broke; the run goes on.
        """
        file, seen = shlex.quote(f"{self.runs}/{self.name}"), 0
        while True:
            # First whether it lives: then, of one that does not, all has been read.
            line = f"grep -qs {self.name} /proc/{pid}/cmdline && echo alive || echo gone; tail -n +{seen + 1} {file}; :"
            state, *lines = look.ask(self.connection, line).lines or ["gone"]
            for text in lines:
                event = parse(text)
                if event is None and state == "alive" and text == lines[-1]:
                    break  # half of a line
                seen += 1
                if event is not None and event.kind is Kind.END:
                    return event
                if event is not None:
                    tell(event)
            if state == "gone":
                raise self._broken_off(file)
            time.sleep(POLL)

    def _broken_off(self, file: str) -> DockstackError:
        said = look.ask(self.connection, f"tail -n {TAIL} {file}.err; :").stdout
        return DockstackError(
            f"The run on {self.connection.node.name} ended before its end.",
            "Was it killed, or memory short? Run the command again: it goes on from here.",
            tail(said),
        )
