# SPDX-License-Identifier: Apache-2.0
"""Tell a story on a cloud: everything at once, then calm, then the question whether all is as it must be."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.chaos import diary, invariants, survey, volumes
from dockstack.chaos.cloud import TROUBLE, look
from dockstack.chaos.lane import Lane, Setting
from dockstack.chaos.model import Category, Finding, Outcome, Victim
from dockstack.chaos.reach import find_silent
from dockstack.chaos.story import name_victim
from dockstack.chaos.victims import Absent
from dockstack.deploy.supervision.status import conditions
from dockstack.errors import DockstackError
from dockstack.verify.diagnosis import about_server
from dockstack.verify.probe import answers_ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.chaos.journal import Journal
    from dockstack.chaos.machine import Place
    from dockstack.chaos.means import Means
    from dockstack.chaos.model import Kill, Story, Survey
    from dockstack.chaos.survey import Baseline
    from dockstack.chaos.victims import Hunter
    from dockstack.deploy.supervision.backends.model import Backend
    from dockstack.deploy.supervision.services import Service

VICTIM_SECONDS = 60.0  # that a kill waits for its victim to be there again
SHIM_SECONDS = 5.0  # the same for a server's shim, which is not there while the server is stopped
POLL_SECONDS = 2.0
PING_SECONDS = 60.0


@dataclass(frozen=True)
class Stage:
    """What a story is told with.

    Attributes:
        connect: makes a connection; each thread has its own, because they are not made for several.
        patience: seconds until something that has not come right counts as found.
        answers: pings an address once, from where the cloud's floating IPs lead to.
    """

    connect: Callable[[], Any]
    means: Means
    places: tuple[Place, ...]
    services: tuple[Service, ...]
    backend: Backend
    hunter: Hunter
    journal: Journal
    patience: float
    answers: Callable[[str], bool] = answers_ping


class Run:
    """One telling of a story."""

    def __init__(self, story: Story, stage: Stage) -> None:
        """Set the stage; nothing is done yet."""
        self.outcome = Outcome()
        self._story = story
        self._stage = stage
        self._over = threading.Event()
        self._interrupted = threading.Event()
        self._connection = stage.connect()
        self._before: Baseline = survey.Baseline(has_volumes=story.wishes.volumes)
        setting = Setting(stage.means, stage.places, stage.journal, self._over)
        self.lanes = [Lane(slot, stage.connect(), setting) for slot in range(story.wishes.servers)]

    def tell(self) -> None:
        """Do all that the story says: the lanes until its time is over, and every kill."""
        with ThreadPoolExecutor(len(self.lanes) + 1, "chaos") as pool:
            try:
                told = [pool.submit(lane.tell, self._story.acts[lane.slot]) for lane in self.lanes]
                kills = pool.submit(self._kill_all)
                while not kills.done() or self._stage.journal.age < self._story.wishes.minutes * 60:
                    time.sleep(0.2)
                    if kills.done():
                        kills.result()
                self._over.set()
                for each in told:
                    each.result()
            finally:
                self._interrupted.set()
                self._over.set()
        self._interrupted.clear()
        self._over.clear()

    def find_calm(self) -> None:
        """Wait for the services, bring every server home, and look until all is as it must be or patience ends."""
        begun = time.monotonic()
        self._stage.journal.note("calm", why="waiting for the services")
        self.outcome.findings += self._wait_for_services()
        self._stage.journal.note("calm", why="bringing the servers home")
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            states = list(pool.map(self._go_home, self.lanes))
        self.outcome.findings += [finding for found in states for finding in found]
        self._note_diaries()
        self._stage.journal.note("calm", why="comparing")
        self.outcome.findings += self._compare()
        self.outcome.findings += self._find_silent()
        self.outcome.calm_seconds = round(time.monotonic() - begun, 1)

    def delete_all(self) -> None:
        """Delete every server, and look until nothing is left of them or patience ends."""
        self._stage.journal.note("calm", why="deleting the servers")
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            gone = list(pool.map(lambda lane: lane.delete(self._stage.patience), self.lanes))
        for lane, is_gone in zip(self.lanes, gone, strict=True):
            if not is_gone and lane.current:
                self._find(Category.STUCK, "servers can be deleted", lane.current.id, "it is still there")
        for volume in self._delete_volumes():
            self._find(Category.STUCK, "volumes can be deleted", volume, "it is still there")
        self.outcome.findings += self._compare()

    def conclude(self) -> Outcome:
        """Count what happened, and tell of each finding what the cloud knows."""
        outcome = self.outcome
        for lane in self.lanes:
            outcome.servers += len(lane.made)
            outcome.recovered += sum(made.recovered for made in lane.made)
            outcome.unbuilt += sum(made.unbuilt for made in lane.made)
            outcome.refused += lane.refused
            for action, count in lane.done.items():
                outcome.actions[action] = outcome.actions.get(action, 0) + count
        outcome.findings = list(dict.fromkeys(outcome.findings))
        return outcome

    def clean_up(self) -> None:
        """Delete what is still there; used after Ctrl-C, and where an error ended the run."""
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            list(pool.map(lambda lane: lane.delete(self._stage.patience), self.lanes))
        self._delete_volumes()

    def _delete_volumes(self) -> list[str]:
        if not self._story.wishes.volumes:
            return []
        return volumes.delete_all(self._connection, self._stage.means, self._stage.patience)

    def _kill_all(self) -> None:
        for kill in self._story.kills:
            if self._over.wait(max(0.0, kill.at - self._stage.journal.age)):
                return
            self._kill(kill)

    def _kill(self, kill: Kill) -> None:
        """Kill, once the victim is there: it may not have come back from the last time."""
        deadline = time.monotonic() + (SHIM_SECONDS if kill.victim is Victim.SHIM else VICTIM_SECONDS)
        facts: dict[str, Any] = {"kill": kill.number, "victim": name_victim(kill)}
        while not self._over.is_set():
            try:
                killed = self._strike(kill)
            except DockstackError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                self.outcome.missed += 1
                self._stage.journal.note("kill", **facts, result="missed", why=error.brief)
                return
            self.outcome.kills[kill.victim.value] = self.outcome.kills.get(kill.victim.value, 0) + 1
            self._stage.journal.note("kill", **facts, result="killed", processes=killed)
            return

    def _strike(self, kill: Kill) -> dict[int, str]:
        hunter = self._stage.hunter
        if kill.victim is Victim.HOST:
            return hunter.strike_host(kill.host, kill.away)
        if kill.victim is Victim.CONTAINERD:
            return hunter.strike_containerd(kill.host)
        if kill.victim is Victim.SHIM:
            made = self.lanes[kill.slot].current
            if made is None:
                raise Absent("The slot has no server now.")
            return hunter.strike_shim(made.id)
        return hunter.strike_service(kill.victim, kill.host)

    def _wait_for_services(self) -> list[Finding]:
        deadline = time.monotonic() + self._stage.patience
        while True:
            sick = [each for each in conditions(self._stage.services, self._stage.backend) if not each.healthy]
            silent = self._silent_computes()
            if not sick and not silent:
                return []
            if time.monotonic() > deadline:
                return [Finding(Category.STUCK, "services come back", each.name, each.problem) for each in sick] + [
                    Finding(Category.STUCK, "services come back", name, "Nova has it down") for name in silent
                ]
            time.sleep(POLL_SECONDS)

    def _silent_computes(self) -> list[str]:
        try:
            services = list(self._connection.compute.services(binary="nova-compute"))
        except TROUBLE:
            return ["nova-api"]
        ours = {place.name for place in self._stage.places}
        return [each.host for each in services if each.host in ours and each.state != "up"]

    def _go_home(self, lane: Lane) -> list[Finding]:
        made = lane.current
        if made is None:
            return []
        try:
            status = lane.go_home(self._stage.patience)
        except (DockstackError, *TROUBLE) as error:
            return [Finding(Category.STUCK, "servers come back", made.id, str(error))]
        if lane.current is None:
            return [] if lane.made[-1].unbuilt else self._vanished(lane)
        if status != "ACTIVE":
            return [Finding(Category.STUCK, "servers come back", made.id, self._tell_of(made.id))]
        return []

    def _vanished(self, lane: Lane) -> list[Finding]:
        """A server that is gone is a loss, unless the story's last word was its deletion."""
        if self._stage.journal.last_action(lane.slot) == "delete":
            return []
        return [Finding(Category.LOST, "servers are there", lane.made[-1].id, "Nova knows it no more")]

    def _compare(self) -> list[Finding]:
        """Look again and again until nothing is found, or patience ends; what lasts is found."""
        deadline = time.monotonic() + self._stage.patience
        told: list[Finding] = []
        while True:
            try:
                found = invariants.check(self._look()) + self._check_logs()
            except DockstackError as error:
                found = [Finding(Category.STUCK, "everything can be looked at", error.brief, error.details or "")]
            if not found or time.monotonic() > deadline:
                return found
            if found != told:
                self._stage.journal.note("not yet", findings=[finding.as_dict() for finding in found])
            told = found
            time.sleep(POLL_SECONDS)

    def _look(self) -> Survey:
        made = [each for lane in self.lanes for each in lane.made]
        current = [lane.current.id for lane in self.lanes if lane.current]
        deleted = {each.id: tuple(sorted(each.ports)) for each in made if each.gone}
        return survey.take(self._connection, self._stage.places, current, deleted, self._before)

    def _find_silent(self) -> list[Finding]:
        servers = [lane.current.id for lane in self.lanes if lane.current]
        stage = self._stage
        label, network = stage.means.name("ip"), stage.means.external_network
        try:
            seconds = min(stage.patience, PING_SECONDS)
            return find_silent(self._connection, network, label, servers, seconds=seconds, answers=stage.answers)
        except DockstackError as error:
            return [Finding(Category.STUCK, "everything can be looked at", error.brief, error.details or "")]

    def _check_logs(self) -> list[Finding]:
        found = []
        for lane in self.lanes:
            try:
                lane.check_log()
            except (diary.Torn, DockstackError) as error:
                server = lane.current.id if lane.current else ""
                found.append(Finding(Category.LOST, "has its files", server, str(error)))
        return found

    def _note_diaries(self) -> None:
        pages = [lane.current.page for lane in self.lanes if lane.current and lane.current.page]
        self.outcome.lines = sum(page.number for page in pages)

    def _find(self, category: Category, invariant: str, subject: str, details: str) -> None:
        self.outcome.findings.append(Finding(category, invariant, subject, details))

    def _tell_of(self, server_id: str) -> str:
        try:
            if look(self._connection, server_id) is None:
                return "it is gone"
            return "\n".join(about_server(self._connection, server_id))
        except (DockstackError, sdk_errors.SDKException) as error:
            return f"the cloud does not say more: {error}"
