# SPDX-License-Identifier: Apache-2.0
"""The accounts that suites for a DevStack expect, if they are wanted; its flavors, image and clouds go with ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import desired_state
from dockstack.deploy.configuration.compatibility import DEVSTACK
from dockstack.deploy.recipes.controller import provision_once
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that makes the accounts. Where they are not wanted any more, they stay: people may use them."""
    if not node.has(Role.CONTROLLER) or node.attributes.text("compatibility") != DEVSTACK:
        return ()
    return (Stage("people", "Making DevStack's accounts", people, ("identity",), phase="identity"),)


def people(machine: Machine) -> None:
    """Make roles, projects, groups and users, and grant what each has in DevStack."""
    provision_once(machine, "people", desired_state.people(settings_of(machine)))
