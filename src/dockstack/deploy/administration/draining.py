# SPDX-License-Identifier: Apache-2.0
"""Take all servers off a host: resizes are settled, the others move cold to where the scheduler sends them.

What is done and what is left stands in Nova, so that a run which was killed is simply begun again.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dockstack.deploy.administration import hosts
from dockstack.deploy.administration.api import ApiError, ConflictError
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.administration.hosts import Move, Server

REASON = "dockstack node drain"
POLL = 2.0
PATIENCE = 3600.0  # seconds for one server
ROUNDS = 5  # a build that was under way when the host was disabled arrives later
WAITS = "VERIFY_RESIZE"
TOLD = 20.0  # seconds that Nova may take to write down why it let go of a server
BAD_REQUEST = 400
ACTIONS = {"ACTIVE": "migrate", "SHUTOFF": "migrate", "SHELVED": "shelveOffload"}
UNMOVED = {
    "ERROR": ("it is in ERROR", "Delete it, or `openstack server set --state active` and see whether it runs."),
    "PAUSED": ("it is paused", "openstack server unpause"),
    "SUSPENDED": ("it is suspended", "openstack server resume"),
    "RESCUE": ("it is being rescued", "openstack server unrescue"),
    "SOFT_DELETED": ("it is deleted, and may be restored", "openstack server restore, or delete --force"),
}


class Resizes(StrEnum):
    """What becomes of resizes that wait for their users' word."""

    CONFIRM = "confirm"
    REVERT = "revert"
    LEAVE = "leave"


@dataclass(frozen=True)
class Unmoved:
    """A server that stays, and why."""

    server: str
    why: str
    cure: str


@dataclass(frozen=True)
class Drained:
    """What came of a host: whom it lost, and whom it still has."""

    moved: tuple[str, ...]
    unmoved: tuple[Unmoved, ...]


@dataclass(frozen=True)
class Draining:
    """How hosts of one cloud are drained; one object for all of them.

    Attributes:
        cloud: the cloud.
        at_once: how many servers of a host move at a time.
        resizes: what becomes of resizes that wait.
        patience: seconds for one server.
    """

    cloud: Cloud
    at_once: int = 2
    resizes: Resizes = Resizes.CONFIRM
    patience: float = PATIENCE

    def close(self, host: str, reason: str) -> bool:
        """Disable a host's nova-compute, so that no new servers come; return whether it was enabled until now.

        A host that is disabled already keeps the reason that somebody gave. Close all hosts of a run before the first
        is drained: otherwise the scheduler sends servers of the first to the second.

        Raises:
            DockstackError: the cloud has no such host.
        """
        service = hosts.required(self.cloud, host)
        if service.enabled:
            hosts.disable(self.cloud, service, f"{REASON}: {reason}" if reason else REASON)
        return service.enabled

    def drain(self, host: str, tell: Callable[[str], None]) -> Drained:
        """Move the servers of a closed host away; ``tell`` is told of what goes on now."""
        return _Run(self, host, tell).go()


@dataclass
class _Run:
    """Draining one host."""

    how: Draining
    host: str
    tell: Callable[[str], None]
    moved: list[str] = field(default_factory=list)
    unmoved: dict[str, Unmoved] = field(default_factory=dict)
    under_way: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def go(self) -> Drained:
        for _ in range(ROUNDS):
            waiting = [each for each in self._concerned() if each.id not in self.unmoved]
            if not waiting:
                break
            pool = ThreadPoolExecutor(max_workers=self.how.at_once)
            try:
                for _ in pool.map(self._leave, waiting):
                    pass
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return Drained(tuple(sorted(self.moved)), tuple(self.unmoved.values()))

    def _concerned(self) -> list[Server]:
        """Return the servers here, and those that have left and wait for a word, which keep their room here."""
        here = {each.id: each for each in hosts.servers(self.how.cloud, self.host)}
        for move in hosts.moves(self.how.cloud, self.host):
            if move.server not in here:
                found = hosts.server(self.how.cloud, move.server)
                if found is not None and found.status == WAITS:
                    here[found.id] = found
        return list(here.values())

    def _leave(self, server: Server) -> None:
        with self.lock:
            self.under_way[server.id] = server.name
            self._report()
        try:
            unmoved = self._settle(server)
        except ApiError as error:
            unmoved = Unmoved(server.label, error.brief, error.resolution)
        with self.lock:
            del self.under_way[server.id]
            if unmoved is None:
                self.moved.append(server.label)
            else:
                self.unmoved[server.id] = unmoved
            self._report()

    def _report(self) -> None:
        names = ", ".join(list(self.under_way.values())[:3])
        stay = f", {len(self.unmoved)} cannot" if self.unmoved else ""
        self.tell(f"{len(self.moved)} servers have moved{stay}{f'; now {names}' if names else ''}")

    def _settle(self, server: Server) -> Unmoved | None:
        """Bring one server to an end: elsewhere, or here with the reason why."""
        cloud, asked = self.how.cloud, set[str]()
        deadline = time.monotonic() + self.how.patience
        while True:
            now = hosts.server(cloud, server.id)
            if now is None:
                return None
            if self._has_left(now):
                return None
            if time.monotonic() > deadline:
                doing = now.task or now.status
                return Unmoved(
                    server.label, f"it is still busy ({doing}) after {self.how.patience:.0f} s", "Look again later."
                )
            if now.task is None:
                unmoved = self._next(now, asked)
                if unmoved is not None:
                    return unmoved
            time.sleep(POLL)

    def _has_left(self, server: Server) -> bool:
        """Tell whether a server is elsewhere, and nothing of a move keeps room for it here."""
        if server.host == self.host or server.task is not None:
            return False
        return server.status != WAITS or self._move_of(server) is None

    def _next(self, server: Server, asked: set[str]) -> Unmoved | None:
        """Ask for what is next of a server that nobody works on; never twice for the same."""
        waits = server.status == WAITS
        if waits:
            move = self._move_of(server)
            if move is None:
                return None  # it was answered just now
            action = self._answer(move)
            key = f"{action} {move.id}"
            if not action:
                return Unmoved(server.label, "its resize waits for its user", "--resizes confirm settles it here.")
        elif server.status in ACTIONS:
            action = key = ACTIONS[server.status]
        elif server.status in UNMOVED:
            return Unmoved(server.label, *UNMOVED[server.status])
        else:
            return None  # a build, a reboot: it comes to an end by itself
        if key in asked:
            return None if waits else self._refused(server, action)
        asked.add(key)
        try:
            hosts.act(self.how.cloud, server.id, action)
        except ConflictError:
            asked.discard(key)  # somebody began something with it just now
        except ApiError as error:
            # Of a resize that is being confirmed already, Nova says that there is none.
            if not waits or error.status != BAD_REQUEST:
                raise
        return None

    def _move_of(self, server: Server) -> Move | None:
        moves = hosts.moves(self.how.cloud, self.host)
        return next((each for each in moves if each.server == server.id), None)

    def _answer(self, move: Move) -> str:
        """Return what to say of a move that waits, "" for nothing; one without another flavor waits for us."""
        if move.kind == "migration" or self.how.resizes is Resizes.CONFIRM:
            return "confirmResize"
        return "revertResize" if self.how.resizes is Resizes.REVERT else ""

    def _refused(self, server: Server, action: str) -> Unmoved:
        def told() -> tuple[str] | None:
            why = hosts.why_not(self.how.cloud, server.id, action)
            return None if why is None else (why,)

        (why,) = wait_for(told, TOLD, POLL / 4) or ("",)
        why = why or server.fault or "Nova does not say why"
        return Unmoved(server.label, f"it did not move: {why}", "See `openstack server event list`, then drain again.")


def undrain(cloud: Cloud, host: str) -> bool:
    """Let servers be placed on a host again; return whether that was not so.

    Raises:
        DockstackError: its nova-compute is forced down or down: whatever is placed there would fail.
    """
    service = hosts.required(cloud, host)
    if not service.up:
        raise DockstackError(
            f"nova-compute on {host} is {service.state}{', forced down' if service.forced_down else ''}.",
            "Have it report first: `dockstack node check` names what is wrong there.",
        )
    if service.enabled:
        return False
    hosts.enable(cloud, service)
    return True
