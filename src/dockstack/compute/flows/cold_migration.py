# SPDX-License-Identifier: Apache-2.0
"""A server moves to another host while it is stopped: what it has written travels, and its image if Glance lost it.

Until Nova has the move confirmed, the old container stays on the source as it was; a revert starts it again. Here is
the source's end; see ``incoming_migration`` for the other one.
"""

from __future__ import annotations

import json
import shlex
import uuid
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from dockstack.compute.containers import spec
from dockstack.compute.flows import incoming_migration, interfaces, lifecycle, resize, volumes
from dockstack.compute.host import copies, disks, originals, received
from dockstack.compute.model import PowerState
from dockstack.compute.privileged import layers
from dockstack.compute.transfer import fifo, receiver
from dockstack.compute.transfer.channel import Channel, stream_chunks
from dockstack.compute.transfer.payload import Part, Payload
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from dockstack.compute.engine import Container
    from dockstack.compute.host.config_drives import ReadDrive
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Destination, Image, Port, Server

    PortsPlugged = Callable[[tuple[Port, ...]], AbstractContextManager[set[str]]]

LOG = logging.getLogger(__name__)

NOTHING_SENT = "[]"  # Nova hands a list of disks from one end to the other
FORM = 3  # of what travels; raised when an older host could not read it


class Unmovable(DockstackError):  # noqa: N818 - said of the request
    """The server cannot move there; nothing was touched."""


def announce(host: Host) -> None:
    """Write down what this host is, for others that would send servers here; remove what killed sends left."""
    directory = received.find_directory(host)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fifo.remove_leftovers(directory)
    facts = host.facts()
    said = {"host": host.name, "form": FORM, "storage": facts.storage_driver, "architecture": facts.architecture}
    (directory / receiver.GREETING).write_text(json.dumps(said), encoding="utf-8")


def begin(
    host: Host, server: Server, wanted: Server, destination: Destination | None, *, image: Image | None, timeout: int
) -> str:
    """Begin a move, or a resize where the server is if there is no destination; return what the other end must know.

    Args and errors as of ``send`` and of ``resize.begin``.
    """
    if destination is None:
        resize.begin(host, server, wanted, timeout)
        return NOTHING_SENT
    return send(host, server, wanted, destination, image=image, timeout=timeout).encode()


def finish(
    host: Host,
    server: Server,
    sent: str,
    image: Image,
    ports_plugged: PortsPlugged,
    *,
    power_on: bool,
    read_drive: ReadDrive = None,
) -> None:
    """Complete a move or a resize on the host where the server shall be.

    Args:
        host: where.
        server: with its new flavor.
        sent: what ``begin`` returned on the host where the server was.
        image: what it was booted from.
        ports_plugged: waits for the ports.
        power_on: whether it is to run.
        read_drive: gives its config drive's content.

    Raises:
        DockstackError: as ``incoming_migration.receive`` and ``resize.fit``.
    """
    if sent == NOTHING_SENT:
        resize.fit(host, server, power_on=power_on)
    else:
        payload = Payload.decode(sent)
        incoming_migration.receive(
            host, server, payload, image, ports_plugged, power_on=power_on, read_drive=read_drive
        )


def send(
    host: Host, server: Server, wanted: Server, destination: Destination, *, image: Image | None, timeout: int
) -> Payload:
    """Send a server to another host and leave it here, stopped and off the network, until the move is confirmed.

    When this returns, Nova gives the server to the other host for good. So the other host has checked by then that all
    of it is there; whatever is missing or damaged ends here, with the server running where it was.

    Args:
        host: the source.
        server: which, with its flavor of now.
        wanted: the same with its new flavor.
        destination: where to.
        image: what Glance says of its image; None if Glance has it no more.
        timeout: seconds that its processes get before they are killed.

    Raises:
        Unmovable: nothing was touched.
        DockstackError: it could not be sent; it runs here again if it did before.
    """
    resize.refuse_impossible(server.limits, wanted.limits)
    channel = open_channel(host, destination.address)
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        received.refuse_unfinished(host, server.uuid)
        if not server.rescued and originals.put_back(host, server):
            undo.push(lifecycle.start, host, server)
        container = host.container(server.uuid)
        _refuse_unfit(host, destination, channel.greet())
        channel.drop(server.uuid)  # what an earlier try has left there is of another moment
        if container.state is not PowerState.SHUTDOWN:
            undo.push(lifecycle.start, host, server)
            lifecycle.stop(host, server, timeout)
        undo.push(channel.drop, server.uuid)
        payload = _send(host, server, container, channel, with_image=not _is_fetched(host, image, container))
        channel.seal(server.uuid, payload.encode())
        interfaces.disconnect_devices(interfaces.find_devices(host, server))
        volumes.release(host, server.uuid)
    return payload


def take_back(host: Host, server: Server, destination: Destination | None, *, power_on: bool) -> None:
    """Start the server again that waited here for its move to be confirmed.

    Args:
        host: the source.
        server: which, with its old flavor.
        destination: the host that may still hold what it was sent; None if it holds nothing.
        power_on: leave it stopped if false.

    Raises:
        NotFound: it has no container.
    """
    if power_on:
        lifecycle.start(host, server)
    if destination is not None:
        try:
            open_channel(host, destination.address).drop(server.uuid)
        except DockstackError as error:
            LOG.warning(
                "Host %s keeps what it got of the server: %s", destination.name, error, instance_uuid=server.uuid
            )


def open_channel(host: Host, address: str) -> Channel:
    """Return the way to another host, which nobody has tried yet.

    Raises:
        Unmovable: the operator allows none.
    """
    options = host.options
    if options.migration_transport != "ssh":
        raise Unmovable(
            "Servers of this host cannot move to other hosts, because it has no way to send them.",
            "Set [docker] migration_transport on all hosts (see docs/migration.md), or resize with "
            "allow_resize_to_same_host in nova.conf while the server's own host has room.",
        )
    command = tuple(shlex.split(options.migration_ssh_command))
    directory = received.find_directory(host)
    return Channel(address, command, options.migration_receiver, options.migration_tries, directory)


def _refuse_unfit(host: Host, destination: Destination, said: dict[str, Any]) -> None:
    """Compare both hosts.

    Raises:
        Unmovable: the destination is another one than Nova chose, or could not run the server.
    """
    here = {"form": FORM, "architecture": host.facts().architecture}
    there = {key: said.get(key) for key in here}
    stores = (host.facts().storage_driver, said.get("storage"))
    if said.get("host") != destination.name:
        raise Unmovable(
            f"At {destination.address} is host {said.get('host')}, not {destination.name}.",
            "Each compute host needs a my_ip of its own in nova.conf.",
        )
    if there != here or not set(stores) <= set(disks.OPEN):
        raise Unmovable(
            f"Host {destination.name} cannot take servers of this host: this one has {here} and stores in {stores[0]}, "
            f"that one has {there} and stores in {stores[1]}.",
            f"Choose a host of the same kind and version of the driver; both must store in {' or '.join(disks.OPEN)}.",
        )


def _is_fetched(host: Host, image: Image | None, container: Container) -> bool:
    """Whether the other host gets the server's very image from Glance."""
    return image is not None and host.images.matches(image, container.image_id)


def _send(host: Host, server: Server, container: Container, channel: Channel, *, with_image: bool) -> Payload:
    process = spec.describe_process(host.engine.process(container.id), container.host_config)
    names = {port.id: port.interface for port in interfaces.name_ports(host, server, container, server.ports)}
    layer = disks.find_layer(host, container)

    def stream_layer(path: str, skip: int) -> Part:
        with copies.understood():
            return Part(*layers.pack(layer, path, skip, host.images.limits.max_entries))

    def chunks_of_image() -> Iterator[bytes]:
        return host.engine.save_image(container.image_id)

    sent = {
        "process": channel.send(
            server.uuid,
            "process",
            stream_chunks(lambda: iter([json.dumps(process | {"Interfaces": names}).encode()])),
            resumable=False,
        )
    }
    if with_image:
        sent["image"] = channel.send(server.uuid, "image", stream_chunks(chunks_of_image), resumable=False)
    sent["layer"] = channel.send(server.uuid, "layer", stream_layer, resumable=True)
    LOG.info("Sent the server to %s: %s", channel.address, sent, instance_uuid=server.uuid)
    return Payload(container.image_id, sent, uuid.uuid4().hex)
