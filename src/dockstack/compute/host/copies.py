# SPDX-License-Identifier: Apache-2.0
"""Copies of what servers have written, as the flows use them: made, read, swept; see ``privileged.copies``."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from dockstack.compute.engine import NotFound
from dockstack.compute.failures import isolated
from dockstack.compute.host import disks, received
from dockstack.compute.model import PowerState
from dockstack.compute.privileged import archives
from dockstack.compute.privileged import copies as privileged
from dockstack.compute.transfer import fifo
from dockstack.errors import DockstackError
from dockstack.oci.documents import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.oci.process import ImageConfig

LOG = logging.getLogger(__name__)

_CHUNK = 1 << 20  # also what an unprivileged process may have as a pipe


class CannotCopy(DockstackError):  # noqa: N818 - said of the request
    """What a server has written cannot be copied or read here; the server goes on."""


def make(
    host: Host, container: Container, name: str, standing_still: Callable[[], AbstractContextManager[None]]
) -> None:
    """Copy what a container has written; it need not stand still for more than a moment.

    Args:
        host: where.
        container: whose.
        name: the copy's.
        standing_still: makes a context in which nothing of the container runs.

    Raises:
        CannotCopy: there is no room, or the engine's storage lets nobody at it.
        Exception: whatever ``standing_still`` raises.
    """
    layer = disks.find_layer(host, container)
    if not layer:
        raise CannotCopy(
            f"What servers write cannot be read where the engine stores in {host.facts().storage_driver}.",
            f"Images of servers need the storage driver {' or '.join(disks.OPEN)}.",
        )
    with understood():
        privileged.begin(*find_place(host), name, layer, host.images.limits.max_entries)
    with standing_still(), understood():
        privileged.complete(*find_place(host), name, layer, host.images.limits.max_entries)


@contextmanager
def noted(host: Host, container: Container, name: str) -> Iterator[None]:
    """Have a container stand still for a copy while the body runs; if this process dies, the next sweep lets it go on.

    The body freezes it.
    """
    with understood():
        privileged.note(*find_place(host), name, container.id)
    try:
        yield
    finally:
        _thaw(host, container.id)
        with understood():
            privileged.note(*find_place(host), name, "")


def remove(host: Host, name: str) -> None:
    """Remove a copy, when nothing stands still for it any more; what fails is logged, and left to the next sweep."""
    with isolated(f"removing the copy {name}, which stays until the next sweep,"):
        frozen = dict(privileged.list_all(*find_place(host))).get(name)
        if frozen:
            _thaw(host, frozen)
        privileged.remove(*find_place(host), name)


def sweep(host: Host) -> None:
    """Remove the copies that killed snapshots left, and let servers go on that stand still for one."""
    found: list[tuple[str, str]] = []
    with isolated("looking for what killed snapshots left"):
        found = privileged.list_all(*find_place(host))
    for name, _ in found:
        if name not in host.busy:
            LOG.info("Removing the copy that snapshot %s left when its process ended", name)
            remove(host, name)


class RootFileSystem:
    """A root file system that a copy shows, as a tar archive.

    Attributes:
        sparse: whether it has sparse files, without their holes; known when it was read once.
        left_out: how many of each kind of thing were left out, because an image cannot carry them.
    """

    def __init__(self, host: Host, name: str) -> None:
        """Name the copy."""
        self.sparse = False
        self.left_out: dict[str, int] = {}
        self._place = (*find_place(host), name)
        self._entries = host.images.limits.max_entries
        self._workspace = received.find_directory(host)

    def read(self) -> Iterator[bytes]:
        """Read it, in chunks; it is the same each time.

        Raises:
            CannotCopy: it cannot be read, or its sparse files have too many holes.
        """
        self._workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ThreadPoolExecutor(1, "root-reader") as beside, fifo.opened(self._workspace) as (path, reader, writer):
            with suppress(OSError):  # only faster
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _CHUNK)
            written = beside.submit(self._write, path, writer)
            try:
                while chunk := os.read(reader, _CHUNK):
                    yield chunk
            finally:
                os.close(reader)  # whoever writes on notices
            with understood():
                said = written.result()
            self.sparse, self.left_out = bool(said["sparse"]), said["left_out"]

    def _write(self, path: str, writer: int) -> dict[str, Any]:
        try:
            said: dict[str, Any] = archives.read(*self._place, path, self._entries)
            return said
        finally:
            os.close(writer)


def restore_sparse_files(host: Host, container_id: str, image: ImageConfig) -> None:
    """Give the sparse files of a new container their holes, if its image has any.

    Raises:
        ImageRejected: what the image says of them makes no sense.
        CannotCopy: they cannot be had here.
    """
    if not image.sparse:
        return
    layer = disks.find_layer(host, host.engine.container(container_id))
    try:
        with understood():
            count = archives.restore(layer)
    except CannotCopy as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise ImageRejected(
            "What the image says of its sparse files makes no sense.",
            "Make the image again, of the server that it is of.",
            error.details,
        ) from error
    LOG.info("Gave %d sparse files of container %s their holes", count, container_id[:12])


def find_place(host: Host) -> tuple[str, str]:
    """Return the engine's data root and whose copies these are."""
    return host.facts().root_directory, host.name


def _thaw(host: Host, container_id: str) -> None:
    """Let a container go on; one that runs, stopped or is gone is fine."""
    with suppress(NotFound):
        if host.engine.container(container_id).state is PowerState.PAUSED:
            host.engine.unpause(container_id)


@contextmanager
def understood() -> Iterator[None]:
    """Say what kept root's part from its work.

    Raises:
        CannotCopy: with what to do about it.
    """
    try:
        yield
    except BrokenPipeError:  # whoever reads it knows why
        raise
    except OSError as error:
        cure = "Look at the file system below the engine's data root."
        if error.errno == errno.ENOSPC:
            cure = "Free space on the host, or remove what the server does not need."
        elif error.errno == errno.EOVERFLOW:
            cure = "Remove files that the server does not need, or raise [docker]image_max_entries."
        elif error.errno == errno.E2BIG:
            cure = "Copy these files with `cp --sparse=never`, or remove them, then try again."
        raise CannotCopy(f"The server's files cannot be read: {error.strerror or error}.", cure, str(error)) from error
    except ValueError as error:
        raise CannotCopy(
            f"The server's files cannot be read: {error}.", "Look at nova-compute's log.", str(error)
        ) from error
