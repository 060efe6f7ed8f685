# SPDX-License-Identifier: Apache-2.0
"""What a story's servers are made of."""

from __future__ import annotations

from dataclasses import dataclass

from dockstack.verify.model import PREFIX


@dataclass(frozen=True)
class Means:
    """What servers are made of.

    Attributes:
        flavors: the small one, and one with more memory on the same disk; the small one alone if there is no other.
        group: the id of the security group.
        token: tells the names of this run from those of others.
    """

    image_id: str
    network_id: str
    external_network: str | None
    flavors: tuple[str, ...]
    group: str
    token: str

    def name(self, what: str) -> str:
        """Name a resource, so that a later run finds it if this one is killed."""
        return f"{PREFIX}chaos-{what}-{self.token}"
