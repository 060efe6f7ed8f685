# SPDX-License-Identifier: Apache-2.0
"""Whether root disks are limited to their flavors' sizes; ``status`` shows it below its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.compute.resources.storage import read_storage
from dockstack.deploy.wanted import hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.node.shell import LocalShell
    from dockstack.deploy.supervision.services import Service

QUESTION = ("info", "--format", "{{.Driver}} {{.DockerRootDir}}")
COMPUTE = "nova-compute"
PATIENCE = "5"  # seconds


@dataclass(frozen=True)
class RootDisks:
    """The disks of one host's servers.

    Attributes:
        host: the further host on this machine; "" for the machine itself.
        limited: whether each server is held to its flavor's disk.
        text: for people: how, or why not.
    """

    host: str
    limited: bool
    text: str


def look(services: Sequence[Service], socket: str, shell: LocalShell) -> list[RootDisks]:
    """Ask each engine that nova-compute uses; one that does not answer is left out, as the table shows it."""
    keys = [service.inside for service in services if service.name.endswith(COMPUTE)]
    return [found for key in keys if (found := _ask(key, socket, shell))]


def _ask(key: str, socket: str, shell: LocalShell) -> RootDisks | None:
    path = hosts.outside(key, socket) if key else socket
    answer = shell.run(["timeout", PATIENCE, "docker", "-H", f"unix://{path}", *QUESTION], check=False)
    driver, _, root = answer.stdout.strip().partition(" ")
    if not answer.ok or not root:
        return None
    storage = read_storage(f"{hosts.state_directory(key)}{root}" if key else root, driver)
    return RootDisks(key, storage.sized, storage.describe())
