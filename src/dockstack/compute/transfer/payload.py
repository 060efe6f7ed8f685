# SPDX-License-Identifier: Apache-2.0
"""What one host tells the other about a server that it sent, by way of Nova's messages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from dockstack.errors import DockstackError

VERSION = 1


@dataclass(frozen=True)
class Parcel:
    """What was sent; the parts themselves went by another way.

    Attributes:
        image: the engine's id of the image that the server was made from.
        digests: the SHA-256 of each part that was sent.
    """

    image: str
    digests: dict[str, str] = field(default_factory=dict)

    def encode(self) -> str:
        """Write it as Nova passes it on: a list, as of disks."""
        return json.dumps([{"type": "docker", "version": VERSION, "image": self.image, "digests": self.digests}])

    @classmethod
    def decode(cls, text: str) -> Parcel:
        """Read it.

        Raises:
            DockstackError: another driver wrote it, or another version of this one.
        """
        try:
            (entry,) = json.loads(text)
            known = entry["type"] == "docker" and entry["version"] == VERSION
            parcel = cls(str(entry["image"]), {str(part): str(digest) for part, digest in entry["digests"].items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            known, parcel = False, cls("")
        if not known:
            raise DockstackError(
                "The other host sent the server in a form that this host does not know.",
                "Revert the migration, and update the driver on both hosts.",
            )
        return parcel
