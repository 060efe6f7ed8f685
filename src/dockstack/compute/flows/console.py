# SPDX-License-Identifier: Apache-2.0
"""A server's consoles: who may be told where they are, and what answers there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.consoles import vnc_workers
from dockstack.compute.consoles.backend import Line
from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.listener import Place, Switchboard
from dockstack.compute.consoles.registry import Exchange
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    import socket

    from dockstack.compute.consoles.listener import Address
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server


VNC_PORTS = range(5900, 6000)  # where other hypervisors have theirs


class NotRunning(DockstackError):  # noqa: N818 - said of the server
    """There is nothing to look at: the server does not run."""


class Consoles:
    """A host's consoles: those that are looked at, and one switchboard for each kind of viewer."""

    def __init__(self, host: Host, serial: Place, vnc: Place) -> None:
        """Put them together; nothing listens yet."""

        def make(server_uuid: str) -> Console:
            line = Line(host.engine, NAME_PREFIX + server_uuid)
            return Console(server_uuid, line, host.options.console_linger)

        pictures = vnc_workers.Painters()

        def join_picture(server_uuid: str, connection: socket.socket) -> None:
            self._exchange.join(server_uuid, pictures.adopt(connection))

        self._exchange = Exchange(make)
        self.serial = Switchboard(serial, self._exchange.join)
        self.vnc = Switchboard(vnc, join_picture)

    def close(self) -> None:
        """End them all."""
        self.serial.close()
        self.vnc.close()
        self._exchange.close()


def serial_place(address: str, port_range: str) -> Place:
    """Say where serial consoles are; ``port_range`` is "first:last", as [serial_console] has it."""
    first, _, last = port_range.partition(":")
    options = "proxyclient_address and port_range in [serial_console]"
    return Place(address, address, range(int(first), int(last)), options)


def vnc_place(listen: str, told: str) -> Place:
    """Say where VNC consoles are."""
    return Place(listen, told, VNC_PORTS, "server_listen in [vnc]")


def announce_serial(host: Host, consoles: Consoles, server: Server) -> Address:
    """Tell where a running server's serial console is.

    Raises:
        NotRunning: it does not run.
        NoPort: this host has no port for it.
        NotFound: it has no container.
    """
    return _announce(host, consoles.serial, server)


def announce_vnc(host: Host, consoles: Consoles, server: Server) -> Address:
    """Tell where a picture of a running server's console is.

    Raises:
        CannotPaint: this host has nothing to draw it with.
        NotRunning, NoPort, NotFound: as for the serial console.
    """
    vnc_workers.check()
    return _announce(host, consoles.vnc, server)


def _announce(host: Host, switchboard: Switchboard, server: Server) -> Address:
    state = host.engine.container(server.container_name).state
    if state not in (PowerState.RUNNING, PowerState.PAUSED):
        raise NotRunning(f"Server {server.uuid} has no console while it is {state}.", "Start it first.")
    return switchboard.announce(server.uuid)
