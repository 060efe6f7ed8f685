# SPDX-License-Identifier: Apache-2.0
"""The stages that make the machine they run on a compute node of somebody's cloud, from its commission.

They are those of ``up`` wherever these know nothing of a cloud: packages, accounts, environments, the hypervisor. What
is written and started in between comes from ``configuration/compute_node.py``, so that a node gets what ``plan`` shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import compute_node, neutron, nova, openvswitch_agent, privilege, scripts
from dockstack.deploy.configuration.migration import SERVICE
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.node.environments import shim
from dockstack.deploy.node.output import StepFailedError, tail
from dockstack.deploy.recipes import (
    accounts,
    environments,
    fabric,
    foundation,
    hypervisor,
    migration,
    mounts,
    packages,
    telemetry,
)
from dockstack.deploy.recipes.controller import MIGRATION_ENVIRONMENT, PYTHON, install_script
from dockstack.deploy.recipes.facts import settings_with
from dockstack.deploy.recipes.stage import Stage, check_graph
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.cloud_keys import OVN
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node

SHARED = (foundation, packages, accounts, environments, hypervisor, telemetry, mounts)
PATIENCE = 240  # seconds for the first report, less than a question may take
FABRIC = ("ovsdb", "ovs-vswitchd", "ovn-controller")
AGENTS = ("neutron-ovn-agent", "neutron-openvswitch-agent")


class ComputeNode:
    """What this machine has of one cloud."""

    def __init__(self, node: Node, cloud: CloudDocument, disabled: str = "") -> None:
        """Take them as the commission has them; ``disabled`` is why nothing may be placed here at first.

        Raises:
            DockstackError: the attributes ask for no servers.
        """
        plugin = chosen(node)
        if plugin is None:
            raise DockstackError(f"{node.name} runs no servers.", "Give it the role compute and docker.enable: true.")
        self._node = node
        self._cloud = cloud
        self._disabled = disabled
        self._contribution = plugin.contribution()
        self._ovn = cloud.mechanism == OVN

    def stages(self) -> tuple[Stage, ...]:
        """Return all stages, each after those that it waits for."""
        shared = [stage for recipe in SHARED for stage in recipe.stages(self._node)]
        switch = self._switch() if self._cloud.own_switch else ()
        # Servers' ports are bound where OVN, or else the agent, has reported this host.
        before = "name" if not switch else "switch" if self._ovn else "agent"
        own = (
            Stage("packages", "Installing the distribution's packages", self.install, ("foundation",), phase="install"),
            Stage("command-line", "Putting dockstack on the path", self.command, ("foundation",), phase="install"),
            Stage(
                hypervisor.NOVA_CONFIGURATION,
                "Configuring Nova, Neutron and the switch" if switch else "Configuring Nova",
                self.configure,
                ("accounts", "packages", "openstack-environment"),
            ),
            Stage(
                "name",
                "Asking whether the cloud has another host of this name",
                self.refuse_namesake,
                (hypervisor.NOVA_CONFIGURATION,),
                phase="infrastructure",
            ),
            *switch,
            Stage(
                "compute",
                "Starting nova-compute",
                self.start_compute,
                ("supervisor", before, "hypervisor-start", *mounts.before(self._node)),
                phase="services",
            ),
            Stage(
                "migration",
                "Letting other nodes send servers here",
                self.start_migration,
                # The address that it listens on may be on a bridge; and one at a time installs packages.
                ("supervisor", before, "hypervisor-start"),
                phase="services",
            ),
            Stage("known", "Waiting until the cloud knows this host", self.await_report, ("compute",), 0, "cloud"),
        )
        names = {stage.name for stage in own}
        return check_graph([*(stage for stage in shared if stage.name not in names), *own])

    def _switch(self) -> tuple[Stage, ...]:
        return (
            Stage(
                "switch",
                "Starting Open vSwitch and OVN" if self._ovn else "Starting Open vSwitch",
                self.start_switch,
                ("supervisor", "name"),
                phase="infrastructure",
            ),
            Stage(
                "agent",
                "Starting Neutron's agent",
                self.start_agent,
                ("switch", "hypervisor-configure"),
                phase="services",
            ),
        )

    def install(self, machine: Machine) -> None:
        """Install the distribution's packages."""
        packages.install(machine, switch=self._cloud.own_switch, ovn=self._ovn)

    def command(self, machine: Machine) -> None:
        """Have ``dockstack`` on PATH; its environment is there, as this runs in it."""
        path = f"{environments.PATH_DIRECTORY}/dockstack"
        machine.file(path, shim(f"{paths.CLI_VENV}/bin/dockstack"), mode=0o755)

    def configure(self, machine: Machine) -> None:
        """Write all files of the node."""
        for name in ("instances", "lock"):
            machine.directory(f"{nova.STATE_DIRECTORY}/{name}", owner="nova")
        if self._cloud.own_switch:
            machine.directory(f"{neutron.STATE_DIRECTORY}/lock", owner="neutron")
            for path in (scripts.DIRECTORY, *((privilege.ROOTWRAP_FILTERS,) if self._ovn else ())):
                machine.directory(path)
        for path, file in compute_node.files(self._cloud, self._settings(machine)).items():
            machine.file(path, file.content, group=file.group, mode=file.mode)

    def refuse_namesake(self, machine: Machine) -> None:
        """Refuse to be a host that another machine is: its chassis would be taken from it, and its servers cut off.

        Raises:
            StepFailedError: another one is, or the cloud refuses the node's account.
        """
        script, hostname = install_script(machine, "await_provider"), self._settings(machine).hostname
        said = machine.run([PYTHON, script, hostname], environment=MIGRATION_ENVIRONMENT, check=False)
        if not said.ok:
            raise StepFailedError(
                f"This machine cannot become the host {hostname}.",
                "Give it another name, or have the cloud forget that host, if it is no more. If it was this machine "
                "before, put its /var/lib/nova/compute_id back. If an account is refused, correct the cloud document.",
                machine.secrets.redact(tail(f"{said.stdout}\n{said.stderr}")),
            )

    def start_switch(self, machine: Machine) -> None:
        """Have the switch running, and OVN's controller where the cloud has OVN."""
        agents = (*openvswitch_agent.BRIDGES, *openvswitch_agent.mapped_bridges(self._cloud))
        fabric.note(machine, (fabric.OPEN_VSWITCH_DATABASE,), fabric.BRIDGES if self._ovn else agents)
        self._start(machine, *FABRIC)

    def start_agent(self, machine: Machine) -> None:
        """Have Neutron's agent running: with OVN it serves metadata, else it makes the networks."""
        if self._ovn:
            machine.manifest.made("metadata-namespaces", "ovnmeta-*")
        self._start(machine, *AGENTS)

    def start_compute(self, machine: Machine) -> None:
        """Have nova-compute running; in a cloud that does not know this host yet, as one that gets no server."""
        if self._disabled:
            machine.once("host-registered", self._settings(machine).hostname, lambda: self._register(machine))
        for service in self._services(machine, "nova-compute"):
            ensure_running(machine, mounts.after_holder(machine, service))

    def _register(self, machine: Machine) -> None:
        script = install_script(machine, "register_host")
        machine.say("Registering this host, disabled until it is proven")
        machine.command([PYTHON, script, self._disabled], user="nova", environment=MIGRATION_ENVIRONMENT)

    def start_migration(self, machine: Machine) -> None:
        """Have the SSH server running over which servers come."""
        (server,) = self._services(machine, SERVICE)
        migration.start_on_node(machine, server)

    def await_report(self, machine: Machine) -> None:
        """Wait until nova-compute has reached the cloud: a wrong password, and it would run and try for ever.

        Raises:
            StepFailedError: it has not.
        """
        script = install_script(machine, "await_provider")
        hostname = self._settings(machine).hostname
        said = machine.run([PYTHON, script, hostname, str(PATIENCE)], environment=MIGRATION_ENVIRONMENT, check=False)
        if not said.ok:
            raise StepFailedError(
                "nova-compute runs, but the cloud does not know this host.",
                "See its log, `dockstack logs nova-compute` there, and the cloud document.",
                machine.secrets.redact(tail(f"{said.stdout}\n{said.stderr}")),
            )

    def _start(self, machine: Machine, *names: str) -> None:
        for service in self._services(machine, *names):
            ensure_running(machine, service)

    def _services(self, machine: Machine, *names: str) -> Iterator[Service]:
        added = self._contribution
        settings = self._settings(machine)
        wanted = compute_node.services(machine.distribution, self._cloud, settings, added.groups, added.watch)
        return (service for service in wanted if service.name in names)

    def _settings(self, machine: Machine) -> Settings:
        return settings_with(machine, {})
