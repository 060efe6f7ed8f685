# SPDX-License-Identifier: Apache-2.0
"""What would change on a machine that becomes a compute node; pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import compute_node, migration, openvswitch_agent
from dockstack.deploy.configuration.compute_node import NodeFile
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join.endpoints import endpoints
from dockstack.deploy.join.file_changes import FileChange, file_change
from dockstack.deploy.join.look import Questions, distribution_of, or_debian
from dockstack.deploy.join.obstacles import clones, namesakes, problems
from dockstack.deploy.node.own_package import lock_text
from dockstack.deploy.recipes import mounts, packages, telemetry
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.run.preflight import FOREIGN_FILES, Problem
from dockstack.deploy.wanted.cloud_document import names_loopback
from dockstack.deploy.wanted.cloud_keys import OVN
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.hypervisors.model import Contribution, Hypervisor
    from dockstack.deploy.join.look import NodeFacts, PresentFile
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node


@dataclass(frozen=True)
class ServiceChange:
    """A service that would be started, or started anew."""

    name: str
    what: str


@dataclass(frozen=True)
class NodePlan:
    """What would come of one machine.

    Attributes:
        engine: why its servers are in an engine of our own, "" if they are in the machine's.
        servers: how many are on it.
        chassis: by which number OVN knows its switch, where that is the deployer's; ours have the hostname.
    """

    hostname: str
    problems: tuple[Problem, ...] = ()
    packages: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()
    services: tuple[ServiceChange, ...] = ()
    engine: str = ""
    servers: int = 0
    chassis: str = ""

    @property
    def fits(self) -> bool:
        """Whether nothing keeps the machine from becoming a node."""
        return all(problem.warning for problem in self.problems)

    @property
    def changes(self) -> int:
        """How many things would change."""
        return len(self.packages) + len(self.environments) + len(self.files) + len(self.services)


class Joining:
    """What one node is to have of one cloud."""

    def __init__(self, node: Node, cloud: CloudDocument) -> None:
        """Take both.

        Raises:
            DockstackError: the node's attributes ask for no servers, or for what nodes cannot have yet.
        """
        plugin = chosen(node)
        if plugin is None:
            raise DockstackError(f"{node.name} runs no servers.", "Give it the role compute and docker.enable: true.")
        storage = node.attributes.text("docker.storage")
        if storage != "directory":
            raise DockstackError(
                f"{node.name} is to have docker.storage {storage}: nodes cannot, so far.",
                "Leave it away for nodes, and put docker.data_root onto a file system that limits root disks.",
            )
        self.node, self.cloud = node, cloud
        self.plugin: Hypervisor = plugin
        self._contribution: Contribution = plugin.contribution()
        self._ovn = cloud.mechanism == OVN

    def questions(self, os_release: str) -> Questions:
        """Return what has to be asked of the machine, which has told what it is."""
        further = (service.name for service in (*telemetry.services(self.node), *mounts.services(self.node)))
        questions = Questions(
            distribution=distribution_of(self.node, os_release),
            services=tuple(sorted({*compute_node.here(self.cloud), *further})),
            endpoints=endpoints(self.cloud),
            foreign=FOREIGN_FILES if self.cloud.own_switch else (compute_node.NOVA_CONF,),
            socket=engine_of(self.node.attributes).socket,
            data_root=self.node.attributes.text("docker.data_root"),
        )
        return replace(questions, packages=self.packages(or_debian(questions.distribution), engine=False, client=False))

    def packages(self, distribution: Distribution, *, engine: bool, client: bool) -> tuple[str, ...]:
        """Return all packages that the node has to have."""
        needed = (
            *distribution.packages_of(*packages.wanted(self.node, switch=self.cloud.own_switch, ovn=self._ovn)),
            *migration.packages(distribution),
        )
        return tuple(sorted({*needed, *self.plugin.packages(distribution, engine=engine, client=client)}))

    def settings(self, facts: NodeFacts) -> Settings:
        """Return the node's settings; without any secret."""
        made = settings_from(
            self.node.attributes, self._contribution, {}, hostname=facts.hostname, datapath=self._datapath(facts)
        )
        explicit = self.node.attributes.setting("network.encap_ip")
        address = facts.source if explicit.source == "default" else str(explicit.value)
        return replace(made, tunnel_address=address or made.tunnel_address)

    def _datapath(self, facts: NodeFacts) -> str:
        wanted = self.node.attributes.text("network.datapath")
        return facts.datapath if wanted == "auto" else wanted

    def files(self, facts: NodeFacts) -> dict[str, NodeFile]:
        """Return all files of ours."""
        return compute_node.files(self.cloud, self.settings(facts))

    def paths(self, facts: NodeFacts) -> tuple[str, ...]:
        """Return all files that have to be looked at."""
        return (*self.files(facts), *self.plugin.edits())

    def plan(self, facts: NodeFacts, present: Mapping[str, PresentFile]) -> NodePlan:
        """Return what would change, from what the machine is like and the files that are there."""
        return NodePlan(
            hostname=facts.hostname,
            problems=(*problems(self.node, facts, ovn=self._ovn), *self._tunnels(facts), *self._uplinks()),
            engine=self._why_own(),
            servers=facts.servers,
            chassis=facts.chassis_id if self._ovn and not self.cloud.own_switch else "",
            packages=tuple(name for name in self._packages(facts) if name not in facts.packages),
            environments=tuple(self._environments(facts)),
            files=(changed := tuple(self._changed(facts, present))),
            services=tuple(self._services(facts, {change.path for change in changed})),
        )

    def _why_own(self) -> str:
        chosen = self.node.attributes.setting("docker.own")
        return f"of dockstack's own, {engine_of(self.node.attributes).socket} ({chosen.source})" if chosen.value else ""

    def _packages(self, facts: NodeFacts) -> tuple[str, ...]:
        return self.packages(or_debian(facts.machine.distribution), engine=facts.engine, client=facts.client)

    def _tunnels(self, facts: NodeFacts) -> Iterator[Problem]:
        if names_loopback(self.settings(facts).tunnel_address):
            yield Problem(
                "From which of its addresses it reaches the cloud is not known, so its tunnels would end nowhere.",
                "Has it a route there, and a name server? Or set network.encap_ip for this node.",
            )
        if self._datapath(facts) == "netdev":
            yield Problem(
                "Open vSwitch has no kernel module here: its tunnels end only at an address on a bridge of its own.",
                "Load the module (openvswitch), or put network.encap_ip onto such a bridge (guide, nodes.md).",
                warning=True,
            )

    def _uplinks(self) -> Iterator[Problem]:
        bridges = openvswitch_agent.mapped_bridges(self.cloud) if self.cloud.own_switch and not self._ovn else ()
        if bridges:
            yield Problem(
                f"Servers on physical networks leave by {', '.join(bridges)}, whose network cards are yours to add.",
                f"Once the node is added, ovs-vsctl --may-exist add-port {bridges[0]} NIC there; or leave "
                "openvswitch.bridge_mappings empty.",
                warning=True,
            )

    def _environments(self, facts: NodeFacts) -> Iterator[str]:
        release = self.cloud.text("release")
        lock = lock_text(f"{release}/openstack")
        if facts.lock != hashlib.sha256(lock.encode()).hexdigest():
            yield f"{paths.OPENSTACK_VENV}: OpenStack {release}"

    def _changed(self, facts: NodeFacts, present: Mapping[str, PresentFile]) -> Iterator[FileChange]:
        for path, file in self.files(facts).items():
            change = file_change(path, file, present.get(path), self.cloud.secrets())
            if change:
                yield change
        for path, edit in self.plugin.edits().items():
            was = present.get(path)
            now = NodeFile(edit(was.content if was else None), was.group if was else "root", was.mode if was else 0o644)
            change = file_change(path, now, was, self.cloud.secrets())
            if change:
                yield change

    def _services(self, facts: NodeFacts, changed: set[str]) -> Iterator[ServiceChange]:
        added = self._contribution
        settings, distribution = self.settings(facts), or_debian(facts.machine.distribution)
        wanted = compute_node.services(distribution, self.cloud, settings, added.groups, added.watch)
        for service in (*wanted, *telemetry.services(self.node), *mounts.services(self.node)):
            touched = sorted(changed.intersection(service.watch))
            if service.name not in facts.active:
                yield ServiceChange(service.name, "start")
            elif touched:
                yield ServiceChange(service.name, f"restart, for {', '.join(touched)}")


def together(found: Mapping[str, NodePlan | DockstackError]) -> dict[str, NodePlan | DockstackError]:
    """Return what came of each node, with the problems that only all of them together tell."""
    plans = {name: outcome for name, outcome in found.items() if not isinstance(outcome, DockstackError)}
    same = namesakes({name: plan.hostname for name, plan in plans.items()})
    copied = clones({name: plan.chassis for name, plan in plans.items() if plan.chassis})
    further = {name: [each[name] for each in (same, copied) if name in each] for name in (*same, *copied)}
    refused = {name: replace(plans[name], problems=(*plans[name].problems, *more)) for name, more in further.items()}
    return {**found, **refused}
