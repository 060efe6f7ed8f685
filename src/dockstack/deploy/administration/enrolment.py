# SPDX-License-Identifier: Apache-2.0
"""Let a new compute node in: mapped to its cell, proven by a test server, and only then enabled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.administration import hosts
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.administration.hosts import ComputeService
    from dockstack.deploy.administration.mapping import Mapping
    from dockstack.deploy.administration.proof import Proof

REASON = "dockstack node add: not proven yet"
# nova/db/main/api.py:service_create, where [compute] enable_new_services is off
NOVAS_REASON = "New compute service disabled due to config option."
PATIENCE = 120.0
POLL = 2.0


def is_awaited(service: ComputeService) -> bool:
    """Tell whether a host has registered and has not been let in yet; one that somebody has disabled was in."""
    return not service.enabled and service.reason in {REASON, NOVAS_REASON}


@dataclass(frozen=True)
class Enrolled:
    """What came of it.

    Attributes:
        enabled: whether servers may be placed on the host now.
        mapped: whether it had to be mapped.
        proof: seconds until the test server was active, 0 without one.
        reason: why somebody else has it disabled.
    """

    enabled: bool
    mapped: bool = False
    proof: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Enrolment:
    """What letting any node in needs; one object for all of them.

    Attributes:
        cloud: the cloud.
        mapping: maps hosts.
        proof: boots the test server; None for none.
    """

    cloud: Cloud
    mapping: Mapping
    proof: Proof | None

    def enrol(self, host: str, tell: Callable[[str], None], aggregate: str = "", *, anew: bool = False) -> Enrolled:
        """Let a host in that has joined; killed anywhere, the next run goes on. A host that is in is left as it is.

        One that is in has no proof to pass, and must report instead if its nova-compute may be another one.

        Args:
            host: what Nova calls it.
            tell: told of what goes on now.
            aggregate: where it belongs, if anywhere; one that is in goes there, too.
            anew: whether its nova-compute may be another one than that of which the cloud has heard last.

        Raises:
            DockstackError: it is not mapped, or does not report, or does not prove itself; then it stays disabled.
        """
        service = hosts.required(self.cloud, host)
        mapped = self.mapping.ensure(host, tell)
        if anew and not is_awaited(service):
            self._await_report(host, tell)
        if service.enabled:
            self._join(host, aggregate, tell)
            return Enrolled(enabled=True, mapped=mapped)
        if not is_awaited(service):
            return Enrolled(enabled=False, mapped=mapped, reason=service.reason or "no reason is noted")
        self._await_up(host, tell)
        took = self.proof.boot(service, tell) if self.proof else 0.0
        self._join(host, aggregate, tell)  # after the proof, whose image and flavor ask for nothing
        tell("Enabling it")
        hosts.enable(self.cloud, service)
        return Enrolled(enabled=True, mapped=mapped, proof=took)

    def _join(self, host: str, aggregate: str, tell: Callable[[str], None]) -> None:
        if aggregate and hosts.join_aggregate(self.cloud, aggregate, host):
            tell(f"Put into the aggregate {aggregate}")

    def _await_report(self, host: str, tell: Callable[[str], None]) -> None:
        """Wait until a host has reported since now: for a minute, Nova takes one that has ended for up."""
        tell("Waiting until the cloud hears from its nova-compute")
        if not hosts.reports_anew(self.cloud, host, PATIENCE, POLL):
            raise DockstackError(
                f"nova-compute on {host} has not reported within {PATIENCE:.0f} s.",
                "See `dockstack logs nova-compute` there; then run the command again: it goes on from here.",
            )

    def _await_up(self, host: str, tell: Callable[[str], None]) -> None:
        def settled() -> ComputeService | None:
            service = hosts.required(self.cloud, host)
            return service if service.up or service.forced_down else None

        if settled() is None:
            tell("Waiting until nova-compute reports")
        service = wait_for(settled, PATIENCE, POLL)
        if service is None or not service.up:
            raise DockstackError(
                f"nova-compute on {host} is {'forced down' if service else 'down'} for the cloud.",
                "See `dockstack logs nova-compute` there; then run the command again: it goes on from here.",
            )
