# SPDX-License-Identifier: Apache-2.0
"""The interface of a hypervisor plugin: five verbs, called by the recipes, and what it adds to Nova's configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.supervision.machine import Machine


@dataclass(frozen=True)
class Contribution:
    """What a hypervisor adds to others' configuration.

    Attributes:
        compute_driver: nova.conf's ``compute_driver``.
        container_formats: added to Glance's, never replacing them.
        groups: groups that nova-compute needs besides its own.
        watch: files whose content decides on a restart of nova-compute.
        nova: sections of nova.conf.
        metadata_extension: what serves metadata in Neutron's agent.
        agent_watch: files whose content decides on a restart of that agent.
    """

    compute_driver: str
    container_formats: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    nova: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    metadata_extension: str = "metadata"
    agent_watch: tuple[str, ...] = ()


class Hypervisor(ABC):
    """A hypervisor on one node. Every verb is idempotent."""

    name: str

    @abstractmethod
    def contribution(self) -> Contribution:
        """Return what it adds to the configuration of Nova and Glance; pure."""

    def packages(self, distribution: Distribution, *, engine: bool, client: bool) -> tuple[str, ...]:
        """Return the packages that ``install`` brings; pure.

        Args:
            distribution: whose packages.
            engine: whether there is one already.
            client: whether there is one for it.
        """
        del distribution, engine, client
        return ()

    def edits(self) -> Mapping[str, Callable[[str | None], str]]:
        """Return the files of others that ``configure`` edits, and what becomes of each one's text; pure."""
        return {}

    @abstractmethod
    def install(self, machine: Machine) -> None:
        """Called while Nova is installed, on nodes with the compute role."""

    @abstractmethod
    def configure(self, machine: Machine) -> None:
        """Called after nova.conf exists."""

    @abstractmethod
    def start(self, machine: Machine) -> None:
        """Called just before nova-compute starts."""

    @abstractmethod
    def stop(self, machine: Machine) -> None:
        """Called by ``down``, after nova-compute has stopped; servers go on."""

    def refuse_hung(self, machine: Machine) -> None:
        """Called before ``clean`` changes anything: refuses if what ``cleanup`` needs runs, and does not answer."""
        del machine

    @abstractmethod
    def cleanup(self, machine: Machine) -> None:
        """Called by ``clean``: removes what Nova made through this hypervisor, and nothing else."""
