# SPDX-License-Identifier: Apache-2.0
"""The destination's end of a cold migration: a server is made of what another host has sent.

The new container bears the server's name only when every file of it is there, so that a move that was broken off
anywhere leaves no half of a server.

A container of that name may be here already, with old files, left by an earlier move. So each container that is made of
a payload has the payload's digest as a label, which tells whether it is the one that this migration made. Any other is
renamed to make room for the new one, and removed when the new one is whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from dockstack.compute.containers import namespaces, spec
from dockstack.compute.engine import Conflict
from dockstack.compute.failures import isolated
from dockstack.compute.flows import interfaces, lifecycle
from dockstack.compute.host import config_drives, creation, disks, received, set_aside
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs
from dockstack.compute.privileged import layers
from dockstack.compute.transfer import receiver
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL, NAME_PREFIX, PAYLOAD_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from dockstack.compute.engine import Container
    from dockstack.compute.flows.recovery import Claims
    from dockstack.compute.host.config_drives import ReadDrive
    from dockstack.compute.host.host import Host
    from dockstack.compute.images.fetch import LoadedImage
    from dockstack.compute.model import Image, Port, Server
    from dockstack.compute.transfer.payload import Payload

    PortsPlugged = Callable[[tuple[Port, ...]], AbstractContextManager[set[str]]]

LOG = logging.getLogger(__name__)

_CHUNK = 1 << 20
_AGAIN = (
    "The server's old container is still on the host that it came from. Mend the cause, then try again here: "
    "`openstack server set --state active`, `openstack server reboot --hard`."
)


class Incomplete(DockstackError):  # noqa: N818 - said of what came
    """What arrived is not the server that was sent."""


def receive(
    host: Host,
    server: Server,
    payload: Payload,
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
        payload: what the other host says that it sent.
        image: its image in Glance.
        ports_plugged: makes a context that waits until Neutron has plugged the server's ports; see lifecycle.spawn.
        power_on: leave it stopped if false.
        read_drive: returns the content of its config drive; none if it has no drive.

    Raises:
        Incomplete: what came is not what was sent.
        DockstackError: something else went wrong.
    """
    with host.busy.hold(server.uuid):
        if not _is_made_of(host.find_own(server.container_name), payload):
            received.keep(host, server.uuid, payload)
            config_drives.write(host, server, read_drive)
            _finalize(host, server, payload, image)
        _forget_replaced(host, server)
        namespaces.prepare(server.uuid)
        with ports_plugged(server.ports) as awaited:
            interfaces.reconnect(host, server, host.container(server.uuid))
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
    with host.busy.hold(server.uuid):
        payload = received.find(host, server.uuid)
        if payload is None:
            return
        if not _is_made_of(host.find_own(server.container_name), payload):
            config_drives.write(host, server, read_drive)
            _finalize(host, server, payload, find_image())
        _forget_replaced(host, server)
    host.audit.forget(server.uuid)


def is_unfinished(host: Host, server: Server) -> bool:
    """Whether a server's newest files are here, but not in its container yet."""
    return received.find(host, server.uuid) is not None


def arrives(host: Host, server: Server) -> bool:
    """Whether a server has not run on this host yet: it has no container, or none with its newest files."""
    return is_unfinished(host, server) or host.find_own(server.container_name) is None


def forget(host: Host, server: Server) -> None:
    """Remove what has arrived of a server that is to be deleted; nothing is fine."""
    with host.busy.hold(server.uuid):
        _remove_arriving(host, server.container_name + set_aside.ARRIVING)
        received.drop(host, server.uuid)


def sweep(host: Host, claims: Claims) -> None:
    """Remove what broken moves have left: containers that are not whole or were replaced, parts of deleted servers."""
    try:
        sweep_listed(host, host.engine.containers({HOST_LABEL: host.name}))
        received_of = [uuid for uuid in received.list_servers(host) if uuid not in host.busy]
    except (DockstackError, OSError) as error:
        LOG.warning("Cannot look for what moves have left: %s", error)
        return
    for server_uuid in received_of:
        with isolated("removing what arrived of the server", server_uuid):
            if claims.release(server_uuid):
                LOG.info("Removing what arrived of the server, which was deleted", instance_uuid=server_uuid)
                received.drop(host, server_uuid)


def sweep_listed(host: Host, containers: Iterable[Container]) -> None:
    """Remove those of this host's containers in a listing that are not whole or were replaced."""
    for container in containers:
        if container.labels.get(HOST_LABEL) == host.name and container.server_uuid not in host.busy:
            with isolated(f"looking at container {container.name}", container.server_uuid):
                _sweep_one(host, container)


def _sweep_one(host: Host, container: Container) -> None:
    with host.busy.hold(container.server_uuid):
        if container.name.endswith(set_aside.ARRIVING):
            LOG.info("Removing its beginning, as its move was broken off", instance_uuid=container.server_uuid)
            _remove_arriving(host, container.name)
        elif set_aside.is_stale(container) and _is_replaced(host, container.server_uuid):
            LOG.info("Removing container %s, which was replaced", container.name, instance_uuid=container.server_uuid)
            creation.remove(host, container)


def _is_replaced(host: Host, server_uuid: str) -> bool:
    """Whether a server's newest files are in the container that bears its name."""
    if received.find(host, server_uuid) is not None:
        return False
    current = host.find_own(NAME_PREFIX + server_uuid)
    return current is not None and bool(current.labels.get(PAYLOAD_LABEL))


def _is_made_of(container: Container | None, payload: Payload) -> bool:
    """Whether a container was made of exactly what this migration sent, which its label tells."""
    return container is not None and container.labels.get(PAYLOAD_LABEL) == payload.digest


def _finalize(host: Host, server: Server, payload: Payload, image: Image) -> None:
    """Make the server's container of all its parts; a failure leaves the parts, and what was here, and nothing else.

    What bears the server's name keeps it until the new container is whole, and is not removed here: killed anywhere,
    this is begun again from the parts, which are still there.
    """
    process = json.loads(_read_part(host, server, payload, "process"))
    loaded = _get_image(host, server, payload, image)
    server = _runnable(server, process)
    specification = spec.keep_process(lifecycle.specify(host, server, loaded), process)
    labelled = replace(specification, labels=specification.labels | {PAYLOAD_LABEL: payload.digest})
    arriving = server.container_name + set_aside.ARRIVING
    _remove_arriving(host, arriving)
    with undo_on_error() as undo:
        container_id = creation.create(host, arriving, labelled, undo)
        archive = receiver.part_path(received.find_directory(host), server.uuid, "layer")
        try:
            layer = disks.find_layer(host, host.engine.container(container_id))
            layers.unpack(layer, str(archive), payload.parts["layer"].sha256)
        except (ValueError, OSError) as error:
            raise Incomplete(
                f"The files of server {server.uuid} could not be put in place: {error}.", _AGAIN
            ) from error
        lifecycle.write_patch(host, server, container_id, loaded.config)
        replaced = host.find_own(server.container_name)
        if replaced is not None:
            _set_aside(host, replaced)
        try:
            host.engine.rename(container_id, server.container_name)
        except Conflict as error:
            raise creation.describe_obstacle(host, server.container_name, error) from error


def _set_aside(host: Host, replaced: Container) -> None:
    """Take its name from a container whose files are older than those that have arrived, and keep it."""
    LOG.warning(
        "Container %s is of an earlier moment than what has arrived; it makes room and is removed when the server is "
        "whole",
        replaced.id[:12],
        instance_uuid=replaced.server_uuid,
    )
    if replaced.state is not PowerState.SHUTDOWN:
        host.engine.stop(replaced.id, 0)
    host.engine.rename(replaced.id, set_aside.name_stale(replaced))


def _forget_replaced(host: Host, server: Server) -> None:
    """Remove what the server's new container makes superfluous, now that all of its files are in it.

    A container that cannot be removed now is left to the next sweep; the parts are not, as they keep it from starting.
    """
    received.drop(host, server.uuid)
    try:
        for replaced in set_aside.list_stale(host, server.uuid):
            creation.remove(host, replaced)
    except DockstackError as error:
        LOG.warning("A container that was replaced stays until the next sweep: %s", error, instance_uuid=server.uuid)


def _remove_arriving(host: Host, name: str) -> None:
    """Remove a container that is not whole, if it is this host's; absent is success."""
    found = host.find_own(name)
    if found is not None:
        creation.remove(host, found)


def _get_image(host: Host, server: Server, payload: Payload, image: Image) -> LoadedImage:
    if "image" in payload.parts:
        path = receiver.part_path(received.find_directory(host), server.uuid, "image")
        with path.open("rb") as file:
            loaded = host.images.adopt(image.id, payload.image, iter(partial(file.read, _CHUNK), b""))
    else:
        loaded = host.images.ensure(image, 0)  # the source took it once, within the flavor's disk
    if loaded.engine_id != payload.image:
        raise Incomplete(
            f"Image {image.id} gave {loaded.engine_id}, but the server was made from {payload.image}.",
            "The image changed in Glance, or the hosts have different versions of the driver. " + _AGAIN,
        )
    return loaded


def _runnable(server: Server, process: dict[str, Any]) -> Server:
    """Return the server with the command and the interfaces that it had on the other host.

    They are written into the image's properties, and the server's metadata is left out. Neither may decide again: the
    image may be gone from Glance by now, and properties may have changed since the server was created.
    """
    command = [*(process["Entrypoint"] or ()), *(process["Cmd"] or ())]
    properties = {"docker_entrypoint": "[]", "docker_command": json.dumps(command)}
    names = process["Interfaces"]
    ports = tuple(replace(port, interface=names.get(port.id, port.interface)) for port in server.ports)
    return replace(server, image=replace(server.image, properties=properties), metadata={}, ports=ports)


def _read_part(host: Host, server: Server, payload: Payload, part: str) -> bytes:
    path = receiver.part_path(received.find_directory(host), server.uuid, part)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = None
    if data is None or hashlib.sha256(data).hexdigest() != payload.parts[part].sha256:
        raise Incomplete(f"Part {part} of server {server.uuid} is not here as it was sent.", _AGAIN)
    return data
