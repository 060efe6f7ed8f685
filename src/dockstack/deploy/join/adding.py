# SPDX-License-Identifier: Apache-2.0
"""Make one machine a compute node, over its connection; killed anywhere, the next command goes on from there.

With an administrator's credentials, it registers disabled and is let in when it has proven itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.administration import draining
from dockstack.deploy.administration.enrolment import REASON
from dockstack.deploy.join import peers
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.peers import Peers
from dockstack.deploy.join.remote_run import RemoteRun
from dockstack.deploy.node.connection import address_of, connect
from dockstack.deploy.run.events import Event, Kind
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.enrolment import Enrolled, Enrolment
    from dockstack.deploy.join.one_by_one import OneByOne
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.inventory import Node


EMPTIED = {Step.DRAINING, Step.DRAINED}


@dataclass(frozen=True)
class Added:
    """What came of a node.

    Attributes:
        hostname: what Nova calls it.
        changes: how much its run changed.
        sent: whether dockstack had to be sent.
        seconds: how long its run took.
        enrolled: what came of letting it in; None without an administrator's credentials.
    """

    hostname: str
    changes: int
    sent: bool
    seconds: float
    enrolled: Enrolled | None = None


@dataclass(frozen=True)
class Adding:
    """What adding any node needs; one object for all of them.

    Attributes:
        command_line: the running dockstack, for the nodes.
        journal: what is noted of them here.
        remote_run: makes the run of a node.
        peers: whom nodes let send them servers.
        enrolment: lets a node in; None without an administrator's credentials.
        certificates: what the cloud's authority gives nodes.
        command: what a person runs here, to run it again when something is cured.
        one_by_one: whose turn it is to have another version, of those with servers; None where a former one is kept.
    """

    command_line: CommandLine = field(default_factory=CommandLine)
    journal: Journal = field(default_factory=Journal)
    remote_run: Callable[[Connection, str], RemoteRun] = RemoteRun
    peers: Peers = field(default_factory=Peers)
    enrolment: Enrolment | None = None
    certificates: NodeCertificates = field(default_factory=NodeCertificates)
    command: str = "dockstack node add"
    one_by_one: OneByOne | None = None

    def add(self, node: Node, looked: Survey, tell: Callable[[Event], None]) -> Added:
        """Make a machine a node that has been looked at and fits.

        Args:
            node: it.
            looked: what came of looking.
            tell: told of what goes on now; in the thread that this runs in.

        Raises:
            DockstackError: it could not be made one.
        """
        before, entry = self.journal.entry(node.name), _entry(node, looked)
        self.journal.note(entry)
        try:
            added = self._add(node, looked, entry, tell)
        except DockstackError as error:
            self.journal.note(entry.now(Step.FAILED, error.brief, error.resolution))
            raise
        self.journal.note(is_in(entry, before, added.enrolled))
        return added

    def _let_in(self, node: Node, added: Added, entry: Entry, tell: Callable[[Event], None]) -> Added:
        if self.enrolment is None:
            return added
        self.journal.note(entry.now(Step.PROVING))
        aggregate = node.attributes.text("compute.aggregate")

        def say(text: str) -> None:
            tell(Event(Kind.SAY, text=text))

        enrolled = self.enrolment.enrol(added.hostname, say, aggregate, anew=added.sent or added.changes > 0)
        return replace(added, enrolled=enrolled)

    def _add(self, node: Node, looked: Survey, entry: Entry, tell: Callable[[Event], None]) -> Added:
        connection = connect(node)
        sent = not self.command_line.is_on(connection)
        with self._turn(node, looked.plan, tell, another=sent or bool(looked.plan.environments)) as begun:
            if sent:
                tell(Event(Kind.SAY, text="Sending dockstack; the node installs its environment (about 30 s)"))
                self.command_line.ship(connection, looked.distribution)
            run = self._hand_over(connection, looked, entry)
            begun()
            added = replace(self._run(run, looked, tell), sent=sent)
            return self._let_in(node, added, entry, tell)

    def _turn(
        self, node: Node, plan: NodePlan, tell: Callable[[Event], None], *, another: bool
    ) -> AbstractContextManager[Callable[[], None]]:
        """Have a node wait for its turn if it has servers and gets another version."""
        if self.one_by_one is None or not plan.servers or not another:
            return nullcontext(lambda: None)
        return self.one_by_one.turn(node.name, tell)

    def _hand_over(self, connection: Connection, looked: Survey, entry: Entry) -> RemoteRun:
        """Give a node its commission; return the run that carries it out."""
        self.journal.note(entry.now(Step.RUNNING))
        run = self.remote_run(connection, self.command_line.python)
        self.certificates.keep(connection.node.name, looked.told.document())
        run.hand_over(replace(looked.told, disabled=REASON if self.enrolment else ""))
        return run

    def _run(self, run: RemoteRun, looked: Survey, tell: Callable[[Event], None]) -> Added:
        node = run.connection.node
        failures: list[Event] = []

        def told(event: Event) -> None:
            if event.kind is Kind.FAILED:
                failures.append(event)
            tell(event)

        ended = run.follow(run.start(), told)
        if not ended.ok:
            raise _failure(node, failures, self.command)
        self.peers.note(node.name, peers.ask(run.connection, str(looked.told.attributes["network.encap_ip"])))
        return Added(looked.plan.hostname, ended.changes, sent=False, seconds=ended.seconds)


def is_in(entry: Entry, before: Entry | None, told: Enrolled | None) -> Entry:
    """Return what is to be noted of a node that is in: what was emptied stays so until it is enabled.

    Args:
        entry: it.
        before: what was noted of it when this began.
        told: what the cloud says of it; None if nobody has asked.
    """
    if told is not None and told.enabled:
        return entry.now(Step.ENABLED)
    if before is not None and before.step in EMPTIED:
        return entry.now(before.step, before.problem, before.cure)
    drained = told is not None and told.reason.startswith(draining.REASON)
    return entry.now(Step.DRAINING if drained else Step.JOINED)  # whether to its end, `drain` says when it runs again


def _entry(node: Node, looked: Survey) -> Entry:
    """Return how a node was reached and what it is; a later command may begin in another directory than this one."""
    return Entry(
        node.name,
        f"{node.user}@{address_of(node)}:{node.port}",
        looked.plan.hostname,
        str(looked.told.attributes["release"]),
        key=_absolute(node.key),
        jump=node.jump,
        known_hosts=_absolute(node.known_hosts),
    )


def _absolute(path: str | None) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _failure(node: Node, failures: list[Event], command: str) -> DockstackError:
    """Return what failed first; that later stages did not begin is no news."""
    if not failures:
        return DockstackError(
            f"The run on {node.name} was interrupted.", "Run the command again: it goes on from here."
        )
    first = failures[0]
    what = f"{first.title}: {first.text}" if first.title else first.text
    # The stages are those of `up`, and so are their words; on a node, `up` is refused.
    return DockstackError(what, first.cure.replace("`dockstack up`", f"`{command}`"), first.details)
