# SPDX-License-Identifier: Apache-2.0
"""The hypervisor of this machine alone, for a Nova that somebody else installs and starts.

The work is that of the plugin's five verbs, as in a cloud of our own. ``teardown.clean`` removes the rest.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.hypervisors import nova_compute
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE, Docker, our_containers
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.node.output import ENGINE_LIMIT
from dockstack.deploy.recipes import environments, foundation, mounts
from dockstack.deploy.recipes.packages import for_servers
from dockstack.deploy.run.teardown import ENGINE_SERVICES
from dockstack.errors import DockstackError
from dockstack.names import UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockstack.deploy.hypervisors.nova_compute import NovaCompute
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.records import Records

OUR_SERVICES = ENGINE_SERVICES | {"lxcfs", *mounts.NAMES}


def require_no_cloud(records: Records) -> None:
    """Refuse a machine on which dockstack runs a whole cloud, or a node of one: its Nova is ours.

    Raises:
        DockstackError: it does.
    """
    others = sorted({service.name for service in records.services()} - OUR_SERVICES)
    if others:
        raise DockstackError(
            f"dockstack runs a cloud on this machine ({', '.join(others[:4])} ...), whose hypervisor is part of it.",
            "Use another machine for the other Nova, or remove that cloud first: dockstack clean",
        )


class HypervisorAlone:
    """What a machine has of a hypervisor without a cloud of ours. Every verb is idempotent."""

    def __init__(self, machine: Machine) -> None:
        """Work on this machine."""
        self._machine = machine

    def install(self) -> None:
        """Have the engine, LXCFS and what consoles are drawn with; nothing is started."""
        foundation.lay(self._machine)
        if self._machine.backend.name == "supervisor":  # which runs from there, and outlives a checkout
            environments.command_line(self._machine)
        self._machine.packages(*self._machine.distribution.packages_of(*for_servers(self._machine.attributes)))
        self._plugin.install(self._machine)

    def configure(self, served: NovaCompute) -> None:
        """Have the runtime wrapper, its registration and the driver's directories, for this nova-compute."""
        nova_compute.remember(self._machine.manifest, served)
        self._plugin.configure(self._machine)

    def start(self) -> None:
        """Have the engine and LXCFS running, and where there are volumes what mounts them for servers."""
        environments.supervise(self._machine)
        self._plugin.start(self._machine)
        mounts.start(self._machine, self._served)

    def stop(self) -> None:
        """Stop LXCFS, and the engine if we started it; servers go on."""
        machine = self._machine
        others = [service for service in machine.records.services() if service.name not in ENGINE_SERVICES]
        machine.backend.stop_all(others, lambda service: machine.say(f"Stopped {service.name}"))
        self._plugin.stop(machine)
        machine.backend.finish()

    def cleanup(self) -> None:
        """Remove servers with all that is theirs, and our keys of the engine; containers and images of others stay."""
        plugin, machine = self._plugin, self._machine
        plugin.refuse_hung(machine)
        servers = self._servers()
        plugin.cleanup(machine)
        mounts.remove(machine, self._served)
        self._unplug(servers)
        for directory in (paths.PATCH_DIRECTORY, self._served.state):
            machine.absent(directory)

    @property
    def _plugin(self) -> Docker:
        return Docker(self._machine.attributes, self._served)

    @property
    def _served(self) -> NovaCompute:
        return nova_compute.remembered(self._machine.manifest)

    def _servers(self) -> list[str]:
        """Return the uuids of the servers in the engine; none if it does not answer."""
        client = ["docker", "-H", f"unix://{engine_of(self._machine.attributes).socket}"]
        listed = ["ps", "-a", "--no-trunc", "--filter", f"label={UUID_LABEL}", "--format", CONTAINER_LINE]
        lines = self._machine.run([*client, *listed], check=False, limit=ENGINE_LIMIT).lines
        ours = set(our_containers(lines))
        return sorted({line.split()[2] for line in lines if line.split()[0] in ours})

    def _unplug(self, servers: Collection[str]) -> None:
        """Take servers' ports off the switch, which is not ours: their devices went with their namespaces."""
        if not servers:
            return
        found = "ovs-vsctl --timeout=10 --bare --columns=name find Interface external_ids:vm-uuid=$server"
        self._machine.run(
            f"for server in {shlex.join(servers)}; do for port in $({found}); do"
            " ovs-vsctl --timeout=10 --if-exists del-port $port; done; done",
            check=False,
        )
