# SPDX-License-Identifier: Apache-2.0
"""A pyinfra state that is connected to one node and runs each operation at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import StateStage

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Node

SSH_TIMEOUT = 20


@dataclass(frozen=True)
class Connection:
    """What the layer needs of pyinfra."""

    state: Any
    host: Any


def connect(node: Node, **host_data: Any) -> Connection:
    """Connect to a node.

    Args:
        node: the node; its connector is @local, @ssh or @fake.
        host_data: further pyinfra host data (a fake's scripted answers).

    Raises:
        DockstackError: the node cannot be reached.
    """
    quiet()
    name = node.address or node.name if node.connector == "@ssh" else node.connector
    data: dict[str, Any] = {"ssh_user": node.user, "ssh_port": node.port, **host_data}
    if node.key:
        data["ssh_key"] = node.key
    sudo = node.connector == "@ssh" and node.user != "root"
    config = Config(SUDO=sudo, CONNECT_TIMEOUT=SSH_TIMEOUT, SHELL="sh")
    state = State(Inventory(([(name, data)], {})), config, check_for_changes=False)
    state.set_stage(StateStage.Connect)
    try:
        connect_all(state)
    except PyinfraError as error:
        raise DockstackError(
            f"Node {node.name} cannot be reached at {name}.", "Check its address, user and key, and that SSH answers."
        ) from error
    state.set_stage(StateStage.Execute)
    state.is_executing = True
    return Connection(state, next(iter(state.inventory)))


def quiet() -> None:
    """Silence pyinfra's own reports: progress comes from our events, and command outputs may hold secrets."""
    logger = logging.getLogger("pyinfra")
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
