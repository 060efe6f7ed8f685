# SPDX-License-Identifier: Apache-2.0
"""One slot's part of a story: its decisions one after another, on the server that it has at that time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.chaos import acts, diary, machine
from dockstack.chaos.cloud import Refused, Unsure, ask, is_settled, look, settle, status_of
from dockstack.chaos.model import GONE, Action
from dockstack.chaos.states import HOME, KEEPING, find_way, lead
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    import threading

    from dockstack.chaos.diary import Page
    from dockstack.chaos.journal import Journal
    from dockstack.chaos.machine import Place
    from dockstack.chaos.means import Means
    from dockstack.chaos.model import Act

SETTLE_SECONDS = 180.0  # more than what Nova itself waits for anything, on a busy machine
AGAIN_SECONDS = 2.0  # until what was refused is asked for again


@dataclass
class Made:
    """A server that a slot has or had.

    Attributes:
        ports: the ids of all ports that it was seen with.
        page: how far its log had come when it was last read; None if it may begin anew.
        recovered: how often it was brought back from ERROR.
    """

    id: str
    name: str
    ports: set[str] = field(default_factory=set)
    page: Page | None = None
    gone: bool = False
    recovered: int = 0
    unbuilt: bool = False


@dataclass(frozen=True)
class Setting:
    """What all lanes of a story share.

    Attributes:
        means: what servers are made of.
        places: the machine's hosts, whose engines are asked for what servers have written.
        journal: told of every step.
        over: set when the story ends.
    """

    means: Means
    places: tuple[Place, ...]
    journal: Journal
    over: threading.Event


class Lane:
    """Tells one slot's part; runs in a thread of its own, with a connection of its own."""

    def __init__(self, slot: int, connection: Any, setting: Setting) -> None:
        """Begin without a server.

        Args:
            slot: its number.
            connection: to the cloud.
            setting: what all lanes of a story share.
        """
        self.slot = slot
        self.made: list[Made] = []
        self.refused = 0
        self.done: dict[str, int] = {}
        self._connection = connection
        self._means = setting.means
        self._places = {place.name: place for place in setting.places}
        self._journal = setting.journal
        self._over = setting.over

    @property
    def current(self) -> Made | None:
        """The server that the slot has now."""
        return self.made[-1] if self.made and not self.made[-1].gone else None

    def tell(self, decisions: tuple[Act, ...]) -> None:
        """Carry out decisions until the story is over; a cloud that does not answer costs a decision, not the run."""
        for decision in decisions:
            if self._over.wait(decision.pause):
                return
            try:
                self._decide(decision)
            except (DockstackError, sdk_errors.SDKException) as error:
                self._note(decision.action, decision=decision.number, result="unanswered", why=str(error))

    def go_home(self, seconds: float) -> str:
        """Bring the server to ACTIVE, whatever state it is in; return the state that it has in the end.

        What is refused is asked for again, for as long as there is time: a service whose call was lost knows that only
        when it gives up waiting for the answer, a minute later, and the server says until then what it said before.
        """
        deadline = time.monotonic() + seconds
        while True:
            server = self._settled(max(1.0, deadline - time.monotonic()))
            status = status_of(server)
            if status in (GONE, "ACTIVE") or status not in HOME or not is_settled(server):
                return status
            accepted = self._step(HOME[status], server, max(1.0, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                return status_of(self._settled(1.0))
            if not accepted:
                time.sleep(AGAIN_SECONDS)

    def check_log(self) -> Page | None:
        """Read the server's log and compare it with what was seen of it; None if the slot has no server.

        Raises:
            diary.Torn: it is not what it has to be.
            DockstackError: it cannot be read.
        """
        if (made := self.current) is None:
            return None
        server = look(self._connection, made.id)
        if server is None or server.compute_host not in self._places:
            return None
        made.page = diary.compare(made.page, machine.read_log(self._places[server.compute_host], made.id))
        return made.page

    def delete(self, seconds: float) -> bool:
        """Delete the server; return whether it is gone."""
        if (made := self.current) is None:
            return True
        self._learn_ports(made)
        made.gone = acts.delete_whatever_happens(self._connection, made.id, seconds)
        return made.gone

    def _decide(self, decision: Act) -> None:
        server = self._settled(SETTLE_SECONDS)
        status = status_of(server)
        facts = {"decision": decision.number, "found": status}
        if not is_settled(server):
            self._note(decision.action, result="busy", task=server.task_state, **facts)
            return
        way = find_way(decision.action, status)
        if way is None:
            self._note(decision.action, result="skipped", **facts)
            return
        for step in way:
            if not self._step(step, self._settled(SETTLE_SECONDS), SETTLE_SECONDS, **facts):
                return

    def _step(self, action: Action, server: Any, seconds: float, **facts: Any) -> bool:
        """Do one thing and wait for its end; return whether it was accepted as it was meant."""
        begun, before, wanted = time.monotonic(), status_of(server), action
        if server is not None and server.status == "ERROR":
            facts["fault"] = (server.fault or {}).get("message", "none")
            if action is Action.RECOVER and server.launched_at is None:
                action = Action.DELETE  # there is nothing to bring back
                self.made[-1].unbuilt = True
        try:
            self._do(action, server)
        except Refused as refusal:
            self.refused += 1
            self._note(action, result="refused", why=refusal.brief, **facts)
            return False
        except Unsure as doubt:
            facts["doubt"] = doubt.brief
        server = self._settled(seconds, lead(action, before))
        self.done[action.value] = self.done.get(action.value, 0) + 1
        ended = status_of(server)
        if action is Action.RECOVER and ended == "ACTIVE":
            self.made[-1].recovered += 1
        took = round(time.monotonic() - begun, 1)
        busy = {} if is_settled(server) else {"task": server.task_state}
        self._note(action, result=ended, took=took, **busy, **facts)
        self._see(server)
        return action is wanted

    def _do(self, action: Action, server: Any) -> None:
        if action is Action.CREATE:
            name = self._means.name(f"{self.slot}-{len(self.made)}")
            self.made.append(Made(acts.create(self._connection, self._means, name), name))
            return
        if server is None:
            raise Refused("It is gone.")
        if action in (Action.REBUILD, Action.DELETE):
            self._learn_ports(self.made[-1])
            self.made[-1].page = None
        acts.act(self._connection, self._means, action, server)

    def _settled(self, seconds: float, expected: str = "") -> Any:
        """Return the server when nothing is being done to it, or when the time is over; None if there is none."""
        if (made := self.current) is None:
            return None
        server = settle(self._connection, made.id, seconds, self._over.is_set, expected)
        made.gone = server is None
        return server

    def _see(self, server: Any) -> None:
        """Remember how far the log has come, and the ports, while nothing can take the server back to older files."""
        made = self.current
        if made is None or server is None or not is_settled(server) or server.status not in KEEPING:
            return
        self._learn_ports(made)
        place = self._places.get(server.compute_host)
        if place is None:
            return
        try:
            text = machine.read_log(place, made.id)
            again = look(self._connection, made.id)
            if (again.compute_host, again.status, again.task_state) == (server.compute_host, server.status, None):
                made.page = diary.compare(made.page, text)
        except diary.Torn as torn:
            self._journal.note("torn", slot=self.slot, server=made.id, why=str(torn))
        except (DockstackError, AttributeError):
            return  # the engine is dead just now, the server has no log yet or is gone: the next look will do

    def _learn_ports(self, made: Made) -> None:
        try:
            made.ports |= {port.id for port in ask(lambda: list(self._connection.network.ports(device_id=made.id)))}
        except (DockstackError, sdk_errors.SDKException):
            return

    def _note(self, action: Action, **facts: Any) -> None:
        server = self.made[-1].id if self.made else None
        self._journal.note("act", slot=self.slot, action=action.value, server=server, **facts)
