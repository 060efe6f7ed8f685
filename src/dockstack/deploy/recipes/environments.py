# SPDX-License-Identifier: Apache-2.0
"""The two Python environments, the services' and the command line's, and the links to their programs on PATH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.node.environments import ensure_environment, ensure_wheel, shim
from dockstack.deploy.node.own_package import lock_text
from dockstack.deploy.recipes.stage import Stage

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

PATH_DIRECTORY = "/usr/local/bin"
COLLECTOR_FILE = "dockstack-collector.pth"
COLLECTOR = "import gc; gc.set_threshold(10000, 10, 10)\n"
"""Python looks for circular garbage after each 700 objects that it makes more than it frees. A service of OpenStack
makes half a million while it loads, and none of them is garbage: a fifth of its start goes into looking at them."""


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
    collect_seldom(machine, paths.OPENSTACK_VENV)
    # The services' lock holds the client already.
    machine.file(f"{PATH_DIRECTORY}/openstack", shim(f"{paths.OPENSTACK_VENV}/bin/openstack"), mode=0o755)


def collect_seldom(machine: Machine, venv: str) -> None:
    """Have each Python of an environment look for circular garbage more seldom, from its first line on.

    Python runs such a file before any program (the ``site`` module), in services, their commands and uWSGI alike.
    """
    for directory in machine.run(f"ls -d {venv}/lib/python3.*/site-packages", check=False).lines:
        machine.file(f"{directory}/{COLLECTOR_FILE}", COLLECTOR)


def supervise(machine: Machine) -> None:
    """Have the supervisor running, so that stages can start services."""
    machine.backend.prepare()
