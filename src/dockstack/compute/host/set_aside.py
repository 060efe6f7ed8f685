# SPDX-License-Identifier: Apache-2.0
"""Name and find the containers that a server has besides the one that bears its name; nothing is changed here.

There are three kinds: the server's own while it is rescued (``originals`` puts it back), what a move is making of
another host's files, and what an earlier move left here. All of them are found in what the engine lists, so that
whatever was broken off between two of them can be taken up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.containers.runtime import Overlay, Root
from dockstack.compute.host import disks
from dockstack.names import HOST_LABEL, NAME_PREFIX, RESCUE_LABEL, UUID_LABEL

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host

MOUNT_POINT = "/mnt/rescue"  # where a rescuing container has the server's own root file system
ARRIVING = "-arriving"  # is being made of what another host has sent
_RESCUED = "-original"  # the server's own, while another image runs in its place
_STALE = "-stale-"  # what an earlier move left, while what has arrived takes its place; its id follows


def name_rescued(server_uuid: str) -> str:
    """Return the name of a server's own container while another image runs in its place."""
    return NAME_PREFIX + server_uuid + _RESCUED


def name_stale(container: Container) -> str:
    """Return the name of a server's container when newer files than its own have arrived."""
    return f"{NAME_PREFIX}{container.server_uuid}{_STALE}{container.id[:12]}"


def find_rescued(host: Host, server_uuid: str) -> Container | None:
    """Return a server's own container if another image runs in its place."""
    return host.find_own(name_rescued(server_uuid))


def list_all(host: Host, server_uuid: str) -> list[Container]:
    """List every container that this host made for a server, the server's own and those beside it, in one call."""
    name = NAME_PREFIX + server_uuid
    known = (name, name + ARRIVING, name + _RESCUED)
    listed = host.engine.containers({UUID_LABEL: server_uuid, HOST_LABEL: host.name})
    return [found for found in listed if found.name in known or found.name.startswith(name + _STALE)]


def list_stale(host: Host, server_uuid: str) -> list[Container]:
    """List the containers of a server that newer files have replaced."""
    return [found for found in list_all(host, server_uuid) if is_stale(found)]


def is_stale(container: Container) -> bool:
    """Whether a container's files were replaced by newer ones."""
    return container.name.startswith(f"{NAME_PREFIX}{container.server_uuid}{_STALE}")


def is_rescuing(container: Container) -> bool:
    """Whether a container runs in another one's place."""
    return container.labels.get(RESCUE_LABEL) == "true"


def list_roots(host: Host, container: Container) -> tuple[Overlay | Root, ...]:
    """Return what to mount into a container so that a rescue can reach the server's own root file system.

    Only a rescuing container gets such a mount; for every other one there is none.
    """
    rescued = find_rescued(host, container.server_uuid) if is_rescuing(container) else None
    if rescued is None:
        return ()
    if rescued.layers is None:
        return (Root(disks.find_layer(host, rescued), MOUNT_POINT),)
    found = rescued.layers
    return (Overlay(lower=found.lower, upper=found.upper, work=found.work, destination=MOUNT_POINT),)
