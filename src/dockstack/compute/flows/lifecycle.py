# SPDX-License-Identifier: Apache-2.0
"""A server's life, from nothing to running and back."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import inits, limits, lxcfs, namespaces, runtime, spec
from dockstack.compute.engine import Conflict, EngineError, EngineUnavailable, ImageUnusable, NotFound
from dockstack.compute.flows import boot_volumes, guest_access, interfaces, volumes
from dockstack.compute.guest.injected_files import PlacementError
from dockstack.compute.host import (
    config_drives,
    copies,
    creation,
    disks,
    ephemeral,
    originals,
    quiesced,
    received,
    set_aside,
)
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs, veth
from dockstack.compute.resources import usage
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX, PAYLOAD_LABEL, SPARSE_LABEL
from dockstack.oci.documents import ImageRejected
from dockstack.oci.process import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from dockstack.compute.containers.runtime import Overlay, Root
    from dockstack.compute.engine import Container, ContainerSpec
    from dockstack.compute.host.config_drives import ReadDrive
    from dockstack.compute.host.host import Host
    from dockstack.compute.images.fetch import LoadedImage
    from dockstack.compute.model import Device, Port, Server, Volume
    from dockstack.compute.undo import Undo

LOG = logging.getLogger(__name__)

FREEZE_PATIENCE = 5.0  # seconds
_NOTICE_SECONDS, _NOTICE_INTERVAL = 5.0, 0.1  # that an engine may take to see that a shim has ended
HELD_SECONDS = 3600  # that a start may wait for Neutron: whoever holds it gives up long before
VOLUMES_LABEL = LABEL_PREFIX + "volumes"


class Unbuildable(DockstackError):  # noqa: N818 - said of the request
    """The request itself cannot be fulfilled, whichever host tries: an image property or the flavor is wrong."""


# What no other host would do better; anything else is this host's trouble, and Nova may try another.
HOPELESS = (Unbuildable, ImageUnusable, ImageRejected, PlacementError, boot_volumes.Unbootable)


def spawn(
    host: Host,
    server: Server,
    ports_plugged: Callable[[tuple[Port, ...]], AbstractContextManager[set[str]]],
    *,
    read_ports: Callable[[], tuple[Port, ...]] | None = None,
    read_drive: ReadDrive = None,
    attached: tuple[Volume, ...] = (),
    power_on: bool = True,
) -> None:
    """Make a server and start it; a failure leaves nothing behind.

    The network is complete before the first process starts. All that needs no port is done while Neutron is still
    allocating them; so is most of the container's start, unless the server has a config drive, which speaks of ports.

    Args:
        host: where.
        server: what.
        ports_plugged: makes a context that waits at its end until Neutron has plugged those ports whose ids are left in
            the set that it gives: Neutron is not waited for where this host's switch says it first.
        read_ports: waits until Neutron has allocated the server's ports and returns them; none if ``server`` has them.
        read_drive: returns the content of its config drive, once its ports are known; none if it has no drive.
        attached: the volumes that it has from the start.
        power_on: leave it stopped if false.

    Raises:
        Conflict: the server has a container here already, which stays as it is.
        DockstackError: what went wrong, one of ``HOPELESS`` if no host could do it.
        Exception: whatever ``read_ports`` and ``ports_plugged`` raise.
    """
    with host.busy.hold(server.uuid), host.counts.boot() as boot, undo_on_error() as undo:
        server = replace(server, volumes=attached)
        image = require_buildable(host, server)
        boot.reached("image")
        if server.uuid not in host.processors:  # else a container that is in the way has them
            undo.push(host.processors.release, server.uuid)
        server = place(host, server)
        container_id, image = create(host, server, image, undo)
        received.drop(host, server.uuid)  # Nova wants it made from its image, not from what a move has left
        guest_access.place(host, server, image)
        undo.push(namespaces.remove, server.uuid)
        namespaces.prepare(server.uuid)
        boot.reached("container")
        undo.push(ephemeral.drop, host, server.uuid)
        ephemeral.make(host, server.uuid, attached)
        undo.push(volumes.release, host, server.uuid)
        devices = volumes.connect_all(host, server, attached)
        boot_volumes.prepare(server, devices)
        early = power_on and read_drive is None
        with starting(host, server, container_id, image.config, devices) if early else contextlib.nullcontext():
            server = replace(server, ports=read_ports()) if read_ports else server
            boot.reached("ports")
            undo.push(config_drives.remove, host, server.uuid)
            config_drives.write(host, server, read_drive)
            with ports_plugged(server.ports) as awaited:
                interfaces.connect(host, server, undo)
                write_patch(host, server, container_id, image.config, devices=devices)
                awaited.difference_update(ovs.wait_installed(awaited))
            boot.reached("network")
        if power_on and not early:
            host.engine.start(container_id, HELD_SECONDS if server.root_volume else None)
        boot.reached("start")
    host.audit.forget(server.uuid)


@contextlib.contextmanager
def starting(
    host: Host, server: Server, container_id: str, image: ImageConfig, devices: tuple[Device, ...] = ()
) -> Iterator[None]:
    """Start a server, whose first process waits until the block has completed its network.

    What the engine does for a start is the longest part of a boot. If the block fails, no process of the server runs.
    """
    write_patch(host, server, container_id, image, devices=devices)
    holding = runtime.holding(host.patches, container_id)
    with ThreadPoolExecutor(1, "start") as beside, holding:
        started = beside.submit(host.engine.start, server.container_name, HELD_SECONDS)
        yield
    started.result()


def create(
    host: Host, server: Server, image: LoadedImage, undo: Undo, labels: Mapping[str, str] | None = None
) -> tuple[str, LoadedImage]:
    """Create a server's container; return its id, and the image with what was found of its first process.

    What an image calls /sbin/init may be any init, and only a container shows its files. Where it is one that needs
    more than others, the first container of an image on this host is made again; the next ones are right at once.

    Args:
        host: where.
        server: which.
        image: what it is made from.
        undo: what to do if a later step fails.
        labels: of the container, besides those that every one has.

    Raises:
        DockstackError: as ``specify`` and ``creation.create``.
    """

    def make(image: LoadedImage) -> str:
        specification = specify(host, server, image)
        labelled = replace(specification, labels={**specification.labels, **(labels or {})})
        return creation.create(host, server.container_name, labelled, undo)

    program = spec.find_program(server, image.config)
    systems = inits.is_systems(program)
    known = _with_init(image, host.guests.recall_init(image.engine_id, program)) if systems else image
    container_id = make(known)
    found = _with_init(image, host.guests.find_init(image.engine_id, container_id, program)) if systems else known
    if found != known:
        host.engine.remove(container_id)
        container_id = make(found)
    copies.restore_sparse_files(host, container_id, found.config)
    return container_id, found


def _with_init(image: LoadedImage, init: str) -> LoadedImage:
    return replace(image, config=replace(image.config, init=init))


def require_buildable(host: Host, server: Server) -> LoadedImage:
    """Fetch a server's image, and refuse a wrong request before anything is made or unmade for it.

    Raises:
        DockstackError: the server could not be made, one of ``HOPELESS`` if not anywhere.
    """
    elsewhere = server.image.returning or server.root_volume
    image = host.images.ensure(server.image, 0 if elsewhere else server.limits.disk_gb << 30)
    specify(host, server, image)
    guest_access.check(host, server)
    return image


def discard(host: Host, server: Server, timeout: int) -> None:
    """Stop a server and remove its container; its ports stay on the switch, for the one that takes its place.

    Args:
        host: where.
        server: which; one that has no container is fine.
        timeout: seconds that its processes get before they are killed.
    """
    with host.busy.hold(server.uuid):
        with contextlib.suppress(NotFound):
            stop(host, server, timeout)
        clean_up(host, server, keep_ports=True)


def destroy(host: Host, server: Server) -> None:
    """Unmake a server, whole, half-made or gone; each step is fine with finding nothing.

    The container goes first: while its processes run, they keep their network.

    Raises:
        DockstackError: a step failed; the next call takes it up from there.
    """
    with host.busy.hold(server.uuid):
        devices = interfaces.find_devices(host, server)
        remove_container(host, server)
        quiesced.forget(host, server.uuid)
        interfaces.disconnect_devices(devices)
        namespaces.remove(server.uuid)
        volumes.release(host, server.uuid)
        ephemeral.drop(host, server.uuid)
        config_drives.remove(host, server.uuid)
    host.audit.forget(server.uuid)


def clean_up(host: Host, server: Server, *, keep_ports: bool) -> None:
    """Remove what is left of a server that was destroyed.

    Args:
        host: where.
        server: which.
        keep_ports: leave its ports and their namespace alone.
    """
    if keep_ports:
        remove_container(host, server)
        volumes.release(host, server.uuid)
        ephemeral.drop(host, server.uuid)
        config_drives.remove(host, server.uuid)
        host.audit.forget(server.uuid)
    else:
        destroy(host, server)


def start(host: Host, server: Server) -> None:
    """Start a server that exists, with network, volumes and limits as Neutron and Nova say now; one that runs is fine.

    After a reboot of the machine its namespace and links are gone, so all is made again; where it is there, each step
    finds its work done.

    Raises:
        NotFound: it has no container.
        Unfinished: its newest files are not in its container yet.
    """
    with host.busy.hold(server.uuid):
        received.refuse_unfinished(host, server.uuid)
        container = originals.require(host, server)
        server = interfaces.reconnect(host, server, container)
        config = ImageConfig(
            volumes=declared_volumes(container),
            init=container.labels.get(spec.INIT_LABEL, ""),
            sparse=_awaits_holes(container),
        )
        copies.restore_sparse_files(host, container.id, config)
        runtime.release(host.patches, container.id)
        devices = volumes.reconnect(host, server)
        boot_volumes.require(container, devices)
        roots = set_aside.list_roots(host, container)
        write_patch(host, server, container.id, config, roots=roots, devices=devices)
        if container.state is PowerState.SHUTDOWN:
            set_limits(host, server, container)
        if container.state is not PowerState.PAUSED:
            quiesced.forget(host, server.uuid)
        _begin(host, container.id)
    host.audit.forget(server.uuid)


def _awaits_holes(container: Container) -> bool:
    """Say whether a process may have died between a container's create and its sparse files being made whole.

    The image's labels show through. What another host has sent has its own way for holes.
    """
    never_ran = container.started_at.startswith("0001-")
    return never_ran and container.labels.get(SPARSE_LABEL) == "true" and not container.labels.get(PAYLOAD_LABEL)


def _begin(host: Host, container_id: str) -> None:
    """Have the engine start a container, also where an engine that was killed has left half a start of it behind.

    What is left has the container's place at the runtime ("id already in use"), and no engine ends it.
    """
    try:
        host.engine.start(container_id)
    except EngineError as error:
        if isinstance(error, EngineUnavailable) or not creation.end_forgotten(container_id):
            raise
        deadline = time.monotonic() + _NOTICE_SECONDS
        while not _is_begun(host, container_id, last=time.monotonic() >= deadline):
            time.sleep(_NOTICE_INTERVAL)


def _is_begun(host: Host, container_id: str, *, last: bool) -> bool:
    try:
        host.engine.start(container_id)
    except EngineError:
        if last:
            raise
        return False
    return True


def set_limits(host: Host, server: Server, container: Container) -> None:
    """Change the container's limits to the server's, if they differ.

    Raises:
        EngineError: refused, as less memory than is in use is for a running one.
    """
    disks.hold(host, container, server.limits)
    placed = host.processors.place(server.uuid, server.limits, container.host_config.get("CpusetCpus") or "")
    changes = limits.changes(container.host_config, placed)
    if changes:
        host.engine.update(container.id, changes)


def stop(host: Host, server: Server, timeout: int) -> None:
    """Stop a server and take it off the network; its namespace, ports and disk stay. One that is stopped is fine.

    Args:
        host: where.
        server: which.
        timeout: seconds that its processes get before they are killed; 0 kills at once.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        host.reboots.call_off(server.uuid)
        host.engine.stop(originals.require(host, server).id, timeout)
        veth.link_down(server.uuid)
    host.audit.forget(server.uuid)


def reboot(host: Host, server: Server, *, hard: bool) -> None:
    """Stop and start a server; disk and NICs survive. A stopped or paused one ends up running, too.

    Args:
        host: where.
        server: which.
        hard: kill it instead of asking it to shut down.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        stop(host, server, 0 if hard else host.options.stop_timeout)
        start(host, server)


def pause(host: Host, server: Server) -> None:
    """Freeze a server's processes and take it off the network; one that is frozen is fine.

    The kernel, which does not freeze, would still answer a ping.

    Raises:
        Conflict: it does not run.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        quiesced.forget(host, server.uuid)  # it stays still, whoever had it stand still before
        freeze(host, server)
        veth.link_down(server.uuid)
    host.audit.forget(server.uuid)


def freeze(host: Host, server: Server) -> None:
    """Freeze a server's processes; one that is frozen is fine.

    The first freezer of Linux (cgroup v1) has to catch all processes of a group at once. The runtime tries for about
    half a second; while a server starts many processes on a busy machine, that is too short.

    Raises:
        Conflict: it does not run.
        EngineError: it cannot be frozen, within some seconds.
    """
    deadline = time.monotonic() + FREEZE_PATIENCE
    container_id = originals.require(host, server).id
    while True:
        try:
            host.engine.pause(container_id)
        except Conflict:
            if host.container(server.uuid).state is not PowerState.PAUSED:
                raise
        except EngineError:
            runs = host.container(server.uuid).state is PowerState.RUNNING
            if not runs or time.monotonic() > deadline:
                raise
            continue
        return


def unpause(host: Host, server: Server) -> None:
    """Thaw a server's processes, with their network; one that runs is fine.

    Raises:
        Conflict: it is stopped.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        container_id = originals.require(host, server).id
        veth.link_up(server.uuid)
        try:
            host.engine.unpause(container_id)
        except EngineError:  # a running one is refused with a status that some engines share with real failures
            if host.container(server.uuid).state is not PowerState.RUNNING:
                veth.link_down(server.uuid)
                raise
    host.audit.forget(server.uuid)


def place(host: Host, server: Server) -> Server:
    """Choose the processors that a new server runs on.

    Raises:
        DockstackError: its flavor has swap, and this host has none.
    """
    if server.limits.swap_mb and not usage.read_memory().swap_mb:
        raise DockstackError(
            "The server's flavor has swap, and this host has none.",
            "Choose a flavor without swap, or add swap to the host (swapon).",
        )
    return replace(server, limits=host.processors.place(server.uuid, server.limits))


def resume(host: Host, server: Server) -> bool:
    """Let a suspended server go on; if its memory is lost with the engine or the machine, start it.

    Returns:
        Whether its processes are those that were suspended.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        if originals.require(host, server).state in (PowerState.PAUSED, PowerState.RUNNING):
            unpause(host, server)
            return True
        start(host, server)
        return False


def specify(host: Host, server: Server, image: LoadedImage) -> ContainerSpec:
    """Decide how the server runs, before anything is made for it.

    Raises:
        Unbuildable: image and request together do not say how.
    """
    options = host.options
    try:
        return spec.build_spec(
            server,
            image.engine_id,
            image.config,
            host=host.name,
            runtime=options.runtime,
            log_max_size=options.log_max_size,
            log_max_files=options.log_max_files,
            stop_timeout=options.stop_timeout,
            least_interval=options.healthcheck_interval,
            disk=host.storage().device,
            sized=host.storage().sized,
        )
    except DockstackError as error:
        raise Unbuildable(error.brief, error.resolution, error.details) from error


def write_patch(
    host: Host,
    server: Server,
    container_id: str,
    image: ImageConfig,
    *,
    roots: tuple[Overlay | Root, ...] = (),
    devices: tuple[Device, ...] = (),
) -> None:
    """Leave the note by which the runtime gives a server its network, drive, volumes and own view of the machine."""
    seen = host.lxcfs.mounts()
    if not seen and host.lxcfs.directory is not None:
        LOG.warning(
            "The server starts without a view of its own: LXCFS does not answer below %s. It sees the host's "
            "processors, memory and uptime until LXCFS answers again.",
            host.lxcfs.directory,
            instance_uuid=server.uuid,
        )
    shown = volumes.list_mounts(host, server.uuid, devices)
    mounts = (*seen, *config_drives.list_mounts(host, server.uuid), *shown)
    places = {mount.destination for mount in shown}
    patch = spec.build_patch(
        server,
        image,
        mounts=mounts,
        masked_paths=tuple(path for path in lxcfs.hidden() if path not in places),
        roots=roots,
        devices=volumes.list_disks(devices),
        root_volume=boot_volumes.find(devices),
        disk_guard=disks.name_guard(host),
        resolvers=tuple(map(str, host.options.dns_servers)),
    )
    runtime.write_patch(host.patches, container_id, patch)
    runtime.write_owner(host.patches, container_id, server.uuid, server.project_id)


def remove_container(host: Host, server: Server) -> None:
    """Remove all containers that this host has made for a server, with their notes; absent is success."""
    host.processors.release(server.uuid)
    for container in set_aside.list_all(host, server.uuid):
        creation.remove(host, container)


def declared_volumes(container: Container) -> tuple[str, ...]:
    """Read from its labels which volumes the container's image declared; the image itself may be gone by now."""
    return tuple(json.loads(container.labels.get(VOLUMES_LABEL, "[]")))
