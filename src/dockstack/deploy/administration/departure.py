# SPDX-License-Identifier: Apache-2.0
"""Have a cloud forget a compute host whose nova-compute has ended: afterwards, nothing of it is left.

Nova deletes the service and takes the provider, the mapping to a cell and the places in aggregates along. Where it
cannot delete the provider, it only logs that; so it is looked at here, as all of it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.administration import agents, hosts, providers
from dockstack.deploy.administration.api import ConflictError
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud

REASON = "dockstack node remove"
NAMED = 5
DRAIN = "Move them away first: dockstack node drain"
EVACUATE = (
    "Have them made anew elsewhere, `openstack server evacuate SERVER` for each, or delete them; then run this again."
)


def refuse_inhabited(cloud: Cloud, host: str, cure: str = DRAIN) -> None:
    """Refuse a host on which there are servers or moves.

    Raises:
        DockstackError: there are; they are named.
    """
    found = hosts.servers(cloud, host)
    if found:
        raise DockstackError(f"Nova has {len(found)} servers on {host}: {_some([each.label for each in found])}.", cure)
    moves = hosts.moves(cloud, host)
    if moves:
        waiting = [f"{each.server} ({each.status})" for each in moves]
        raise DockstackError(f"{len(moves)} moves from or to {host} have not ended: {_some(waiting)}.", DRAIN)


def close(cloud: Cloud, host: str) -> None:
    """Disable a host's nova-compute, so that no new servers come, and refuse a host that has servers or moves.

    A refused host stays as it was, unless a server was placed there between the look and the disabling. Where Nova has
    no such service, as after a removal that was killed, there is nothing to disable.

    Raises:
        DockstackError: there are servers or moves.
    """
    service = hosts.service(cloud, host)
    refuse_inhabited(cloud, host)
    if service is not None and service.enabled:
        hosts.disable(cloud, service, REASON)
        refuse_inhabited(cloud, host)  # one that was placed there in between


def declare_lost(cloud: Cloud, host: str) -> None:
    """Have Nova take a host for dead, and refuse one that lives, or that has servers.

    Raises:
        DockstackError: it lives, or there are servers that were not evacuated.
    """
    service = hosts.service(cloud, host)
    if service is None:
        return
    if service.up and not service.forced_down:
        raise DockstackError(
            f"nova-compute on {host} has reported at {service.reported}: it is not lost.",
            "Remove it without --lost; or end its nova-compute first, so that it cannot come back to deleted records.",
        )
    if service.enabled:
        hosts.disable(cloud, service, f"{REASON} --lost")
    if not service.forced_down:
        hosts.force_down(cloud, service)
    refuse_inhabited(cloud, host, EVACUATE)


def forget_service(cloud: Cloud, host: str, tell: Callable[[str], None]) -> None:
    """Delete a host's service with all that Nova and Placement have of it; its nova-compute has ended.

    Raises:
        DockstackError: Nova refuses, or something stays in spite of all.
    """
    service = hosts.service(cloud, host)
    if service is not None:
        tell("Deleting its compute service")
        try:
            hosts.delete(cloud, service)
        except ConflictError as error:
            refuse_inhabited(cloud, host)
            raise DockstackError(error.brief, DRAIN) from error
    _forget_provider(cloud, host, tell)
    for aggregate_id, _ in hosts.aggregates(cloud, host):
        hosts.leave_aggregate(cloud, aggregate_id, host)


def _forget_provider(cloud: Cloud, host: str, tell: Callable[[str], None]) -> None:
    """Delete a provider that Nova has left, as it does when somebody still holds something of it.

    Nova has no server and no move on this host any more. Who holds something is a server that was evacuated from it.
    """
    provider = providers.provider(cloud, host)
    if provider is None:
        return
    tell("Deleting its resource provider, which Nova has left")
    for consumer in providers.consumers(cloud, provider):
        providers.release(cloud, provider, consumer)
    providers.delete(cloud, provider)


def forget_agents(cloud: Cloud, host: str, tell: Callable[[str], None]) -> None:
    """Have Neutron forget a host's agents, and OVN its chassis; its ovn-controller has ended.

    Raises:
        DockstackError: one comes back, as its process still runs somewhere.
    """
    if not agents.agents(cloud, host):
        return
    tell("Deleting its network agents and its chassis")
    left = agents.forget(cloud, host)
    if left:
        kinds = ", ".join(sorted({each.kind for each in left}))
        raise DockstackError(
            f"Neutron still has agents of {host}: {kinds}.",
            "Does ovn-controller or neutron-openvswitch-agent still run there, or ovn-controller on a machine with the "
            "same system-id? End it, run this again.",
        )


def left_of(cloud: Cloud, host: str) -> list[str]:
    """Return what a cloud still has of a host, in words."""
    found = ["compute service"] if hosts.service(cloud, host) else []
    found += ["mapping to a cell"] if hosts.is_mapped(cloud, host) else []
    found += ["resource provider"] if providers.provider(cloud, host) else []
    found += [f"agent: {each.kind}" for each in agents.agents(cloud, host)]
    return [*found, *(f"place in the aggregate {name}" for _, name in hosts.aggregates(cloud, host))]


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
