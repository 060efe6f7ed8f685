# SPDX-License-Identifier: Apache-2.0
"""Where the engine keeps what a container has written, for those storage drivers that let root at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.privileged import subvolumes

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.flows.host import Host

OVERLAY, BTRFS = "overlay2", "btrfs"
OPEN = (OVERLAY, BTRFS)  # the storage drivers whose layers can be read and written


def find_layer(host: Host, container: Container) -> str:
    """Return the directory of a container: on overlay2 of what it has written, on btrfs of its whole root file system.

    Returns:
        "" if the storage driver is another.
    """
    if host.facts().storage_driver == BTRFS:
        return str(subvolumes.locate(host.facts().root_directory, container.id))
    return container.layers.upper if container.layers else ""
