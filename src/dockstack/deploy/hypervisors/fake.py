# SPDX-License-Identifier: Apache-2.0
"""Nova's own fake driver: servers that exist in the database only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.hypervisors.model import Contribution, Hypervisor

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine


class Fake(Hypervisor):
    """Needs nothing on the node."""

    name = "fake"

    def contribution(self) -> Contribution:
        """Name the driver."""
        return Contribution(compute_driver="fake.FakeDriverWithoutFakeNodes")

    def install(self, machine: Machine) -> None:
        """There is nothing to install."""

    def configure(self, machine: Machine) -> None:
        """The driver comes with Nova."""

    def start(self, machine: Machine) -> None:
        """There is nothing to start."""

    def stop(self, machine: Machine) -> None:
        """There is nothing to stop."""

    def cleanup(self, machine: Machine) -> None:
        """Nothing was made outside the database."""
