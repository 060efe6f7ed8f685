# SPDX-License-Identifier: Apache-2.0
"""Make a compute node a machine like any other again, and have its cloud forget it; killed anywhere, begun again.

The order matters: nothing more is placed there, nova-compute ends before its record goes (it would make it anew), and
Nova itself says once more that nobody is there before anything of a server is removed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.administration import departure, hosts, providers
from dockstack.deploy.join import look
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.journal import Journal, Step
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.peers import Peers
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.output import limited, tail
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.lock import LOCK_FILE
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.inventory import Node

LIMIT = 900  # seconds for `down`, and for `clean`


class State(StrEnum):
    """What a machine is to us."""

    CONTROLLER = "controller"
    NODE = "node"
    REST = "rest"  # of a node, or of a command line alone
    NOTHING = "nothing"


@dataclass(frozen=True)
class Left:
    """What came of a host: what Nova called it, and whether anything of it was there."""

    hostname: str
    changed: bool


@dataclass(frozen=True)
class Leaving:
    """What removing any node needs; one object for all of them.

    Attributes:
        cloud: theirs.
        command_line: the running dockstack, for a node that has lost its own.
        journal: what is noted of them here.
        peers: whom nodes let send them servers.
        certificates: what the cloud's authority gave nodes.
        roots: the directories that `clean` removes last.
        identity: where nova-compute keeps who it is.
        guard: the lock of whoever changes what is there.
    """

    cloud: Cloud
    command_line: CommandLine = field(default_factory=CommandLine)
    journal: Journal = field(default_factory=Journal)
    peers: Peers = field(default_factory=Peers)
    certificates: NodeCertificates = field(default_factory=NodeCertificates)
    roots: tuple[str, ...] = (paths.ETC, paths.VAR, paths.OPT)
    identity: str = "/var/lib/nova/compute_id"
    guard: str = LOCK_FILE

    def leave(self, node: Node, tell: Callable[[str], None], *, packages: bool = False) -> Left:
        """Remove a node from its machine and from its cloud.

        Args:
            node: it.
            tell: told of what goes on now.
            packages: purge the distribution's packages that were installed for it, too.

        Raises:
            DockstackError: there are servers on it, it cannot be reached, or something stays.
        """
        connection = connect(node)
        hostname = self.journal.hostname(node.name) or look.hostname(connection)
        self._await_others(connection, tell)
        state = self._state(connection)
        if state is State.CONTROLLER:
            raise DockstackError(
                f"{node.name} holds a cloud that `dockstack up` made: it is more than a compute node.",
                "There, `dockstack clean` removes the whole cloud.",
            )
        there = bool(departure.left_of(self.cloud, hostname))
        if state is State.REST and not self.journal.entry(node.name):
            state = State.NOTHING  # a command line that somebody has installed
        if not there and state is State.NOTHING:
            self._forget_here(node)
            return Left(hostname, changed=False)
        self._require_identity(connection, hostname)
        self.journal.now(node.name, Step.REMOVING)
        tell("Having nothing more placed on it")
        departure.close(self.cloud, hostname)
        if state is not State.NOTHING:
            tell("Stopping its services")
            self._have(connection, "down")
        departure.forget_service(self.cloud, hostname, tell)
        if state is not State.NOTHING:
            tell("Removing what dockstack has made there")
            self._have(connection, "clean", "--yes", *(["--packages"] if packages else []))
        return self._forget(node, hostname, tell)

    def give_up(self, node: Node, tell: Callable[[str], None]) -> Left:
        """Have the cloud forget a node whose machine is dead.

        Raises:
            DockstackError: it is alive, or has servers that were not evacuated.
        """
        hostname = self.journal.hostname(node.name) or node.name
        if not departure.left_of(self.cloud, hostname):
            self._forget_here(node)
            return Left(hostname, changed=False)
        self.journal.now(node.name, Step.REMOVING)
        departure.declare_lost(self.cloud, hostname)
        departure.forget_service(self.cloud, hostname, tell)
        return self._forget(node, hostname, tell)

    def _await_others(self, connection: Connection, tell: Callable[[str], None]) -> None:
        """Wait for what a command that was killed, or cut off, has left at work there.

        Raises:
            DockstackError: it does not come to an end.
        """
        guard = shlex.quote(self.guard)
        if not look.ask(connection, f"flock --nonblock {guard} true || echo busy; :").lines:
            return
        tell("Waiting until the command ends that is at work there")
        line = f"flock --timeout {LIMIT} {guard} true"
        if not connection.run(limited(line, 2 * LIMIT), None, patience(2 * LIMIT)).ok:
            raise DockstackError(
                f"Another command is at work on {connection.node.name}, for more than {LIMIT} s.",
                "See what hangs there, and run this again: it goes on from here.",
            )

    def _require_identity(self, connection: Connection, hostname: str) -> None:
        """Refuse a machine that only has the name of a host: the cloud would lose another one.

        One that has lost its identity, as by `clean`, may be the host, unless that one reports.

        Raises:
            DockstackError: another machine is that host.
        """
        own = look.ask(connection, f"cat {shlex.quote(self.identity)} 2>/dev/null; :").stdout.strip()
        provider, service = providers.provider(self.cloud, hostname), hosts.service(self.cloud, hostname)
        if provider is None or own == provider.id:
            return
        if own or (service is not None and service.up):
            raise DockstackError(
                f"{connection.node.name} is not the host {hostname} of the cloud: another machine is, or was just now.",
                "There, `dockstack clean` removes what dockstack has made. If it was that host and has been cleaned "
                "already, try again in a minute.",
            )

    def _forget(self, node: Node, hostname: str, tell: Callable[[str], None]) -> Left:
        departure.forget_agents(self.cloud, hostname, tell)
        left = departure.left_of(self.cloud, hostname)
        if left:
            raise DockstackError(
                f"The cloud still has of {hostname}: {', '.join(left)}.",
                "Does its nova-compute run somewhere? End it, and run this again.",
            )
        self._forget_here(node)
        return Left(hostname, changed=True)

    def _forget_here(self, node: Node) -> None:
        self.peers.forget(node.name)
        self.certificates.forget(node.name)
        self.journal.forget(node.name)

    def _state(self, connection: Connection) -> State:
        etc = self.roots[0]
        secrets, commission = (f"{etc}/{path.rpartition('/')[2]}" for path in (paths.SECRETS_FILE, paths.COMMISSION))
        anything = f"ls -d {shlex.join(self.roots)} 2>/dev/null | grep -q ."
        line = (
            f"if test -e {shlex.quote(secrets)}; then echo controller; elif test -e {shlex.quote(commission)};"
            f" then echo node; elif {anything}; then echo rest; else echo nothing; fi"
        )
        return State(look.ask(connection, line).stdout.strip())

    def _have(self, connection: Connection, *words: str) -> None:
        """Have the node's own dockstack do something; it is sent again if a `clean` that was killed has removed it."""
        python = self.command_line.python
        if not look.ask(connection, f"test -x {shlex.quote(python)} && echo there; :").lines:
            found = look.distribution_of(connection.node, look.os_release(connection))
            self.command_line.ship(connection, look.or_debian(found))
        line = shlex.join([python, "-m", "dockstack.cli", *words])
        try:
            done = connection.run(limited(f"cd / && {line}", LIMIT), None, patience(LIMIT))
        except TimeoutError as error:
            raise DockstackError(
                f"`dockstack {words[0]}` on {connection.node.name} has not ended within {LIMIT} s.",
                "See what hangs there, and run this again: it goes on from here.",
            ) from error
        if not done.ok:
            raise DockstackError(
                f"`dockstack {words[0]}` on {connection.node.name} failed.",
                "Correct the cause that stands above, and run this again: it goes on from here.",
                tail(f"{done.stdout}\n{done.stderr}"),
            )
