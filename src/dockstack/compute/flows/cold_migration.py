# SPDX-License-Identifier: Apache-2.0
"""A server moves to another host while it is stopped: what it has written travels, and its image if Glance lost it.

Until Nova has the move confirmed, the old container stays on the source as it was; a revert starts it again. On the
destination the new one bears the server's name only when every file of it is there, so that a move that was broken off
anywhere leaves no half of a server.
"""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.compute.containers import namespaces, spec
from dockstack.compute.flows import interfaces, lifecycle, resize
from dockstack.compute.host import config_drives, disks
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs
from dockstack.compute.privileged import layers
from dockstack.compute.transfer import receiver
from dockstack.compute.transfer.channel import Channel, Sent, pour_chunks
from dockstack.compute.transfer.payload import Parcel
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from dockstack.compute.engine import Container
    from dockstack.compute.flows.recovery import Claims
    from dockstack.compute.host.config_drives import ReadDrive
    from dockstack.compute.host.host import Host
    from dockstack.compute.images.fetch import LoadedImage
    from dockstack.compute.model import Destination, Image, Port, Server

    PortsPlugged = Callable[[tuple[Port, ...]], AbstractContextManager[set[str]]]

LOG = logging.getLogger(__name__)

NOTHING_SENT = "[]"  # Nova hands a list of disks from one end to the other
FORM = 1  # of what travels; raised when an older host could not read it
ARRIVING = "-arriving"
_CHUNK = 1 << 20


class Unmovable(DockstackError):  # noqa: N818 - said of the request
    """The server cannot move there; nothing was touched."""


class Incomplete(DockstackError):  # noqa: N818 - said of what came
    """What arrived is not the server that was sent."""


def announce(host: Host) -> None:
    """Write down what this host is, for others that would send servers here."""
    directory = _directory(host)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = host.facts()
    said = {"host": host.name, "form": FORM, "storage": facts.storage_driver, "architecture": facts.architecture}
    (directory / receiver.GREETING).write_text(json.dumps(said), encoding="utf-8")


def begin(
    host: Host, server: Server, wanted: Server, destination: Destination | None, *, image: Image | None, timeout: int
) -> str:
    """Begin a move, or a resize where the server is if there is no destination; return what the other end must know.

    Args and errors as of ``depart`` and of ``resize.begin``.
    """
    if destination is None:
        resize.begin(host, server, wanted, timeout)
        return NOTHING_SENT
    return depart(host, server, wanted, destination, image=image, timeout=timeout).encode()


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
    """Do the other end of what ``begin`` began and gave; args and errors as of ``arrive`` and of ``resize.fit``."""
    if sent == NOTHING_SENT:
        resize.fit(host, server, power_on=power_on)
    else:
        parcel = Parcel.decode(sent)
        arrive(host, server, parcel, image, ports_plugged, power_on=power_on, read_drive=read_drive)


def depart(
    host: Host, server: Server, wanted: Server, destination: Destination, *, image: Image | None, timeout: int
) -> Parcel:
    """Send a server to another host and leave it here, stopped and off the network, until the move is confirmed.

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
    container = host.engine.container(server.container_name)
    _refuse_unfit(host, destination, channel.greet())
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        if container.state is not PowerState.SHUTDOWN:
            undo.push(lifecycle.start, host, server)
            lifecycle.stop(host, server, timeout)
        undo.push(channel.drop, server.uuid)
        parcel = _send(host, server, container, channel, with_image=not _is_fetched(host, image, container))
        interfaces.disconnect_devices(interfaces.find_devices(host, server))
    return parcel


def arrive(
    host: Host,
    server: Server,
    parcel: Parcel,
    image: Image,
    ports_plugged: PortsPlugged,
    *,
    power_on: bool,
    read_drive: ReadDrive = None,
) -> None:
    """Make a server from what another host has sent.

    When its files are there, it is a server of this host, whatever fails then: a hard reboot completes it.

    Args:
        host: the destination.
        server: which, with its new flavor.
        parcel: what the other host says that it sent.
        image: its image in Glance.
        ports_plugged: makes a context that waits until Neutron has plugged the server's ports; see lifecycle.spawn.
        power_on: leave it stopped if false.
        read_drive: returns the content of its config drive; none if it has no drive.

    Raises:
        Incomplete: what came is not what was sent.
        DockstackError: something else went wrong.
    """
    with host.busy.hold(server.uuid):
        if not host.audit.has(server.uuid):
            _note(host, server).write_text(parcel.encode(), encoding="utf-8")
            config_drives.write(host, server, read_drive)
            _settle(host, server, parcel, image)
        receiver.drop(_directory(host), server.uuid)
        namespaces.prepare(server.uuid)
        with ports_plugged(server.ports) as awaited:
            interfaces.reconnect(host, server, host.engine.container(server.container_name))
            awaited.difference_update(ovs.wait_installed(awaited))
        if power_on:
            lifecycle.start(host, server)
    host.audit.forget(server.uuid)


def complete(host: Host, server: Server, find_image: Callable[[], Image], read_drive: ReadDrive) -> None:
    """Make a stopped server of what has arrived, if its arrival was broken off; mostly there is nothing to do.

    Args:
        host: the destination.
        server: which.
        find_image: returns its image in Glance.
        read_drive: returns the content of its config drive; none if it has no drive.

    Raises:
        Incomplete: what came is not what was sent.
    """
    if not _note(host, server).exists():
        return
    with host.busy.hold(server.uuid):
        if not host.audit.has(server.uuid):
            config_drives.write(host, server, read_drive)
            _settle(host, server, Parcel.decode(_note(host, server).read_text(encoding="utf-8")), find_image())
        receiver.drop(_directory(host), server.uuid)


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
            LOG.warning("Host %s keeps what it got of server %s: %s", destination.name, server.uuid, error)


def forget(host: Host, server: Server) -> None:
    """Remove what has arrived of a server that is to be deleted; nothing is fine."""
    host.engine.remove(server.container_name + ARRIVING)
    receiver.drop(_directory(host), server.uuid)


def sweep(host: Host, claims: Claims) -> None:
    """Remove what broken moves have left: containers without all their files, parts of deleted servers."""
    try:
        for container in host.engine.containers({HOST_LABEL: host.name}):
            if container.name.endswith(ARRIVING) and container.server_uuid not in host.busy:
                LOG.info("Removing the beginning of server %s, whose move was broken off", container.server_uuid)
                host.engine.remove(container.name)
        for parts in _directory(host).glob("*-*-*-*-*"):
            if parts.name not in host.busy and claims.release(parts.name):
                LOG.info("Removing what arrived of server %s, which was deleted", parts.name)
                receiver.drop(_directory(host), parts.name)
    except (DockstackError, OSError) as error:
        LOG.warning("Cannot look for what moves have left: %s", error)


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
    directory = _directory(host)
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


def _send(host: Host, server: Server, container: Container, channel: Channel, *, with_image: bool) -> Parcel:
    process = spec.describe_process(host.engine.process(container.id), container.host_config)
    names = {port.id: port.interface for port in interfaces.name_ports(host, server, container, server.ports)}
    layer = disks.find_layer(host, container)

    def pour_layer(fifo: str, skip: int) -> Sent:
        return Sent(*layers.pack(layer, fifo, skip))

    def chunks_of_image() -> Iterator[bytes]:
        return host.engine.save_image(container.image_id)

    sent = {
        "process": channel.send(
            server.uuid,
            "process",
            pour_chunks(lambda: iter([json.dumps(process | {"Interfaces": names}).encode()])),
            resumable=False,
        )
    }
    if with_image:
        sent["image"] = channel.send(server.uuid, "image", pour_chunks(chunks_of_image), resumable=False)
    sent["layer"] = channel.send(server.uuid, "layer", pour_layer, resumable=True)
    LOG.info("Sent server %s to %s: %s", server.uuid, channel.address, sent)
    return Parcel(container.image_id, {part: one.sha256 for part, one in sent.items()})


def _settle(host: Host, server: Server, parcel: Parcel, image: Image) -> None:
    """Make the server's container of all its parts; a failure leaves the parts and nothing else."""
    process = json.loads(_read_part(host, server, parcel, "process"))
    loaded = _get_image(host, server, parcel, image)
    server = _runnable(server, process)
    specification = spec.keep_process(lifecycle.specify(host, server, loaded), process)
    arriving = server.container_name + ARRIVING
    with undo_on_error() as undo:
        host.engine.remove(arriving)
        undo.push(host.engine.remove, arriving)
        container_id = host.engine.create(arriving, specification)
        archive = receiver.part_path(_directory(host), server.uuid, "layer")
        try:
            layer = disks.find_layer(host, host.engine.container(arriving))
            layers.unpack(layer, str(archive), parcel.digests["layer"])
        except (ValueError, OSError) as error:
            raise Incomplete(
                f"The files of server {server.uuid} could not be put in place: {error}.", "Revert the migration."
            ) from error
        lifecycle.write_patch(host, server, container_id, loaded.config)
        host.engine.rename(arriving, server.container_name)


def _get_image(host: Host, server: Server, parcel: Parcel, image: Image) -> LoadedImage:
    if "image" in parcel.digests:
        path = receiver.part_path(_directory(host), server.uuid, "image")
        with path.open("rb") as file:
            loaded = host.images.adopt(image.id, parcel.image, iter(partial(file.read, _CHUNK), b""))
    else:
        loaded = host.images.ensure(image, 0)  # the source took it once, within the flavor's disk
    if loaded.engine_id != parcel.image:
        raise Incomplete(
            f"Image {image.id} gave {loaded.engine_id}, but the server was made from {parcel.image}.",
            "Revert the migration. The image changed in Glance, or the hosts have different versions of the driver.",
        )
    return loaded


def _runnable(server: Server, process: dict[str, Any]) -> Server:
    """Let the server's image say what to run: Glance may have forgotten it, and what it says now does not count."""
    command = [*(process["Entrypoint"] or ()), *(process["Cmd"] or ())]
    properties = {"docker_entrypoint": "[]", "docker_command": json.dumps(command)}
    names = process["Interfaces"]
    ports = tuple(replace(port, interface=names.get(port.id, port.interface)) for port in server.ports)
    return replace(server, image=replace(server.image, properties=properties), metadata={}, ports=ports)


def _read_part(host: Host, server: Server, parcel: Parcel, part: str) -> bytes:
    path = receiver.part_path(_directory(host), server.uuid, part)
    try:
        with path.open("rb") as file:
            whole = receiver.digest(file) == parcel.digests.get(part)
        data = path.read_bytes()
    except FileNotFoundError:
        whole = False
    if not whole:
        raise Incomplete(f"Part {part} of server {server.uuid} is not here as it was sent.", "Revert the migration.")
    return data


def _note(host: Host, server: Server) -> Path:
    """Return where an arrival says what has come, for the case that it is broken off."""
    return _directory(host) / server.uuid / "parcel"


def _directory(host: Host) -> Path:
    return Path(host.options.state_directory) / "migrations"
