# SPDX-License-Identifier: Apache-2.0
"""Create and remove containers, and never remove one only because of its name.

A create may fail because the name is taken. The container that has it may be all that is left of a server, so it stays.
What a failed create has made itself is told from that one by a label (``REQUEST_LABEL``) and by its id.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import runtime
from dockstack.compute.engine import Conflict, EngineError, EngineUnavailable
from dockstack.compute.model import PowerState
from dockstack.compute.privileged import shims
from dockstack.names import HOST_LABEL, REQUEST_LABEL

if TYPE_CHECKING:
    from dockstack.compute.engine import Container, ContainerSpec
    from dockstack.compute.host.host import Host
    from dockstack.compute.undo import Undo

LOG = logging.getLogger(__name__)


def create(host: Host, name: str, specification: ContainerSpec, undo: Undo) -> str:
    """Create a container, which the runtime does not start before it is told how; return its id.

    Each request has a random word, and its container has that as a label. An undo removes only a container with this
    label, and if the engine's answer gets lost on the way, the label shows whether the container was made.

    Raises:
        Conflict: the name is taken, by a container that stays as it is.
    """
    request = uuid.uuid4().hex
    labelled = replace(specification, labels=specification.labels | {REQUEST_LABEL: request})
    undo.push(remove_requested, host, name, request)
    try:
        container_id = host.engine.create(name, labelled)
    except (Conflict, EngineUnavailable) as error:
        made = find_requested(host, name, request)
        if made is None:
            raise describe_obstacle(host, name, error) from error
        container_id = made.id
    return container_id


def find_requested(host: Host, name: str, request: str) -> Container | None:
    """Return the container that a request to create it made; None if it made none, or nobody knows."""
    try:
        found = host.find_own(name)
    except EngineError:
        return None
    return found if found is not None and found.labels.get(REQUEST_LABEL) == request else None


def remove_requested(host: Host, name: str, request: str) -> None:
    """Remove the container that a request made; whatever else bears its name stays."""
    made = host.find_own(name)
    if made is not None and made.labels.get(REQUEST_LABEL) == request:
        remove(host, made)


def describe_obstacle(host: Host, name: str, error: EngineError) -> EngineError:
    """Say whose container bears a name that is taken; any other error is returned as it is."""
    try:
        found = host.engine.container(name) if isinstance(error, Conflict) else None
    except EngineError:
        found = None
    if found is None:
        return error
    owner = f"host {found.labels[HOST_LABEL]!r}" if found.labels.get(HOST_LABEL) else "somebody else"
    return Conflict(
        f"The name {name} is taken: container {found.id[:12]} of server {found.server_uuid or 'nobody'}, made by "
        f"{owner}, is there ({found.state}). It stays as it is.",
        f"An earlier move or build may have left it. Save what you need of it, remove it (`docker rm -f {name}`) and "
        "try again.",
        error.details,
    )


def remove(host: Host, container: Container) -> None:
    """Remove a container, whatever a killed engine left of it and its note; absent is success.

    What a killed engine left and the note go first: both are named after the container's id, so nobody would find them
    once the container is gone. If only the note goes, no harm is done: the runtime refuses to start such a container,
    and a start by Nova writes a new note before.
    """
    if container.state is PowerState.SHUTDOWN:
        end_forgotten(container.id)
    runtime.remove_patch(host.patches, container.id)
    host.engine.remove(container.id)


def end_forgotten(container_id: str) -> bool:
    """End what a killed engine left of a container that does not run; say whether there was anything."""
    ended = shims.end(container_id)
    if ended:
        LOG.warning("Ended %d processes of container %s, which its engine had forgotten", ended, container_id[:12])
    return bool(ended)
