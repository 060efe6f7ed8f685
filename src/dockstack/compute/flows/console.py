# SPDX-License-Identifier: Apache-2.0
"""A server's consoles: who may be told where they are, and what answers there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.line import Line
from dockstack.compute.consoles.switchboard import Switchboard
from dockstack.compute.model import NAME_PREFIX, PowerState
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.compute.consoles.switchboard import Address
    from dockstack.compute.flows.host import Host
    from dockstack.compute.model import Server


class NotRunning(DockstackError):  # noqa: N818 - said of the server
    """There is nothing to look at: the server does not run."""


def build_switchboard(host: Host, address: str, port_range: str) -> Switchboard:
    """Put a host's consoles together; nothing listens yet.

    Args:
        host: which.
        address: where Nova's proxy reaches this host.
        port_range: "first:last", as [serial_console] has it.
    """
    first, _, last = port_range.partition(":")

    def make(server_uuid: str) -> Console:
        line = Line(host.engine, NAME_PREFIX + server_uuid)
        return Console(server_uuid, line, host.options.console_linger)

    return Switchboard(address, range(int(first), int(last)), make)


def announce(host: Host, switchboard: Switchboard, server: Server) -> Address:
    """Tell where a running server's serial console is.

    Raises:
        NotRunning: it does not run.
        NoPort: this host has no port for it.
        NotFound: it has no container.
    """
    state = host.engine.container(server.container_name).state
    if state not in (PowerState.RUNNING, PowerState.PAUSED):
        raise NotRunning(f"Server {server.uuid} has no console while it is {state}.", "Start it first.")
    return switchboard.announce(server.uuid)
