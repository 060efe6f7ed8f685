# SPDX-License-Identifier: Apache-2.0
"""One compute host: what every flow works with."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.conf import image_limits
from dockstack.compute.containers.lxcfs import Lxcfs
from dockstack.compute.engine import Engine, NotFound
from dockstack.compute.host.audit import Audit
from dockstack.compute.host.counts import Counts
from dockstack.compute.host.guests import Guests
from dockstack.compute.host.processors import Processors
from dockstack.compute.host.reboots import Reboots
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.images.registries import Registries
from dockstack.compute.resources import usage
from dockstack.compute.resources.storage import Storage, read_storage
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL, NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from oslo_config import cfg

    from dockstack.compute.engine import Container, EngineInfo
    from dockstack.compute.model import Encryption, Image, Volume

WORKSPACE = "images"  # below the state directory


class _Hold:
    """Who works on one server, and how many wait to."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.count = 0


class Busy:
    """The servers that a flow of this process is making or unmaking right now; a sweep leaves them alone.

    One thread at a time works on a server. Nova keeps its own requests apart, but recovery comes from another thread:
    a start of its own in the midst of a delete would give the deleted server a network again.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._holds: dict[str, _Hold] = {}

    @contextmanager
    def hold(self, server_uuid: str) -> Iterator[None]:
        """Have the server to oneself while the body runs; holds of one thread nest."""
        with self._counted(server_uuid) as hold, hold.lock:
            yield

    @contextmanager
    def hold_if_free(self, server_uuid: str) -> Iterator[bool]:
        """Have the server to oneself if nobody works on it, nor this thread; the body gets whether that went."""
        busy = server_uuid in self
        with self._counted(server_uuid) as hold:
            free = not busy and hold.lock.acquire(blocking=False)
            try:
                yield free
            finally:
                if free:
                    hold.lock.release()

    @contextmanager
    def _counted(self, server_uuid: str) -> Iterator[_Hold]:
        with self._lock:
            hold = self._holds.setdefault(server_uuid, _Hold())
            hold.count += 1
        try:
            yield hold
        finally:
            with self._lock:
                hold.count -= 1
                if not hold.count:
                    del self._holds[server_uuid]

    def __contains__(self, server_uuid: str) -> bool:
        with self._lock:
            return server_uuid in self._holds

    def wait(self, server_uuid: str) -> None:
        """Wait until no flow works on the server."""
        with self.hold(server_uuid):
            pass


@dataclass(frozen=True)
class Host:
    """One compute host.

    Attributes:
        name: Nova's name of the host; a label of every container, because several hosts may share an engine.
        engine: the container engine.
        images: the images that the engine has of Glance's.
        audit: the last listing, remembered for a moment.
        busy: the servers that a flow is working on.
        options: the [docker] options.
        processors: which of the host's processors each server runs on.
        storage: the disk below the engine's data; looked at once.
        lxcfs: the file system that shows servers their own share of the machine.
        facts: what the engine says of itself; asked once, since nothing that is used of it changes while it runs.
        guests: what there is inside the images that servers boot from.
        counts: what was done here so far.
        reboots: the servers that were rebooted from inside.
        attachments: asks Nova which volumes a server has.
        encryption: asks Cinder and the key manager how a volume is encrypted.
    """

    name: str
    engine: Engine
    images: ImageStore
    audit: Audit
    busy: Busy
    options: cfg.GroupAttr
    processors: Processors
    storage: Callable[[], Storage]
    lxcfs: Lxcfs
    facts: Callable[[], EngineInfo]
    guests: Guests
    counts: Counts
    reboots: Reboots
    attachments: Callable[[str], tuple[Volume, ...]]
    encryption: Callable[[str], Encryption]

    @property
    def patches(self) -> Path:
        """Where the notes for the runtime are."""
        return Path(self.options.patch_directory)

    def container(self, server_uuid: str) -> Container:
        """Describe a server's container.

        Raises:
            NotFound: it has none on this host. Whatever else bears the name is another host's, or nobody's.
        """
        name = NAME_PREFIX + server_uuid
        found = self.find_own(name)
        if found is None or found.server_uuid != server_uuid:
            raise NotFound(f"This host has no container {name}")
        return found

    def find_own(self, name: str) -> Container | None:
        """Describe a container that this host made; None if there is none, or if another host of the engine made it."""
        try:
            found = self.engine.container(name)
        except NotFound:
            return None
        return found if found.labels.get(HOST_LABEL) == self.name else None


def _refuse(volume_id: str) -> Encryption:
    raise DockstackError(f"Nobody here knows what opens volume {volume_id}.", "Ask for volumes that are not encrypted.")


def build_host(
    name: str,
    options: cfg.GroupAttr,
    download: Callable[[Image], Iterable[bytes]],
    cpus: tuple[Collection[int], Collection[int]] | None = None,
    attachments: Callable[[str], tuple[Volume, ...]] = lambda _server_uuid: (),
    *,
    encryption: Callable[[str], Encryption] = _refuse,
) -> Host:
    """Put a host together; nothing is called yet.

    Args:
        name: Nova's name of it.
        options: the [docker] options.
        download: streams an image's data from Glance.
        cpus: the processors that servers share and those that they may have for themselves; None to share all.
        attachments: asks Nova which volumes a server has.
        encryption: asks Cinder and the key manager how a volume is encrypted.
    """
    engine = Engine(options.host_url, options.timeout)
    facts = cache(engine.info)
    shared, dedicated = cpus or (usage.list_cpus(), ())
    return Host(
        name=name,
        engine=engine,
        images=ImageStore(
            engine,
            download,
            Path(options.state_directory) / WORKSPACE,
            image_limits(options),
            timeout=options.image_timeout,
            parallel=options.image_parallel,
            registries=Registries(options),
        ),
        audit=Audit(engine, name),
        busy=Busy(),
        options=options,
        lxcfs=Lxcfs(Path(options.lxcfs_directory) if options.lxcfs_directory else None),
        processors=Processors(shared, dedicated, spread=options.vcpu_placement == "spread"),
        storage=cache(lambda: read_storage(facts().root_directory, facts().storage_driver)),
        facts=facts,
        guests=Guests(engine),
        counts=Counts(options.metrics_file),
        reboots=Reboots(),
        attachments=attachments,
        encryption=encryption,
    )
