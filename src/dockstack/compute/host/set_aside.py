# SPDX-License-Identifier: Apache-2.0
"""Containers that were set aside while another one runs in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.containers.runtime import Overlay, Root
from dockstack.compute.engine import NotFound
from dockstack.compute.host import disks
from dockstack.names import NAME_PREFIX, RESCUE_LABEL

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host

MOUNT_POINT = "/mnt/rescue"  # where a rescuing container has the server's own root file system
_SUFFIX = "-original"


def name_original(server_uuid: str) -> str:
    """Return the name of a server's own container while it is set aside."""
    return NAME_PREFIX + server_uuid + _SUFFIX


def find_original(host: Host, server_uuid: str) -> Container | None:
    """Return a server's own container if it is set aside."""
    try:
        return host.engine.container(name_original(server_uuid))
    except NotFound:
        return None


def is_rescuing(container: Container) -> bool:
    """Whether a container runs in another one's place."""
    return container.labels.get(RESCUE_LABEL) == "true"


def list_roots(host: Host, container: Container) -> tuple[Overlay | Root, ...]:
    """Say what a rescuing container gets of the server's own; nothing for every other container."""
    original = find_original(host, container.server_uuid) if is_rescuing(container) else None
    if original is None:
        return ()
    if original.layers is None:
        return (Root(disks.find_layer(host, original), MOUNT_POINT),)
    found = original.layers
    return (Overlay(lower=found.lower, upper=found.upper, work=found.work, destination=MOUNT_POINT),)
