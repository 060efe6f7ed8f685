# SPDX-License-Identifier: Apache-2.0
"""The two Python environments, the services' and the command line's, and the links to their programs on PATH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.node.environments import ensure_environment, ensure_wheel, lock_text, shim
from dockstack.deploy.recipes.stage import Stage

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

PATH_DIRECTORY = "/usr/local/bin"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that install code; nothing of them runs yet."""
    del node
    return (
        Stage("command-line", "Installing the command line", command_line, ("foundation",), phase="install"),
        Stage(
            "openstack-environment",
            "Installing OpenStack's services",
            openstack,
            ("foundation",),
            weight=2,
            phase="install",
        ),
        Stage("supervisor", "Starting the supervisor", supervise, ("command-line",), weight=0, phase="prepare"),
    )


def command_line(machine: Machine) -> None:
    """Have dockstack and its supervisor in an environment of their own, and both commands on PATH."""
    ensure_environment(machine, paths.CLI_VENV, lock_text("cli"), title="Installing the command line's packages")
    ensure_wheel(machine, paths.CLI_VENV, extras_installed=f"{paths.CLI_VENV}/.dockstack-wheel")
    machine.file(f"{PATH_DIRECTORY}/dockstack", shim(f"{paths.CLI_VENV}/bin/dockstack"), mode=0o755)


def openstack(machine: Machine) -> None:
    """Have the services' code, without our driver, which the hypervisor plugin installs."""
    lock = lock_text(f"{machine.attributes.text('release')}/openstack")
    ensure_environment(machine, paths.OPENSTACK_VENV, lock, title="Installing OpenStack's packages (about 30 s)")
    # The services' lock holds the client already.
    machine.file(f"{PATH_DIRECTORY}/openstack", shim(f"{paths.OPENSTACK_VENV}/bin/openstack"), mode=0o755)


def supervise(machine: Machine) -> None:
    """Have the supervisor running, so that stages can start services."""
    machine.backend.prepare()
