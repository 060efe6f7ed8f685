# SPDX-License-Identifier: Apache-2.0
"""All servers of this host and what each uses, read without root, without the engine and without Nova.

Whose container a control group is stands beside the runtime's patches, whose port a device is in its alias.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.containers import runtime
from dockstack.compute.resources import cgroups, usage
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.compute.resources.cgroups import Usage
    from dockstack.compute.resources.usage import PortUsage

LINKS = Path("/sys/class/net")


@dataclass(frozen=True)
class Reading:
    """One server.

    Attributes:
        uuid: Nova's name of it.
        project: the id of its project.
        used: what its control group counted; None: it does not run.
        ports: the counters of its ports as it sees them, by the host's ends.
    """

    uuid: str
    project: str
    used: Usage | None = None
    ports: dict[str, PortUsage] = field(default_factory=dict)


class Census:
    """Reads all servers of a host; what never changes is read once."""

    def __init__(
        self,
        patches: Path = runtime.PATCHES,
        *,
        groups: Path = cgroups.ROOT,
        links: Path = LINKS,
        counters: Path = Path("/proc/net/dev"),
        list_devices: Callable[[], Iterable[tuple[int, str]]] = socket.if_nameindex,
    ) -> None:
        """Read nothing yet.

        Args:
            patches: [docker] patch_directory.
            groups: the root of the control groups.
            links: where the kernel describes network devices.
            counters: where it counts what they carry.
            list_devices: returns number and name of each.
        """
        self._list_devices = list_devices
        self._patches, self._groups, self._links, self._counters = patches, groups, links, counters
        self._owners: dict[str, tuple[str, str]] = {}  # by container
        self._devices: dict[tuple[int, str], str] = {}  # by number and name: a number is never used again

    def read(self) -> tuple[Reading, ...]:
        """Read all servers, those that do not run included.

        Raises:
            OSError: the directory of patches cannot be read.
        """
        self._learn_owners()
        groups = cgroups.find(self._owners, self._groups)
        ports = self._read_ports()
        found: dict[str, Reading] = {}
        # A server that is being rescued has two containers, of which one runs.
        for container, (uuid, project) in sorted(self._owners.items(), key=lambda item: item[0] in groups):
            used = cgroups.read(groups[container]) if container in groups else None
            found[uuid] = Reading(uuid, project, used, ports.get(uuid, {}))
        return tuple(found.values())

    def read_one(self, uuid: str) -> Reading | None:
        """Read one server; None if this host has no word of it."""
        return next((reading for reading in self.read() if reading.uuid == uuid), None)

    def _learn_owners(self) -> None:
        here = runtime.owned(self._patches)
        known = {container: owner for container, owner in self._owners.items() if container in here}
        for container in here - known.keys():
            uuid, project = runtime.read_owner(self._patches, container)
            if uuid:
                known[container] = (uuid, project)
        self._owners = known

    def _read_ports(self) -> dict[str, dict[str, PortUsage]]:
        counted = usage.read_ports(self._counters)
        devices = {pair: self._devices.get(pair) or self._owner_of(pair[1]) for pair in self._list_devices()}
        self._devices = {pair: owner for pair, owner in devices.items() if owner}
        found: dict[str, dict[str, PortUsage]] = {}
        for (_, device), owner in self._devices.items():
            if device in counted:
                found.setdefault(owner, {})[device] = counted[device]
        return found

    def _owner_of(self, device: str) -> str:
        if not device.startswith("tap"):
            return ""
        try:
            alias = (self._links / device / "ifalias").read_text().strip()
        except OSError:  # it went away meanwhile
            return ""
        return alias.removeprefix(NAME_PREFIX) if alias.startswith(NAME_PREFIX) else ""
