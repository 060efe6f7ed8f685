# SPDX-License-Identifier: Apache-2.0
"""Where the engine keeps what a container has written, for those storage drivers that let root at it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.compute.privileged import subvolumes
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Limits

LOG = logging.getLogger(__name__)

OVERLAY, BTRFS, XFS = "overlay2", "btrfs", "xfs"
OPEN = (OVERLAY, BTRFS)  # the storage drivers whose layers can be read and written


def prepare(host: Host) -> None:
    """Have the engine's file system count in the way that holds, before the engine chooses another.

    Raises:
        DockstackError: the engine's storage is not as it should be.
    """
    root = host.facts().root_directory
    if host.facts().storage_driver != BTRFS:
        return
    with _in_storage(root):
        mode = subvolumes.enable_quotas(root)
    if mode != subvolumes.SIMPLE:
        LOG.warning(
            "The btrfs below %s has full quotas, and some kernels stop counting with them when a server is deleted. "
            "With a kernel of 6.7 or later, turn them off while no server is here (btrfs quota disable %s) and restart "
            "this service: it takes simple ones.",
            root,
            root,
        )


def find_layer(host: Host, container: Container) -> str:
    """Return the directory of a container: on overlay2 of what it has written, on btrfs of its whole root file system.

    Returns:
        "" if the storage driver is another.

    Raises:
        DockstackError: the engine's storage is not as it should be.
    """
    if host.facts().storage_driver != BTRFS:
        return container.layers.upper if container.layers else ""
    with _in_storage(f"container {container.name}"):
        return str(subvolumes.locate(host.facts().root_directory, container.id))


def name_guard(host: Host) -> str:
    """Name the file system whose quotas a server's processes must be kept from escaping; empty if there are none."""
    if host.facts().storage_driver == BTRFS:
        return BTRFS
    return XFS if host.storage().sized and host.storage().kind == f"{OVERLAY} on {XFS}" else ""


def can_grow(host: Host) -> bool:
    """Whether a container can get a larger disk than it was made with."""
    return not host.storage().sized or host.facts().storage_driver == BTRFS


def hold(host: Host, container: Container, limits: Limits) -> None:
    """Hold a container to the disk that its server has now; on storage other than btrfs it keeps the one it has.

    Raises:
        DockstackError: the engine's storage is not as it should be.
    """
    if host.facts().storage_driver == BTRFS and limits.disk_gb:
        with _in_storage(f"container {container.name}"):
            subvolumes.limit(host.facts().root_directory, container.id, limits.disk_gb << 30)


@contextmanager
def _in_storage(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise DockstackError(
            f"The engine's storage does not give access to {what}: {error}.",
            "Look at the engine's log, and at the file system below its data root.",
        ) from error
