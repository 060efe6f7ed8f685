# SPDX-License-Identifier: Apache-2.0
"""What ``up`` would do for a cloud with some attributes: its settings and its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.deploy.configuration.settings import SECRET_NAMES
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.recipes.stage import Stage


def settings(*assignments: str, **more: Any) -> Settings:
    """Return its settings, with secrets that can be told apart."""
    attributes = load(None, assignments).local.attributes
    secrets = {name: f"secret-{name}" for name in SECRET_NAMES}
    return settings_from(attributes, None, secrets, hostname="node1", datapath="system", **more)


def stages(*assignments: str) -> dict[str, Stage]:
    """Return its stages by their names."""
    return {stage.name: stage for stage in node_stages(load(None, assignments).local)}
