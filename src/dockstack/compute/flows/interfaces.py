# SPDX-License-Identifier: Apache-2.0
"""A server's network interfaces: at its start, and while it lives.

Which ports a server has, Nova says. Which interface a port is in the server, its namespace says: a port attached later
takes the next free name, one that is detached leaves a gap, and neither moves another. Only after a reboot of the
machine, when no namespace is left, the note for the runtime says it: what its last start found.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import editor, namespaces, runtime, spec
from dockstack.compute.engine import NotFound
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs, veth
from dockstack.compute.privileged import hosts_file
from dockstack.compute.undo import undo_on_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Port, Server
    from dockstack.compute.undo import Undo

LOG = logging.getLogger(__name__)


def attach(host: Host, server: Server, port: Port) -> None:
    """Give a server one more interface, in every state of it; one that it has is fine.

    Args:
        host: where.
        server: which, with the ports that it has.
        port: what it gets.

    Raises:
        DockstackError: a step failed; what was done is taken back.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        container = host.container(server.uuid)
        namespaces.prepare(server.uuid)
        others = tuple(known for known in server.ports if known.id != port.id)  # Nova may count it in already
        *_, named = name_ports(host, server, container, (*others, port))
        connect_port(host, server, named, undo)
        if container.state is not PowerState.RUNNING:
            veth.link_down(server.uuid)
        tell_addresses(container, replace(server, ports=(*others, named)))


def detach(host: Host, server: Server, port: Port) -> None:
    """Take an interface from a server, in every state of it; absent is success."""
    with host.busy.hold(server.uuid):
        if veth.wired().get(port.device, server.uuid) == server.uuid:  # else another server has the port by now
            disconnect_devices([port.device])
        with suppress(NotFound):
            others = tuple(known for known in server.ports if known.id != port.id)
            tell_addresses(host.container(server.uuid), replace(server, ports=others))


def refresh(host: Host, server: Server) -> None:
    """Bring a server's addresses and routes to what Neutron says now; a stopped one gets them at its start.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        container = host.container(server.uuid)
        if container.state not in (PowerState.RUNNING, PowerState.PAUSED):
            return
        connected = veth.wired()
        for port in name_ports(host, server, container, server.ports):
            if connected.get(port.device) == server.uuid:
                veth.wire(server, port, host.options.metadata_route, offload=host.options.checksum_offload)
        if container.state is PowerState.PAUSED:
            veth.link_down(server.uuid)
        tell_addresses(container, server)


def tell_addresses(container: Container, server: Server) -> None:
    """Bring a server's own lines in its /etc/hosts to the addresses that it has; a stopped one gets them at its start.

    That is a convenience: a server whose disk is full, or that has made something else of the file, goes without.
    """
    if not container.pid:
        return
    try:
        found = hosts_file.read(container.pid, container.id)
        renewed = editor.with_own_lines(found or b"", spec.hosts(server).encode())
        if found and renewed != found:
            hosts_file.replace(container.pid, container.id, found, renewed)
    except OSError as error:
        LOG.warning("The server's /etc/hosts is left as it is: %s", error, instance_uuid=server.uuid)


def reconnect(host: Host, server: Server, container: Container) -> Server:
    """Make a server's network what Nova says it is, before it starts; what is right already is left alone.

    A port that was detached while this host was away goes; one that was attached meanwhile comes.

    Returns:
        The server, its ports with the names of their interfaces.
    """
    namespaces.prepare(server.uuid)
    wanted = {port.device for port in server.ports}
    disconnect_devices(device for device in wired_devices(server.uuid) if device not in wanted)
    named = replace(server, ports=name_ports(host, server, container, server.ports))
    for port in named.ports:
        veth.wire(named, port, host.options.metadata_route, offload=host.options.checksum_offload)
        ovs.plug(named, port)
    return named


def name_ports(host: Host, server: Server, container: Container, ports: Iterable[Port]) -> tuple[Port, ...]:
    """Say which interface of the server each port is or becomes."""
    present = veth.names(server.uuid)
    noted = runtime.read_interfaces(host.patches, container.id)
    return veth.name_ports(ports, present, noted)


def connect(host: Host, server: Server, undo: Undo) -> None:
    """Give a new server all of its ports."""
    for port in server.ports:
        connect_port(host, server, port, undo)


def connect_port(host: Host, server: Server, port: Port, undo: Undo) -> None:
    """Wire a port into the server's namespace, then plug it into the switch, which needs the device to be there.

    An undo is registered before its step, not after: a step that fails half-way has something to take back, too.
    """
    undo.push(veth.unwire, port)
    veth.wire(server, port, host.options.metadata_route, offload=host.options.checksum_offload)
    undo.push(ovs.unplug, server, port)
    ovs.plug(server, port)


def replug(host: Host, server: Server) -> None:
    """See to it that a running server's ports are on the switch, whose database may have been lost.

    A port that cannot be had is logged only, and keeps no other one waiting: the server runs on, and its ports are most
    likely there.
    """
    with host.busy.hold(server.uuid):
        try:
            state = host.container(server.uuid).state
        except NotFound:
            return
        for port in server.ports if state in (PowerState.RUNNING, PowerState.PAUSED) else ():
            try:
                ovs.plug(server, port)
            except ovs.PlugError as error:
                LOG.warning("Cannot check the server's port: %s", error, instance_uuid=server.uuid)
        if state is PowerState.PAUSED:
            veth.link_down(server.uuid)


def disconnect(host: Host, server_uuid: str, ports: Iterable[Port]) -> None:
    """Take ports of a server off the switch and remove their links; absent is success."""
    with host.busy.hold(server_uuid):
        disconnect_devices(port.device for port in ports)


def find_devices(host: Host, server: Server) -> list[str]:
    """Find the host's ends of all of a server's links.

    Nova's own list may be short: it forgets the ports when a delete fails half-way. So the note for the runtime and the
    kernel are asked, too. A port that another server has by now is that server's.
    """
    try:
        container = host.container(server.uuid)
        noted = runtime.read_interfaces(host.patches, container.id)
    except NotFound:
        noted = {}
    owners = veth.wired()
    known = (port.device for port in server.ports)
    wired = (device for device, owner in owners.items() if owner == server.uuid)
    devices = dict.fromkeys((*known, *noted, *wired))
    return [device for device in devices if owners.get(device, server.uuid) == server.uuid]


def wired_devices(server_uuid: str) -> list[str]:
    """List the host's ends of the links that a server has now."""
    return sorted(device for device, owner in veth.wired().items() if owner == server_uuid)


def disconnect_devices(devices: Iterable[str]) -> None:
    """Take each device off the switch, then remove it, so that the switch never has a port without a device."""
    for device in devices:
        ovs.unplug_device(device)
        veth.unwire_device(device)
