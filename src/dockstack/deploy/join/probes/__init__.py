# SPDX-License-Identifier: Apache-2.0
"""Probes of a cloud by its document: would a compute node find what it needs? Nothing is changed anywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dockstack.deploy.join.probes import apis, bus, databases, queues, tunnels
from dockstack.deploy.join.probes.model import Failed, Outcome, Probe, Refused, Skipped, Verdict
from dockstack.deploy.node.secrets import GivenSecrets
from dockstack.deploy.wanted.cloud_keys import OVN
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.cloud_document import CloudDocument

OF_DOCUMENT = ("accounts", "placement", "bus", "queues", "neutron-bus", "neutron-queues")

__all__ = ["Outcome", "Verdict", "probes", "require_accepted", "require_release", "run"]


def probes(cloud: CloudDocument) -> tuple[Probe, ...]:
    """Return all probes of a cloud; what only the switch's programs would ask, where the nodes run them."""
    ovn = (
        Probe("ovn", "OVN's databases answer", partial(databases.ask, cloud)),
        Probe("mtu", "Tunnels from here have room for the networks' packets", partial(tunnels.ask, cloud)),
    )
    agents = (
        Probe("neutron-bus", "RabbitMQ lets Neutron's agents in", partial(bus.ask, cloud, bus.OF_NEUTRON)),
        Probe("neutron-queues", "RabbitMQ takes their queues", partial(queues.ask, cloud, bus.OF_NEUTRON)),
    )
    return (
        Probe("accounts", "Keystone lets each account in", partial(apis.accounts, cloud)),
        Probe("clock", "Its clock and this machine's agree", partial(apis.clock, cloud)),
        Probe("placement", "Placement takes reports", partial(apis.placement, cloud)),
        Probe("versions", "The cloud takes nodes of this release", partial(apis.versions, cloud)),
        Probe("bus", "RabbitMQ lets nodes in, and Nova speaks there", partial(bus.ask, cloud)),
        Probe("queues", "RabbitMQ takes the queues that nodes declare", partial(queues.ask, cloud)),
        *(ovn if cloud.mechanism == OVN else agents if cloud.own_switch else ()),
    )


def run(cloud: CloudDocument) -> tuple[Outcome, ...]:
    """Make all probes side by side, as most of their time is others'; no secret is in what they say."""
    found = probes(cloud)
    redact = GivenSecrets(cloud.secrets()).redact
    with ThreadPoolExecutor(len(found)) as pool:
        outcomes = pool.map(Probe.outcome, found)
        return tuple(
            replace(one, seen=redact(one.seen), means=redact(one.means), cure=redact(one.cure)) for one in outcomes
        )


def require_release(cloud: CloudDocument) -> None:
    """Refuse nodes of a release that the cloud must not have; a cloud that cannot be asked from here is let pass.

    Raises:
        DockstackError: they would be newer than its conductors, or keep its services from starting.
    """
    try:
        apis.versions(cloud)
    except Refused as refused:
        raise DockstackError(refused.seen, f"{refused.means} {refused.cure}") from refused
    except (Failed, Skipped):
        return


def require_accepted(cloud: CloudDocument) -> None:
    """Refuse nodes to which the cloud says no already here: their accounts, their bus, the queues that they declare.

    By the node itself, that would be found once all is installed there. What cannot be asked from here, nodes may
    reach. The release was asked for before (``require_release``).

    Raises:
        DockstackError: it says no; all of it at once.
    """
    asked = [probe for probe in probes(cloud) if probe.name in OF_DOCUMENT]
    with ThreadPoolExecutor(len(asked)) as pool:
        found = [one for one in pool.map(_refusal, asked) if one]
    if found:
        redact = GivenSecrets(cloud.secrets()).redact
        told = "\n".join(dict.fromkeys(f"- {one.seen} {one.means} {one.cure}" for one in found))
        raise DockstackError(
            "The cloud would refuse nodes with this cloud document; nothing was changed.",
            "Correct the document, or the cloud; `dockstack cloud check` asks again. "
            "If it refuses this machine alone, --skip-probes goes on.",
            redact(told),
        )


def _refusal(probe: Probe) -> Refused | None:
    try:
        probe.ask()
    except Refused as refused:
        return refused
    except (Failed, Skipped):
        pass
    return None
