# SPDX-License-Identifier: Apache-2.0
"""Servers that stand still while Cinder takes snapshots of their volumes, with all that they have written on these.

Nova asks for it when a server that boots from a volume becomes an image, and lets it go on when the snapshots are
there. If nobody does, a round does it after a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.engine import Conflict, NotFound
from dockstack.compute.failures import isolated
from dockstack.compute.flows import lifecycle
from dockstack.compute.host import quiesced
from dockstack.compute.model import PowerState
from dockstack.compute.privileged import server_devices
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)

LONGEST = 300.0  # seconds; a snapshot of our own backend takes one or two


class CannotQuiesce(DockstackError):  # noqa: N818 - said of the request
    """A server cannot stand still now; it is as it was."""


def quiesce(host: Host, server: Server) -> None:
    """Have what a server has written on its volumes, and its processes stand still; one that does is fine.

    Most is written before they stand still, so that they do for a moment only, and not at all if storage is stuck.
    Nobody has the server to himself while it is written, as storage may answer never: it can be let go on meanwhile,
    and be deleted.

    Raises:
        CannotQuiesce: it does not run, or the kernel cannot write, or not before it was let go on.
        NotFound: it has no container.
    """
    container = host.container(server.uuid)
    if container.pid:
        _write_out(container, server.uuid)
    with undo_on_error() as undo:
        with host.busy.hold(server.uuid):
            container = _note(host, server)
            undo.push(unquiesce, host, server.uuid)
            if container.state is PowerState.RUNNING:
                lifecycle.freeze(host, server)
        _write_out(container, server.uuid)
        if quiesced.read(host, server.uuid) != container.id:
            raise CannotQuiesce(
                "The server goes on already: its volumes took too long to have what it had written.",
                "See the kernel's log of this host, and take the snapshot again.",
            )


def _note(host: Host, server: Server) -> Container:
    """Note that a server is to stand still from now on; one that does by an earlier note has as long again.

    Raises:
        CannotQuiesce: it does not run.
        NotFound: it has no container.
    """
    container = host.container(server.uuid)
    stands = container.state is PowerState.PAUSED and quiesced.read(host, server.uuid) == container.id
    if not stands and container.state is not PowerState.RUNNING:
        raise CannotQuiesce("The server does not run, so it stands still already.", "Take the snapshot as it is.")
    quiesced.note(host, server.uuid, container.id)
    return container


def unquiesce(host: Host, server_uuid: str) -> None:
    """Let a server go on; one that does not stand still, or was paused meanwhile, is fine."""
    with host.busy.hold(server_uuid):
        noted, container = quiesced.read(host, server_uuid), host.find_own(NAME_PREFIX + server_uuid)
        if noted and container is not None and container.id == noted and container.state is PowerState.PAUSED:
            try:
                host.engine.unpause(noted)
            except (Conflict, NotFound):
                LOG.info("It has ended while it stood still", instance_uuid=server_uuid)
        quiesced.forget(host, server_uuid)


def sweep(host: Host) -> None:
    """Let servers go on that have stood still for too long, as whoever was to say so is dead.

    One that somebody works on has its turn the next time: others must not wait for that.
    """
    found: list[str] = []
    with isolated("looking for servers that stand still for snapshots of their volumes"):
        found = quiesced.list_older(host, LONGEST)
    for server_uuid in found:
        with (
            isolated("letting it go on after snapshots of its volumes", server_uuid),
            host.busy.hold_if_free(server_uuid) as free,
        ):
            if free:
                LOG.warning(
                    "It stood still for snapshots of its volumes, and nobody let it go on", instance_uuid=server_uuid
                )
                unquiesce(host, server_uuid)


def _write_out(container: Container, server_uuid: str) -> None:
    try:
        server_devices.write_out(container.pid, container.id, server_uuid)
    except (OSError, ValueError) as error:
        raise CannotQuiesce(
            f"What the server has written is not on its volumes: {error}.", "See the kernel's log of this host."
        ) from error
