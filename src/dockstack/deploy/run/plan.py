# SPDX-License-Identifier: Apache-2.0
"""From a node to its tasks: every recipe's stages on it, with what each waits for.

A recipe is a file in ``recipes/`` with a function ``stages(node)``, which returns its stages (none if the node has no
use for it), and a line in ``RECIPES``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.recipes.stage import Stage, check_graph

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.wanted.inventory import Node

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


def tasks(node: Node, stages: Iterable[Stage]) -> tuple[Task, ...]:
    """Return these stages as tasks of a node."""
    return tuple(Task(node, stage, frozenset(task_key(node, name) for name in stage.after)) for stage in stages)
