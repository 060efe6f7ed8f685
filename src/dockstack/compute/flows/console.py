# SPDX-License-Identifier: Apache-2.0
"""A server's consoles: who may be told where they are, and what answers there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.consoles import vnc_workers
from dockstack.compute.consoles.backend import Backend
from dockstack.compute.consoles.console import Console
from dockstack.compute.consoles.listener import Endpoint, Listener
from dockstack.compute.consoles.registry import Registry
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    import socket

    from dockstack.compute.consoles.listener import ConsoleAddress
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server


VNC_PORTS = range(5900, 6000)  # where other hypervisors have theirs


class NotRunning(DockstackError):  # noqa: N818 - said of the server
    """There is nothing to look at: the server does not run."""


class Consoles:
    """A host's open consoles, and one listener for each kind of viewer."""

    def __init__(self, host: Host, serial: Endpoint, vnc: Endpoint) -> None:
        """Put them together; nothing listens yet."""

        def make(server_uuid: str) -> Console:
            backend = Backend(host.engine, NAME_PREFIX + server_uuid)
            return Console(server_uuid, backend, host.options.console_linger)

        workers = vnc_workers.Workers()

        def join_vnc(server_uuid: str, connection: socket.socket) -> None:
            self._registry.join(server_uuid, workers.adopt(connection))

        self._registry = Registry(make)
        self.serial = Listener(serial, self._registry.join)
        self.vnc = Listener(vnc, join_vnc)

    def close(self) -> None:
        """End them all."""
        self.serial.close()
        self.vnc.close()
        self._registry.close()


def serial_endpoint(address: str, port_range: str) -> Endpoint:
    """Return where serial consoles listen; ``port_range`` is "first:last", as [serial_console] has it."""
    first, _, last = port_range.partition(":")
    options = "proxyclient_address and port_range in [serial_console]"
    return Endpoint(address, address, range(int(first), int(last)), options)


def vnc_endpoint(listen: str, advertised: str) -> Endpoint:
    """Return where VNC consoles listen."""
    return Endpoint(listen, advertised, VNC_PORTS, "server_listen in [vnc]")


def announce_serial(host: Host, consoles: Consoles, server: Server) -> ConsoleAddress:
    """Tell where a running server's serial console is.

    Raises:
        NotRunning: it does not run.
        NoPort: this host has no port for it.
        NotFound: it has no container.
    """
    return _announce(host, consoles.serial, server)


def announce_vnc(host: Host, consoles: Consoles, server: Server) -> ConsoleAddress:
    """Tell where a picture of a running server's console is.

    Raises:
        CannotDraw: this host has nothing to draw it with.
        NotRunning, NoPort, NotFound: as for the serial console.
    """
    vnc_workers.check()
    return _announce(host, consoles.vnc, server)


def _announce(host: Host, listener: Listener, server: Server) -> ConsoleAddress:
    state = host.container(server.uuid).state
    if state not in (PowerState.RUNNING, PowerState.PAUSED):
        raise NotRunning(f"Server {server.uuid} has no console while it is {state}.", "Start it first.")
    return listener.announce(server.uuid)
