# SPDX-License-Identifier: Apache-2.0
"""Which OpenStack release a cloud has, told by the newest version of Nova's API; pure.

Nova's own page of API versions names the last one of each release (``rest_api_version_history.rst``). That of the
database would be surer, and no compute node can read it.
"""

from __future__ import annotations

from typing import Any

from dockstack.deploy.join.probes.model import Refused

Microversion = tuple[int, int]


NEWEST: dict[Microversion, str] = {
    (2, 95): "2023.2",
    (2, 96): "2024.2",
    (2, 100): "2025.2",
    (2, 103): "2026.1",
    (2, 104): "2026.2",
}
"""The newest API version of each release since 2023; where two share one, the later is named."""

OLDEST_COMPUTE = {"2026.1": "2025.1", "2026.2": "2026.1"}
"""With an older compute node, no service of that release starts (nova/objects/service.py, OLDEST_SUPPORTED...)."""


SERVICE_VERSIONS = {72: "2026.1", 74: "2026.2"}
"""How the services of each release count themselves (nova/objects/service.py)."""


def oldest_service(newest: int) -> int:
    """Return the oldest nova-compute beside which services of a version start; 0 where that is not known."""
    release = next((SERVICE_VERSIONS[known] for known in sorted(SERVICE_VERSIONS) if newest <= known), "")
    oldest = OLDEST_COMPUTE.get(release, "")
    return next((version for version, known in SERVICE_VERSIONS.items() if known == oldest), 0)


def microversion(found: Any) -> Microversion:
    """Return an API version as two numbers, from keystoneauth's, or from text as in "2.104"."""
    major, minor = str(found).split(".") if isinstance(found, str) else found
    return int(major), int(minor)


def release_of(newest: Microversion) -> str:
    """Return the release whose API goes up to this version, a development version's next one; "" for a later one."""
    return next((NEWEST[known] for known in sorted(NEWEST) if newest <= known), "")


def check(wanted: str, newest: Microversion) -> str:
    """Return which release a cloud has that takes compute nodes of a release.

    Args:
        wanted: the nodes' release.
        newest: the newest version of the cloud's compute API.

    Raises:
        Refused: it must not have them.
    """
    version = f"{newest[0]}.{newest[1]}"
    cloud = release_of(newest)
    if not cloud:
        raise Refused(
            f"The cloud's compute API goes up to {version}, which is newer than all that this dockstack knows.",
            "Its services may all refuse to start beside nodes of an older release (TooOldComputeService).",
            "Use a dockstack that knows the cloud's release.",
        )
    if wanted > cloud:
        raise Refused(
            f"The compute API goes up to {version}, so the cloud is of {cloud}; its nodes are to be of {wanted}.",
            "A nova-compute newer than its conductors is not supported, and speaks of what they do not know.",
            f"Upgrade the cloud first, or import its document anew with --set release={cloud}, if dockstack has that.",
        )
    if wanted < OLDEST_COMPUTE.get(cloud, ""):
        raise Refused(
            f"The cloud is of {cloud}, and takes nodes of {OLDEST_COMPUTE[cloud]} and later; not of {wanted}.",
            "With one older node, every service of Nova refuses to start (TooOldComputeService).",
            f"Set the document's release to {cloud}.",
        )
    return cloud
