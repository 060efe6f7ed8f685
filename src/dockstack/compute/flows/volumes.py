# SPDX-License-Identifier: Apache-2.0
"""A server's volumes: attached and detached in every state of it, and there again at each of its starts.

Which volumes a server has, Nova says; which this host has connected for it, root's records (``privileged.volumes``). A
server that runs is changed where it is; at a start, the runtime does the same from its note.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers.runtime import Disk, Mount
from dockstack.compute.failures import isolated
from dockstack.compute.host import ephemeral
from dockstack.compute.model import ROOT_DEVICE, Device, DeviceUsage, Volume
from dockstack.compute.privileged import decryption, server_devices
from dockstack.compute.privileged import volumes as privileged
from dockstack.compute.resources import cgroups
from dockstack.compute.undo import undo_on_error
from dockstack.compute.volumes import connector, encryption, views
from dockstack.errors import DockstackError
from dockstack.names import DECRYPTED_DIRECTORY, NAME_PREFIX, VOLUMES_DIRECTORY, volume_link

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)

VIEWS = "views"  # below the state directory


class CannotAttach(DockstackError):  # noqa: N818 - said of the request
    """A server cannot be given a volume, or not now; it is as it was."""


def attach(host: Host, server: Server, volume: Volume) -> None:
    """Give a server a volume, in every state of it; one that it has is fine.

    Raises:
        DockstackError: a step failed; what was done is taken back.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        container = host.container(server.uuid)
        if container.pid:
            with _on_host(volume):
                server_devices.require_changeable(container.pid, container.id)
        undo.push(detach, host, server, volume)
        device = connect(host, server, volume)
        if container.pid:
            views.add(_find_view(host, server.uuid), device)
            _present(host, server, container, volume)


def detach(host: Host, server: Server, volume: Volume) -> None:
    """Take a volume from a server, in every state of it; absent is success.

    A process that has it open still, reads and writes no more.
    """
    with host.busy.hold(server.uuid):
        for known in _identify(server.uuid, volume):
            _take(host, server.uuid, known)


def extend(host: Host, server: Server, volume: Volume, size: int) -> None:
    """Let a server see at once that its volume has become larger.

    Args:
        host: where.
        server: which.
        volume: which of its volumes.
        size: bytes that it must have by now.

    Raises:
        DockstackError: it has not, or this host does not see it.
    """
    with host.busy.hold(server.uuid):
        connect(host, server, volume)
        connector.grow(volume)
        with _on_host(volume):
            privileged.grow(server.uuid, volume.id, connector.tag(host.name))
        device = connect(host, server, volume)
        if device.size < size - (encryption.HEADER_BYTES if volume.encrypted else 0):
            raise CannotAttach(
                f"Volume {volume.id} was to have {size} bytes, and has {device.size} on this host.",
                "See cinder-volume's log for whether it was extended; then detach and attach it.",
            )
        if _find_view(host, server.uuid).is_dir() and not volume.is_root:
            views.add(_find_view(host, server.uuid), device)


def swap(host: Host, server: Server, old: Volume, new: Volume) -> None:
    """Put another volume in the place of one, with its content; the server does without while that is copied.

    A device that is open or mounted cannot be exchanged beneath its users: that is refused.

    Raises:
        CannotAttach: it is in use, or the new one is smaller.
        DockstackError: a step failed; the server has the old one.
    """
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        container = host.container(server.uuid)
        if old.id == new.id:
            return
        _refuse_root(server, old)
        _refuse_used(server, container, old)
        if container.pid:
            undo.push(attach, host, server, old)
            with _on_host(old):
                server_devices.withdraw(container.pid, container.id, server.uuid, old.id)
            _refuse_used(server, container, old)  # it may have been opened in between
        undo.push(_take, host, server.uuid, new)
        connect(host, server, new)
        with _on_host(new):
            privileged.copy(server.uuid, old.id, new.id)
        attach(host, server, new)
        let_go(host, server.uuid, old)


def reconnect(host: Host, server: Server) -> tuple[Device, ...]:
    """Have on this host what Nova says that a server has, before it starts, and nothing else of it.

    Nova is asked only if it has not said so: a server without volumes starts while nobody answers.

    Raises:
        DockstackError: one cannot be had. The server must not start without it: it would take an empty directory for
            its data.
    """
    return connect_all(host, server, list_attached(host, server))


def list_attached(host: Host, server: Server) -> tuple[Volume, ...]:
    """List the volumes that Nova says a server has."""
    return host.attachments(server.uuid) if server.volumes is None else server.volumes


def connect_all(host: Host, server: Server, wanted: Collection[Volume]) -> tuple[Device, ...]:
    """Have exactly these volumes of a server on this host; one that Cinder has not said all of yet is left out."""
    wanted = [volume for volume in wanted if volume.protocol]
    release(host, server.uuid, keep={volume.id for volume in wanted})
    devices = tuple(connect(host, server, volume) for volume in wanted)
    if shown := _without_root(devices):
        views.renew(_find_view(host, server.uuid), shown)
    return devices


def connect(host: Host, server: Server, volume: Volume) -> Device:
    """Have a volume as a device of this host, for a server; again is fine.

    Raises:
        DockstackError: it cannot be had, or nothing of its kind can be given to this server.
    """
    _refuse_unfit(server, volume)
    with host.busy.hold(volume.id):
        path = _find_path(host, server.uuid, volume)
        if volume.encrypted:
            path = _decrypt(host, volume, path)
        seen = {"device": volume.device, "read_only": volume.read_only}
        with _on_host(volume):
            return Device(volume, **privileged.hold(server.uuid, volume.id, path, connector.tag(host.name), seen))


def _find_path(host: Host, server_uuid: str, volume: Volume) -> str:
    """Return the file or block device of this host that a volume is.

    Raises:
        CannotAttach: it is a disk that this host has made, and is not there any more.
        DockstackError: it cannot be had.
    """
    if volume.ephemeral is None:
        return connector.connect(volume)
    path = ephemeral.find(host, server_uuid, volume)
    if not path.is_file():
        raise CannotAttach(
            f"The server's ephemeral disk /dev/{volume.device} is not at {path} any more.",
            "Rebuild the server, which makes an empty one, or bring the file back.",
        )
    return str(path)


def _decrypt(host: Host, volume: Volume, path: str) -> str:
    """Have an encrypted volume open, and return the file that it then is; its key is asked for if it is not yet.

    Raises:
        CannotAttach: no host can open it.
    """
    with _on_host(volume):
        opened: str = decryption.find_open(volume.id)
    if opened:
        return opened
    found = host.encryption(volume.id)
    misfit = encryption.find_misfit(found)
    if misfit:
        raise CannotAttach(
            f"Volume {volume.id} cannot be decrypted: {misfit}.",
            "Use a volume type with the provider luks and the cipher aes-xts-plain64.",
        )
    with _on_host(volume):
        return str(decryption.decrypt(volume.id, path, found.key, (found.cipher, found.bits)))


def let_go(host: Host, server_uuid: str, volume: Volume) -> None:
    """Have a volume on this host no more, unless another server holds it; absent is success."""
    with host.busy.hold(volume.id):
        with _on_host(volume):
            last = privileged.let_go(server_uuid, volume.id, connector.tag(host.name))
        if last and volume.protocol and volume.ephemeral is None:
            connector.disconnect(volume)


def release(host: Host, server_uuid: str, keep: Collection[str] = ()) -> None:
    """Let go of all volumes of a server but for some, and of its view if there are none to keep; none is fine."""
    if not VOLUMES_DIRECTORY.exists():  # no server of this host has had a volume since the machine started
        return
    held = [Volume(volume, device) for volume, device in _list_held(server_uuid) if volume not in keep]
    known = {volume.id: volume for volume in host.attachments(server_uuid)} if held else {}
    for volume in held:
        _take(host, server_uuid, known.get(volume.id, volume))
    if not keep:
        views.drop(_find_view(host, server_uuid))


def sweep(host: Host, release_server: Callable[[str], bool | None]) -> None:
    """Let go of what killed processes have left: of servers that left, volumes that Nova took back, devices of nobody.

    A volume that a server should have and this host has not connected comes with the server's next start.

    Args:
        host: where.
        release_server: asks Nova whether what is left of a server may go; see ``recovery.Claims``.
    """
    _sweep_ephemeral(host, release_server)
    if not VOLUMES_DIRECTORY.exists() and not DECRYPTED_DIRECTORY.exists():
        return
    servers = {server_uuid for server_uuid, _, _ in privileged.list_held()}
    for server_uuid in sorted(server for server in servers if server not in host.busy):
        with isolated("looking for volumes that are left of the server", server_uuid):
            _sweep_server(host, server_uuid, gone=bool(release_server(server_uuid)))
    with isolated("looking for devices of volumes that no server holds"):
        for volume in privileged.list_strays(connector.tag(host.name)):
            with isolated(f"letting go of volume {volume}, which no server of this host holds"):
                privileged.drop_stray(volume, connector.tag(host.name))
                LOG.info("Let go of volume %s, which no server of this host holds", volume)
    with isolated("looking for decrypted volumes that no server holds"):
        for volume in privileged.list_left_open() if DECRYPTED_DIRECTORY.exists() else ():
            with isolated(f"closing encrypted volume {volume}, which no server of this host holds"):
                _close_left_open(host, volume)


def allow_again(host: Host) -> None:
    """Let servers that run use the volumes that they hold; one that somebody works on has its turn the next time.

    systemd, where it is told to read its units again, may give a control group the rules that it has made of these.
    """
    if not VOLUMES_DIRECTORY.exists():
        return
    held: list[list[str]] = []
    with isolated("looking for the volumes that servers hold"):
        held = privileged.list_held()
    for server_uuid in sorted({server for server, _, _ in held}):
        with isolated("letting it use its volumes", server_uuid), host.busy.hold_if_free(server_uuid) as free:
            container = host.find_own(NAME_PREFIX + server_uuid) if free else None
            if container is not None and container.pid:
                server_devices.allow_again(container.pid, container.id, server_uuid)


def list_disks(devices: Collection[Device]) -> tuple[Disk, ...]:
    """Say what the runtime gives a server at its start."""
    return tuple(
        Disk(
            device.volume.device,
            volume_link(device.volume.id),
            device.major,
            device.minor,
            "r" if device.volume.read_only else "rw",
            list_rates(device.volume),
        )
        for device in _without_root(devices)
    )


def list_mounts(host: Host, server_uuid: str, devices: Collection[Device]) -> tuple[Mount, ...]:
    """Say what shows a server its own devices instead of the host's; nothing if it has none."""
    options = ("bind", "ro", "nosuid", "nodev", "noexec")
    found = views.list_sources(_find_view(host, server_uuid)) if _without_root(devices) else []
    return tuple(Mount(source, place, options=options) for source, place in found)


def read_usage(host: Host, server: Server, device: str) -> DeviceUsage:
    """Read what a server moved to and from one of its volumes since its start; nothing while it does not run."""
    container = host.container(server.uuid)
    number = views.find_number(_find_view(host, server.uuid), device)
    used = cgroups.device_usage(container.pid, number) if container.pid and number else None
    return used or DeviceUsage()


def _take(host: Host, server_uuid: str, volume: Volume) -> None:
    """Take a volume from a server: first what the server sees, then what the host has; absent is success.

    Raises:
        CannotAttach: it runs from this volume.
    """
    container = host.find_own(NAME_PREFIX + server_uuid)
    if container is not None and container.pid:
        if _is_root(server_uuid, volume):
            raise CannotAttach(
                f"Volume {volume.id} holds the root file system of server {server_uuid}, which runs.",
                "Stop or shelve the server first.",
            )
        with _on_host(volume):
            server_devices.withdraw(container.pid, container.id, server_uuid, volume.id)
    views.remove(_find_view(host, server_uuid), volume.device)
    let_go(host, server_uuid, volume)


def _present(host: Host, server: Server, container: Container, volume: Volume) -> None:
    shown = [list(pair) for pair in views.list_sources(_find_view(host, server.uuid))]
    with _on_host(volume):
        server_devices.limit(container.pid, container.id, server.uuid, volume.id, list(list_rates(volume)))
        server_devices.present(container.pid, container.id, server.uuid, volume.id, shown)


def _refuse_unfit(server: Server, volume: Volume) -> None:
    """Refuse what the server could not use.

    Raises:
        CannotAttach: naming it.
    """
    form = volume.connection.get("format") or "raw"
    obstacle = encryption.find_obstacle() if volume.encrypted else ""
    for unfit, brief, resolution in (
        (
            server.confinement.runtime,
            f"The server's runtime {server.confinement.runtime} has no block devices of the host.",
            "Volumes need a flavor without docker:runtime.",
        ),
        (
            volume.is_root and volume.read_only,
            f"Volume {volume.id} can only be read, and the server's root file system is on it.",
            "Boot from a volume that can be written.",
        ),
        (
            volume.is_root and volume.encrypted,
            f"Volume {volume.id} is encrypted, and the server's root file system would be on it.",
            "Boot from a volume of a type without encryption, and attach the encrypted one.",
        ),
        (
            obstacle,
            f"Volume {volume.id} is encrypted, and this host decrypts nothing: {obstacle}.",
            "See docs/volumes.md for what a host needs, or use a volume type without encryption.",
        ),
        (
            form != "raw",
            f"Volume {volume.id} is a file of the format {form}, and servers get block devices.",
            "Have Cinder's backend make raw files.",
        ),
    ):
        if unfit:
            raise CannotAttach(brief, resolution)


def _refuse_used(server: Server, container: Container, volume: Volume) -> None:
    with _on_host(volume):
        used = container.pid and server_devices.is_used(container.pid, container.id, server.uuid, volume.id)
    if used:
        raise CannotAttach(
            f"The server uses volume {volume.id}, as /dev/{volume.device}.",
            "Unmount it in the server, or stop the server, and try again.",
        )


def _close_left_open(host: Host, volume: str) -> None:
    """Close what a killed process had opened; a volume that is opened just now is held by nobody yet, and busy."""
    with host.busy.hold_if_free(volume) as free:
        if free:
            privileged.close_left_open(volume)
            LOG.info("Closed encrypted volume %s, which no server of this host holds", volume)


def _sweep_ephemeral(host: Host, release_server: Callable[[str], bool | None]) -> None:
    for server_uuid in ephemeral.list_servers(host):
        with isolated("looking for ephemeral disks that are left of the server", server_uuid):
            if server_uuid not in host.busy and release_server(server_uuid):
                with host.busy.hold(server_uuid):
                    release(host, server_uuid)
                    ephemeral.drop(host, server_uuid)


def _sweep_server(host: Host, server_uuid: str, *, gone: bool) -> None:
    with host.busy.hold(server_uuid):
        wanted = set() if gone else {volume.id for volume in host.attachments(server_uuid)}
        for volume_id, device in _list_held(server_uuid):
            if volume_id not in wanted:
                LOG.info("Taking volume %s from it, as Nova has", volume_id, instance_uuid=server_uuid)
                _take(host, server_uuid, Volume(volume_id, device))
        if gone:
            views.drop(_find_view(host, server_uuid))


def _identify(server_uuid: str, volume: Volume) -> list[Volume]:
    """Return the volume that is meant; where Nova names only its place, what the server holds there."""
    if volume.id:
        return [volume]
    if not VOLUMES_DIRECTORY.exists():
        return []
    return [Volume(found, device) for found, device in _list_held(server_uuid) if device == volume.device]


def _list_held(server_uuid: str) -> list[tuple[str, str]]:
    """List the volumes that are on this host for a server, and as which devices."""
    return [(volume, device) for server, volume, device in privileged.list_held() if server == server_uuid]


def _without_root(devices: Collection[Device]) -> tuple[Device, ...]:
    return tuple(device for device in devices if not device.volume.is_root)


def _is_root(server_uuid: str, volume: Volume) -> bool:
    """Whether a volume holds a server's root file system; Nova may call its place otherwise."""
    return volume.is_root or (volume.id, ROOT_DEVICE) in _list_held(server_uuid)


def _refuse_root(server: Server, volume: Volume) -> None:
    """Refuse to exchange the file system that a server stands on.

    Raises:
        CannotAttach: it is that.
    """
    if _is_root(server.uuid, volume):
        raise CannotAttach(
            f"Volume {volume.id} holds the server's root file system, which cannot be exchanged.",
            "Migrate or retype the volume when the server is deleted or shelved.",
        )


def list_rates(volume: Volume) -> tuple[int, int, int, int]:
    """Return what a volume's QoS specs allow, as ``runtime.Disk`` has it."""
    rates = volume.rates
    return rates.read_bytes or 0, rates.write_bytes or 0, rates.read_iops or 0, rates.write_iops or 0


def _find_view(host: Host, server_uuid: str) -> Path:
    return Path(host.options.state_directory) / VIEWS / server_uuid


@contextmanager
def _on_host(volume: Volume) -> Iterator[None]:
    """Say which volume it was that the kernel refused something of."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CannotAttach(
            f"Volume {volume.id} could not be handled on this host: {error}.",
            "See nova-compute's log and docs/volumes.md.",
        ) from error
