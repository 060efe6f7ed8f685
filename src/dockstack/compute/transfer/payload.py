# SPDX-License-Identifier: Apache-2.0
"""What one host tells the other about a server that it sent.

It goes twice: by way of Nova's messages, and behind the parts themselves, because a message may die with its reader.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import NamedTuple

from dockstack.errors import DockstackError

VERSION = 2


class Part(NamedTuple):
    """One part of a server, whole."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Payload:
    """What was sent; the parts themselves went by another way.

    Attributes:
        image: the engine's id of the image that the server was made from.
        parts: the size and checksum of each part that was sent.
        request: a random word that tells this migration from every other of the server.
    """

    image: str
    parts: dict[str, Part] = field(default_factory=dict)
    request: str = ""

    @property
    def digest(self) -> str:
        """One checksum of it all: the label of a container that was made of it."""
        return hashlib.sha256(self.encode().encode()).hexdigest()

    def encode(self) -> str:
        """Write it as Nova passes it on: a list, as of disks."""
        parts = {name: part._asdict() for name, part in sorted(self.parts.items())}
        said = {"type": "docker", "version": VERSION, "image": self.image, "parts": parts, "request": self.request}
        return json.dumps([said])

    @classmethod
    def decode(cls, text: str) -> Payload:
        """Read it.

        Raises:
            DockstackError: another driver wrote it, or another version of this one.
        """
        try:
            (entry,) = json.loads(text)
            known = entry["type"] == "docker" and entry["version"] == VERSION
            parts = {str(name): Part(int(part["size"]), str(part["sha256"])) for name, part in entry["parts"].items()}
            payload = cls(str(entry["image"]), parts, str(entry["request"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            known, payload = False, cls("")
        if not known:
            raise DockstackError(
                "The other host sent the server in a form that this host does not know.",
                "Update the driver on both hosts; the server's files are still on the host that it came from.",
            )
        return payload
