# SPDX-License-Identifier: Apache-2.0
"""A visit: look at machines side by side, ask the cloud, make all checks, mend what may be mended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from dockstack.deploy.join import fleet
from dockstack.doctor import machine, report
from dockstack.doctor.checks import CLOUD, MACHINE
from dockstack.doctor.model import Examination, Need, examine
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node
    from dockstack.doctor.cloud import Cloud
    from dockstack.doctor.machine import Subject
    from dockstack.doctor.model import Mend

    Outcome = Examination | DockstackError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Visit:
    """What is visited.

    Attributes:
        nodes: the machines.
        document: of the cloud that they are, or are to be, nodes of.
        cloud: as its administrator sees it, or why it is not asked.
        forks: how many machines at a time.
        only: names of checks; none means all.
    """

    nodes: tuple[Node, ...]
    document: CloudDocument | None
    cloud: Cloud | DockstackError
    forks: int = 10
    only: frozenset[str] = frozenset()

    def machines(self) -> dict[str, Outcome]:
        """Look at all machines and return what came of each; one that is down stops only itself."""
        self._heard(lambda cloud: cloud.know_servers(), None)
        looked = self._looked_at()
        seen = {name: one for name, one in looked.items() if not isinstance(one, DockstackError)}
        there = [node for node in self.nodes if node.name in seen]
        # One after the other; what a machine says is its own, and may break what judges it.
        judged = fleet.each(there, 1, lambda node: self._judge(seen[node.name]), lambda *_: None)
        failed = {name: one for name, one in looked.items() if isinstance(one, DockstackError)}
        return {node.name: (judged | failed)[node.name] for node in self.nodes}

    def _looked_at(self) -> dict[str, Subject | DockstackError]:
        if all(node.connector == "@ssh" for node in self.nodes):
            return fleet.each(
                self.nodes, self.forks, lambda node: machine.examine(node, self.document), lambda *_: None
            )
        # In this thread: the recipes' engine runs commands of this machine in no other.
        return {node.name: machine.examine(node, self.document) for node in self.nodes}

    def of_cloud(self) -> Outcome:
        """Return what came of the cloud."""
        if isinstance(self.cloud, DockstackError):
            return self.cloud
        have = frozenset({Need.CLOUD})
        return Examination(self.cloud.name, examine(CLOUD, self.cloud, have, self.only), report.of_cloud(self.cloud))

    def _judge(self, seen: Subject) -> Examination:
        seen = replace(
            seen,
            known=self._heard(lambda cloud: cloud.know_servers(), None),
            servers=self._heard(lambda cloud: cloud.servers, ()),
            largest_mtu=self._heard(lambda cloud: cloud.largest_mtu, 0),
        )
        results = examine(MACHINE, seen, self._have(seen), self.only)
        return Examination(seen.node.name, results, report.of_machine(seen))

    def _heard(self, question: Callable[[Cloud], Answer], otherwise: Answer) -> Answer:
        """Return what the cloud says; one that is ill is no reason not to look at its machines."""
        try:
            return otherwise if isinstance(self.cloud, DockstackError) else question(self.cloud)
        except DockstackError:
            return otherwise

    def _have(self, seen: Subject) -> frozenset[Need]:
        there = {
            Need.OURS: seen.ours,
            Need.CONTROLLER: seen.facts.controller,
            Need.HERE: seen.local,
            Need.CLOUD: seen.known is not None,
            Need.DOCUMENT: self.document is not None,
        }
        return frozenset(need for need, is_there in there.items() if is_there)


def mend(outcomes: Mapping[str, Outcome], say: Callable[[str], None]) -> int:
    """Mend what may be mended, each named before it is done; return how many were."""
    done = 0
    for name, outcome in outcomes.items():
        if not isinstance(outcome, DockstackError):
            done += sum(_mended(name, each, say) for each in unique(outcome.mends()))
    return done


def unique(mends: Iterable[Mend]) -> list[Mend]:
    """Return each mend once: two findings may have the same."""
    return list({each.what: each for each in mends}.values())


def _mended(name: str, wanted: Mend, say: Callable[[str], None]) -> bool:
    say(f"{name}: {wanted.what}")
    try:
        wanted.act()
    except DockstackError as error:
        say(f"{name}: that failed. {error} {error.details}".rstrip())
        return False
    return True
