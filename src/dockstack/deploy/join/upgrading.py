# SPDX-License-Identifier: Apache-2.0
"""Bring a compute node to the running dockstack and its locks; one that does not come up with it gets its former back.

A node is upgraded by the run that made it, which changes what differs and restarts what has to be. What it ran with is
kept until the cloud has heard from its new nova-compute. Servers are not touched: the engine goes on, and so does what
runs in it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.administration import hosts
from dockstack.deploy.administration.enrolment import Enrolled, is_awaited
from dockstack.deploy.configuration import scripts
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join import look
from dockstack.deploy.join.adding import Adding, is_in
from dockstack.deploy.join.journal import Step
from dockstack.deploy.join.survey import survey
from dockstack.deploy.node.connection import UnreachableError, connect
from dockstack.deploy.node.output import CHANGE_LIMIT, limited, tail
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.run.lock import LOCK_FILE
from dockstack.errors import DockstackError
from dockstack.names import UUID_LABEL
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.join.journal import Entry
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node

REPORT = 180.0  # seconds until the cloud has heard from the new nova-compute: it reports every ten
POLL = 2.0
FORMER = f"{paths.OPT}/former"
STARTED = "{{.Name}} {{.Id}} {{.State.StartedAt}}"


@dataclass(frozen=True)
class Upgraded:
    """What came of a node.

    Attributes:
        changes: how much its run changed; 0 if it was as it should be.
        seconds: how long its run took.
        disturbed: servers that do not run any more, or run anew: by this, or by their users meanwhile.
    """

    changes: int = 0
    seconds: float = 0.0
    disturbed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where things are on a node."""

    environments: tuple[str, ...] = (paths.CLI_VENV, paths.OPENSTACK_VENV)
    commission: str = paths.COMMISSION
    former: str = FORMER
    guard: str = LOCK_FILE


@dataclass(frozen=True)
class Upgrading:
    """What upgrading any node needs; one object for all of them.

    Attributes:
        cloud: theirs.
        document: what they must know of it.
        adding: makes a node what it is to be; without letting it in, which it is.
        places: where things are on a node.
        look_again: looks at a node when its run is over.
        patience: seconds that a node may take to report before it is begun with, as after a restart of the cloud.
    """

    cloud: Cloud
    document: CloudDocument
    adding: Adding = field(default_factory=lambda: Adding(command="dockstack node upgrade"))
    places: Places = field(default_factory=Places)
    look_again: Callable[[Node, CloudDocument], Survey] = survey
    patience: float = 0.0

    def is_due(self, node: Node, looked: Survey) -> bool:
        """Tell whether a node that is in has another dockstack or release, or an upgrade of it was killed.

        One that has not been let in yet has nothing to go back to.
        """
        connection = connect(node)
        service = hosts.service(self.cloud, looked.plan.hostname)
        if service is None or is_awaited(service) or not self._is_there(connection, self.places.commission):
            return False
        has_all = self.adding.command_line.is_on(connection) and not looked.plan.environments
        return not has_all or self._has_kept(connection)

    def upgrade(self, node: Node, looked: Survey, tell: Callable[[Event], None]) -> Upgraded:
        """Upgrade a node that has been looked at.

        Raises:
            UnreachableError: the connection broke; the node's run goes on, and the next command with it.
            DockstackError: it did not come up, and has its former version again, or not: the error says so.
        """
        connection = connect(node)
        kept, host = self._has_kept(connection), looked.plan.hostname
        if not kept and self._is_current(connection, looked):
            return Upgraded()
        if not kept and not wait_for(lambda: hosts.required(self.cloud, host).up, self.patience, POLL):
            raise DockstackError(
                f"nova-compute on {host} does not report now: whether an upgrade does it good could not be told.",
                "`dockstack node check` names what is wrong there.",
            )
        before = self._running(connection, looked)
        tell(_say("Keeping what it runs with"))
        self._shell(connection, self._script("keep-former"))
        known = self.adding.journal.entry(node.name)
        try:
            added = self.adding.add(node, looked, tell)
            self._prove(connection, host, tell)
        except UnreachableError:
            raise
        except DockstackError as error:
            tell(_say("It failed: putting its former version back"))
            failure = self._gone_back(connection, error)
            self.adding.journal.now(node.name, Step.FAILED, failure.brief, failure.resolution)
            raise failure from error
        self._shell(connection, f"rm -rf {shlex.quote(self.places.former)}")
        self._note(node, host, known)
        after = self._running(connection, looked)
        disturbed = tuple(sorted(name for name in before if after.get(name) != before[name]))
        return Upgraded(added.changes + added.sent, added.seconds, disturbed)

    def _note(self, node: Node, host: str, before: Entry | None) -> None:
        """Note that a node is in with its new version, and whether it was emptied."""
        entry = self.adding.journal.entry(node.name)
        if entry is not None:
            service = hosts.required(self.cloud, host)
            self.adding.journal.note(is_in(entry, before, Enrolled(enabled=service.enabled, reason=service.reason)))

    def _is_current(self, connection: Connection, looked: Survey) -> bool:
        plan = looked.plan
        return not (plan.packages or plan.environments or plan.files) and self.adding.command_line.is_on(connection)

    def _has_kept(self, connection: Connection) -> bool:
        return self._is_there(connection, self.places.former)

    @staticmethod
    def _is_there(connection: Connection, path: str) -> bool:
        return bool(look.ask(connection, f"test -e {shlex.quote(path)} && echo there; :").lines)

    def _prove(self, connection: Connection, host: str, tell: Callable[[Event], None]) -> None:
        """Wait for a report of nova-compute that is newer than what the cloud has heard, and see that all is there."""
        tell(_say("Waiting until the cloud hears from its nova-compute"))
        if not hosts.reports_anew(self.cloud, host, REPORT, POLL):
            raise DockstackError(f"The new nova-compute on {host} has not reported within {REPORT:.0f} s.")
        again = self.look_again(connection.node, self.document)
        if not self._is_current(connection, again):
            raise DockstackError(f"{connection.node.name} is not as it should be: {_differing(again)}.")

    def _gone_back(self, connection: Connection, error: DockstackError) -> DockstackError:
        """Have the node run its former version again; return what to say of the failure."""
        name = connection.node.name
        try:
            self._run_former(connection)
        except DockstackError as second:
            return DockstackError(
                f"{error.brief} And its former version could not be brought back: {second.brief}",
                f"See `dockstack status` and `dockstack logs` on {name}; then run the command again.",
                f"{error.details}\n{second.details}".strip(),
            )
        cure = error.resolution or f"See `dockstack logs nova-compute` on {name}."
        return DockstackError(f"{error.brief} {name} runs its former version again.", cure, error.details)

    def _run_former(self, connection: Connection) -> None:
        failures: list[str] = []

        def told(event: Event) -> None:
            if event.kind is Kind.FAILED:
                failures.append(event.text)

        self._shell(connection, self._script("put-former-back"))
        run = self.adding.remote_run(connection, self.adding.command_line.python)
        if not run.follow(run.start(), told).ok:
            raise DockstackError(failures[0] if failures else "Its run was interrupted.")
        self._shell(connection, f"rm -rf {shlex.quote(self.places.former)}")

    def _running(self, connection: Connection, looked: Survey) -> Mapping[str, str]:
        """Return the servers' containers that run, each with its id and since when."""
        client = f"docker -H unix://{shlex.quote(engine_of(looked.told.node().attributes).socket)}"
        line = (
            f"{client} ps -q --no-trunc --filter label={UUID_LABEL} | xargs -r {client} inspect --format '{STARTED}'; :"
        )
        lines = [told.partition(" ") for told in look.ask(connection, line).lines]
        return {name.lstrip("/"): rest for name, _, rest in lines}

    def _script(self, name: str) -> str:
        places = self.places
        return scripts.render(
            name,
            environments=places.environments,
            commission=places.commission,
            former=places.former,
            guard=places.guard,
        )

    def _shell(self, connection: Connection, line: str) -> None:
        try:
            done = connection.run(limited(line, CHANGE_LIMIT), None, patience(CHANGE_LIMIT))
        except TimeoutError as error:
            raise DockstackError(f"{connection.node.name} does not answer.", "Run the command again.") from error
        if not done.ok:
            raise DockstackError(
                f"{connection.node.name} could not keep or put back what it runs with.",
                "Is its disk full? Then run the command again.",
                tail(f"{done.stdout}\n{done.stderr}"),
            )


def _say(text: str) -> Event:
    return Event(Kind.SAY, text=text)


def _differing(looked: Survey) -> str:
    plan = looked.plan
    paths_of = [change.path for change in plan.files]
    return ", ".join([*plan.packages, *plan.environments, *paths_of]) or "its dockstack"
