# SPDX-License-Identifier: Apache-2.0
"""Which devices a server has: what the compute service's root noted before it gave them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Attached:
    """A volume that a server has.

    Attributes:
        volume: its uuid.
        name: of the device in the server, such as vdb.
        major: the device's.
        minor: likewise.
        read_only: it may not be written to.
    """

    volume: str
    name: str
    major: int
    minor: int
    read_only: bool


def attached(directory: Path, server: str) -> tuple[Attached, ...]:
    """Read what a server has; what cannot be read, it has not.

    Args:
        directory: of all servers' records.
        server: its uuid.
    """
    found: list[Attached] = []
    if _UUID.fullmatch(server):
        for path in sorted((directory / server).glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                said = json.loads(path.read_bytes())
                name = str(said["device"])
                if re.fullmatch(r"[a-z]{1,16}", name):
                    numbers = int(said["major"]), int(said["minor"])
                    found.append(Attached(str(said["volume"]), name, *numbers, bool(said["read_only"])))
    return tuple(found)
