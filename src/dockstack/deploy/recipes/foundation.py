# SPDX-License-Identifier: Apache-2.0
"""dockstack's own directories, before everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.recipes.stage import Stage

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that every node runs first."""
    del node
    return (Stage("foundation", "Making dockstack's directories", lay, phase="prepare"),)


def lay(machine: Machine) -> None:
    """Make the directories that later stages use."""
    machine.directory(paths.ETC)
    machine.directory(paths.OPT)
    machine.directory(paths.VAR)
    machine.directory(paths.STATE_DIRECTORY, mode=0o700)
    machine.directory(paths.LOG)
    machine.directory(paths.RUN)
