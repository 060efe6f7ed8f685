# SPDX-License-Identifier: Apache-2.0
"""From an inventory to tasks: every recipe's stages on every node, with what each waits for.

A recipe is a file in ``recipes/`` with a function ``stages(node)``, which returns its stages (none if the node has no
use for it), and a line in ``RECIPES``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.recipes.stage import Stage, check_graph

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Inventory, Node

# Files of recipes/; their order means nothing, what a stage waits for stands in the stage.
RECIPES = (
    "foundation",
    "packages",
    "accounts",
    "environments",
    "encryption",
    "infrastructure",
    "fabric",
    "keystone",
    "compatibility",
    "placement",
    "glance",
    "registry",
    "cinder",
    "barbican",
    "neutron",
    "nova",
    "hypervisor",
    "hypervisor_removal",
    "compute",
    "telemetry",
    "mounts",
    "hosts",
    "migration",
    "networks",
    "base_image",
)


@dataclass(frozen=True)
class Task:
    """One stage on one node."""

    node: Node
    stage: Stage
    after: frozenset[str]

    @property
    def key(self) -> str:
        """The task's name in events and in other tasks' ``after``."""
        return task_key(self.node, self.stage.name)


def task_key(node: Node, stage: str) -> str:
    """Return the key of a stage on a node."""
    return f"{node.name}/{stage}"


def node_stages(node: Node) -> tuple[Stage, ...]:
    """Return all stages of a node, each after those that it waits for.

    Raises:
        DockstackError: the recipes' dependencies do not fit together.
    """
    found: list[Stage] = []
    for name in RECIPES:
        recipe = importlib.import_module(f"dockstack.deploy.recipes.{name}")
        found.extend(recipe.stages(node))
    return check_graph(found)


def tasks(inventory: Inventory) -> tuple[Task, ...]:
    """Return the tasks of all nodes; the first node goes first, the others then side by side."""
    leader, *others = inventory.nodes
    leading = tuple(Task(leader, stage, _keys(leader, stage)) for stage in node_stages(leader))
    barrier = frozenset(task.key for task in leading)
    following = tuple(
        Task(node, stage, _keys(node, stage) or barrier) for node in others for stage in node_stages(node)
    )
    return leading + following


def _keys(node: Node, stage: Stage) -> frozenset[str]:
    return frozenset(task_key(node, name) for name in stage.after)
