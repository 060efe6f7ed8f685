# SPDX-License-Identifier: Apache-2.0
"""Make this host agree with Nova again, after whatever was killed or restarted.

State lives in the engine's labels, in the kernel's names, in the switch and in Nova's database. Nothing is written down
beside them, so nothing can be out of date.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from oslo_log import log as logging

from dockstack.compute.containers import ending, namespaces, runtime
from dockstack.compute.engine import EngineUnavailable, NotFound
from dockstack.compute.failures import isolated
from dockstack.compute.flows import lifecycle, quiesce, volumes
from dockstack.compute.guest import config_drive
from dockstack.compute.host import config_drives, copies, creation, disks, originals, set_aside
from dockstack.compute.model import Image, Limits, PowerState, Server
from dockstack.compute.network import ovs, veth
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL, NAME_PREFIX, PROJECT_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host

T = TypeVar("T")

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claims:
    """What Nova says about servers.

    Attributes:
        kept: the servers that Nova has on this host and that are whole.
        abandoned: those on this host whose build was broken off; nobody is working on them any more.
        has_left: tells of any other server whether Nova has deleted it or has it elsewhere for good (True), may want
            what is here again (False) or does not know it (None); asked only when something of it is found.
    """

    kept: Collection[str]
    abandoned: Collection[str]
    has_left: Callable[[str], bool | None]

    def release(self, server_uuid: str) -> bool | None:
        """Whether what is left of a server may be removed; None if Nova does not know it, False if it cannot tell."""
        if server_uuid in self.kept or server_uuid in self.abandoned:
            return server_uuid in self.abandoned
        with isolated("asking Nova whether the server has left", server_uuid):
            return self.has_left(server_uuid)
        return False


@dataclass(frozen=True)
class Unrescued:
    """A server that is not rescued, in Nova's records.

    Attributes:
        server: as Nova describes it.
        runs: Nova wants it running.
    """

    server: Server
    runs: bool


class Reconciler:
    """Makes host and Nova agree each time the engine comes back; given to the thread that follows its events."""

    def __init__(
        self,
        host: Host,
        read_claims: Callable[[], Claims],
        list_wanted: Callable[[], Collection[str]],
        read_wanted: Callable[[str], Server | None],
        read_unrescued: Callable[[str], Unrescued | None],
    ) -> None:
        """Remember whom to ask.

        Args:
            host: which.
            read_claims: asks Nova what it keeps.
            list_wanted: asks Nova which servers should run.
            read_wanted: asks Nova for one server, if it should still run.
            read_unrescued: asks Nova for one server, if it is not being rescued.
        """
        self._host = host
        self._read_claims = read_claims
        self._list_wanted = list_wanted
        self._read_wanted = read_wanted
        self._read_unrescued = read_unrescued
        self._first = True

    def __call__(self, containers: Iterable[Container]) -> None:
        """Sweep and resume; but not at the first listing, when Nova itself is starting and does both."""
        if self._first:
            self._first = False
            return
        sweep(self._host, self._read_claims())
        end_unknown_rescues(self._host, containers, self._read_unrescued)
        resume(self._host, containers, self._list_wanted(), self._read_wanted)


def prepare(host: Host) -> None:
    """Wait for the engine, which may be starting with the machine, and make room for images.

    Raises:
        EngineUnavailable: it did not answer in time.
    """
    deadline = time.monotonic() + host.options.timeout
    while not _answers(host, last=time.monotonic() >= deadline):
        LOG.warning("The container engine does not answer yet; waiting for it")
        time.sleep(1)
    host.images.sweep()
    copies.sweep(host)
    quiesce.sweep(host)
    here = host.engine.containers({HOST_LABEL: host.name})
    _remember_processors(host, here)
    _note_owners(host, here)
    disks.prepare(host)
    if not host.storage().sized:
        LOG.warning(
            "Disks in %s: %s. See docs/limits.md for storage that limits it.",
            host.facts().root_directory,
            host.storage().describe(),
        )


def _remember_processors(host: Host, here: Iterable[Container]) -> None:
    """Count which processors the servers that are here run on, so that new ones get the others."""
    for listed in here:
        try:
            found = host.engine.container(listed.name).host_config.get("CpusetCpus") or ""
        except NotFound:  # it went away meanwhile
            continue
        host.processors.remember(listed.server_uuid, found)


def _note_owners(host: Host, here: Iterable[Container]) -> None:
    """Leave word whose containers are here: those that an older driver started have none."""
    for container in here:
        if container.current:
            project = container.labels.get(PROJECT_LABEL, "")
            runtime.write_owner(host.patches, container.id, container.server_uuid, project)


def _answers(host: Host, *, last: bool) -> bool:
    try:
        host.engine.ping()
    except EngineUnavailable:
        if last:
            raise
        return False
    return True


def sweep(host: Host, claims: Claims) -> None:
    """Remove what is left of servers that Nova has no more; a failure is logged and left to the next sweep.

    Something goes only if Nova says that it deleted its server, has it on another host for good, or broke off building
    it. What Nova does not know stays: its database may have been lost, and what is here be all that is left of a
    server. Servers that a flow is working on are left alone, and containers with another host's label.
    """
    sweep_listed(host, claims, host.engine.containers(), set())
    _sweep_patches(host)
    volumes.sweep(host, claims.release)


def sweep_listed(host: Host, claims: Claims, everything: Collection[Container], named: set[str]) -> None:
    """Do what ``sweep`` does for the containers and the network of servers, by one listing.

    Args:
        host: where.
        claims: what Nova says, asked after the listing.
        everything: the listing, of all hosts that share the engine.
        named: the containers of which was said already that Nova does not know them; those that are said now come in.
    """
    verdicts = {
        container.name: claims.release(container.server_uuid)
        for container in everything
        if container.labels.get(HOST_LABEL) == host.name and container.server_uuid not in host.busy
    }
    for name in sorted(name for name, verdict in verdicts.items() if verdict is None and name not in named):
        named.add(name)
        LOG.warning("Nova does not know the server of container %s; it stays. Remove it if nobody misses it", name)
    swept = [container for container in everything if verdicts.get(container.name)]
    strays = {container.name: container for container in swept}
    _each("container", strays, lambda stray: _destroy(host, claims, stray), server_of=lambda stray: stray.server_uuid)
    _sweep_network(host, claims, {container.server_uuid for container in everything} - {c.server_uuid for c in swept})


def resume(
    host: Host,
    containers: Iterable[Container],
    wanted: Collection[str],
    read_wanted: Callable[[str], Server | None],
) -> None:
    """Start the servers that Nova wants running and that are not: they were lost with the engine or the machine.

    Many starts take minutes, in which users stop servers and move them away. So Nova is asked once more for each one,
    when nobody else works on it: a server that moved away and is started here too would run twice.

    Args:
        host: where.
        containers: what a listing shows.
        wanted: the servers to run, as Nova said at first.
        read_wanted: reads one of them anew; None if it should not run here any more.

    Raises:
        Exception: Nova could not be asked about one of them. All others have been started by then.
    """
    unasked: list[Exception] = []
    lost = {
        container.name: container.server_uuid
        for container in containers
        if container.server_uuid in wanted
        and container.name == NAME_PREFIX + container.server_uuid
        and container.state in (PowerState.SHUTDOWN, PowerState.CRASHED)
        and container.server_uuid not in host.busy
    }

    def start(server_uuid: str) -> bool:
        with host.busy.hold(server_uuid):
            try:
                server = read_wanted(server_uuid)
            except Exception as error:
                unasked.append(error)
                raise
            if server is None:
                LOG.info("Nova does not want the server running here any more", instance_uuid=server_uuid)
                return False
            lifecycle.start(host, server)
            return True

    _each("server that should run", lost, start, done="Started", server_of=str)
    if unasked:
        raise unasked[0]


def resume_rebooted(host: Host, wanted: Collection[str], read_wanted: Callable[[str], Server | None]) -> None:
    """Start the servers again that were rebooted from inside while nobody followed the engine's events.

    Args:
        host: where.
        wanted: the servers to run, as Nova said at first.
        read_wanted: reads one of them anew; None if it should not run here any more.
    """
    off, rebooted = [], []
    with isolated("listing the servers that may have been rebooted from inside"):
        off = [
            listed
            for listed in host.engine.containers({HOST_LABEL: host.name})
            if listed.server_uuid in wanted and listed.current and listed.state is PowerState.SHUTDOWN
        ]
    for listed in off:
        with isolated("looking how a server ended", listed.server_uuid):
            if ending.is_reboot(host.engine.container(listed.id)):
                rebooted.append(listed)
    with isolated("starting servers that were rebooted from inside"):
        resume(host, rebooted, wanted, read_wanted)


def end_unknown_rescues(
    host: Host, containers: Iterable[Container], read_unrescued: Callable[[str], Unrescued | None]
) -> None:
    """End the rescues that Nova has no record of: put the server's own container back, and start it if it is to run.

    When nova-compute starts, Nova resets the task state of servers that are being rescued. A rescue request that is
    still in the queue is done afterwards all the same, but Nova does not record it: the server counts as not rescued
    while the rescuing image runs in its place.

    Args:
        host: where.
        containers: what a listing shows.
        read_unrescued: asks Nova for one server; None if it is rescued, is being worked on or is not this host's.
    """
    rescuing = {
        container.name: container.server_uuid
        for container in containers
        if container.labels.get(HOST_LABEL) == host.name
        and set_aside.is_rescuing(container)
        and container.server_uuid not in host.busy
    }

    def end(server_uuid: str) -> bool:
        with host.busy.hold(server_uuid):
            found = read_unrescued(server_uuid)
            if found is None:
                return False
            originals.put_back(host, found.server)
            if found.runs:
                lifecycle.start(host, found.server)
            return True

    _each("rescue that Nova does not know of", rescuing, end, done="Ended", server_of=str)


def _sweep_network(host: Host, claims: Claims, inhabited: Collection[str]) -> None:
    verdicts: dict[str, bool] = {}

    def stray(server_uuid: str) -> bool:
        if server_uuid in inhabited or server_uuid in host.busy:
            return False
        if server_uuid not in verdicts:
            verdicts[server_uuid] = bool(claims.release(server_uuid))
        return verdicts[server_uuid]

    try:
        plugged = ovs.list_plugged()
    except DockstackError as error:
        LOG.warning("Cannot look for stray switch ports: %s", error)
        plugged = {}
    wired = veth.wired()

    def unplug(device: str) -> bool:
        return _unless_back(host, claims, plugged[device], lambda: ovs.unplug_device(device))

    def unwire(device: str) -> bool:
        return _unless_back(host, claims, wired[device], lambda: veth.unwire_device(device))

    _each("switch port", _only(plugged, stray), unplug, server_of=plugged.get)
    _each("device", _only(wired, stray), unwire, server_of=wired.get)
    left = config_drive.present(config_drives.find_directory(host))

    def remove_drive(uuid: str) -> bool:
        return _unless_back(host, claims, uuid, lambda: config_drives.remove(host, uuid))

    def remove_namespace(uuid: str) -> bool:
        return _unless_back(host, claims, uuid, lambda: namespaces.remove(uuid))

    _each("config drive", {uuid: uuid for uuid in left if stray(uuid)}, remove_drive, server_of=str)
    spaces = {uuid: uuid for uuid in namespaces.present() if stray(uuid)}
    _each("namespace", spaces, remove_namespace, server_of=str)


def _unless_back(host: Host, claims: Claims, server_uuid: str, remove: Callable[[], object]) -> bool:
    """Remove what a server has left, when nobody works on it, and only if Nova still says that the server is gone.

    It may have come back between the listing and now: moves and builds do not wait for a sweep.

    Returns:
        Whether it was removed.
    """
    with host.busy.hold(server_uuid):
        if not claims.release(server_uuid) or _is_inhabited(host, server_uuid):
            return False
        remove()
        return True


def _is_inhabited(host: Host, server_uuid: str) -> bool:
    """Whether the engine has a container of a server, of whichever host."""
    try:
        host.engine.container(NAME_PREFIX + server_uuid)
    except NotFound:
        return False
    return True


def _sweep_patches(host: Host) -> None:
    """Remove the notes to the runtime whose containers are gone.

    The notes are listed before the containers: one whose container is made meanwhile is not among them.
    """
    directory = host.patches
    patched = runtime.patched(directory)
    living = {container.id for container in host.engine.containers()}
    strays = {identity: identity for identity in patched if identity not in living}
    _each("runtime patch", strays, lambda identity: runtime.remove_patch(directory, identity))


def _only(found: Mapping[str, str], stray: Callable[[str], bool]) -> dict[str, str]:
    return {device: device for device, server_uuid in found.items() if stray(server_uuid)}


def _destroy(host: Host, claims: Claims, container: Container) -> bool:
    """Unmake a server of which nothing is known but its container, if Nova still says that it may go."""
    server = Server(
        uuid=container.server_uuid,
        name=container.name,
        hostname="",
        project_id="",
        user_id="",
        flavor="",
        image=Image(id="", name=""),
        limits=Limits(vcpus=0, memory_mb=0, disk_gb=0),
    )
    with host.busy.hold(server.uuid):
        if not claims.release(server.uuid):
            return False
        lifecycle.destroy(host, server)
        creation.remove(host, container)  # where it is a side container of the server's, under a longer name
        return True


def _each(
    kind: str,
    found: Mapping[str, T],
    work: Callable[[T], object],
    *,
    done: str = "Removed stray",
    server_of: Callable[[T], str | None] = lambda _: None,
) -> None:
    """Do the work for each thing that was found, and log what was done; after a failure, go on with the next.

    Args:
        kind: what they are, for the log.
        found: the things, by the names that the log has for them.
        work: what to do; it returns False if it left the thing alone.
        done: what was done, for the log.
        server_of: returns the server that a thing is of, for the log.
    """
    for name, thing in found.items():
        server_uuid = server_of(thing)
        with isolated(f"recovery of {kind} {name}", server_uuid):
            if work(thing) is not False:
                LOG.info("%s %s %s", done, kind, name, instance_uuid=server_uuid)
