# SPDX-License-Identifier: Apache-2.0
"""What Placement has of one compute host: its provider, what that offers, and what is held of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.administration.api import ConflictError, NotThereError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.administration.api import Cloud

DISABLED = "COMPUTE_STATUS_DISABLED"  # what nova-compute has on its provider as long as its service is disabled
TRIES = 5  # of a change that another one may overtake


@dataclass(frozen=True)
class Provider:
    """A resource provider."""

    id: str
    name: str


def provider(cloud: Cloud, host: str) -> Provider | None:
    """Return a host's provider, None if Placement has none."""
    found = cloud.placement.call("GET", "/resource_providers", query={"name": host})["resource_providers"]
    return Provider(str(found[0]["uuid"]), str(found[0]["name"])) if found else None


def offers(cloud: Cloud, found: Provider) -> dict[str, int]:
    """Return how much a provider has, by resource class."""
    plain = cloud.placement.call("GET", f"/resource_providers/{found.id}/inventories")["inventories"]
    return {name: int(each["total"]) for name, each in plain.items()}


def consumers(cloud: Cloud, found: Provider) -> list[str]:
    """Return who holds something of a provider: servers, and moves."""
    return list(cloud.placement.call("GET", f"/resource_providers/{found.id}/allocations")["allocations"])


def delete(cloud: Cloud, found: Provider) -> None:
    """Delete a provider that nobody holds anything of.

    Raises:
        ConflictError: somebody does.
    """
    try:
        cloud.placement.call("DELETE", f"/resource_providers/{found.id}")
    except NotThereError:
        return


def release(cloud: Cloud, found: Provider, consumer: str) -> None:
    """Take from a consumer what it holds of a provider; what it holds of others, as after an evacuation, stays."""

    def attempt() -> None:
        held = cloud.placement.call("GET", f"/allocations/{consumer}")
        if found.id not in held["allocations"]:
            return
        kept = {name: {"resources": each["resources"]} for name, each in held["allocations"].items()}
        del kept[found.id]
        cloud.placement.call("PUT", f"/allocations/{consumer}", {**held, "allocations": kept})

    _retried(attempt)


def has_trait(cloud: Cloud, found: Provider, trait: str) -> bool:
    """Tell whether a provider bears a trait."""
    return trait in cloud.placement.call("GET", f"/resource_providers/{found.id}/traits")["traits"]


def set_trait(cloud: Cloud, found: Provider, trait: str, *, wanted: bool) -> None:
    """Put a trait on a provider, or take it away."""

    def attempt() -> None:
        path = f"/resource_providers/{found.id}/traits"
        known = cloud.placement.call("GET", path)
        traits = set(known["traits"])
        now = traits | {trait} if wanted else traits - {trait}
        if now != traits:
            cloud.placement.call("PUT", path, {**known, "traits": sorted(now)})

    _retried(attempt)


def _retried(attempt: Callable[[], None]) -> None:
    """Do it again if somebody was faster, as nova-compute writes there, too."""
    for left in range(TRIES - 1, -1, -1):
        try:
            attempt()
        except ConflictError:
            if not left:
                raise
        else:
            return
