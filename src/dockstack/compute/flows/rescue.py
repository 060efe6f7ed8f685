# SPDX-License-Identifier: Apache-2.0
"""Rescue and unrescue: run another image in a server's place, with the server's own root file system mounted in it.

The server's container is renamed and kept; the rescuing one gets its name, network and identity. Power, console and
state go by the name, so they work on the rescuing container as they are. Nothing is written down besides: the
containers' names and a label tell how far a rescue had come that was broken off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.compute.containers import runtime
from dockstack.compute.flows import guest_access, lifecycle
from dockstack.compute.host import copies, creation, disks, received
from dockstack.compute.host.originals import restore
from dockstack.compute.host.set_aside import name_rescued
from dockstack.compute.model import PowerState
from dockstack.compute.undo import undo_on_error
from dockstack.errors import DockstackError
from dockstack.names import RESCUE_LABEL

if TYPE_CHECKING:
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server


class Unrescuable(DockstackError):  # noqa: N818 - said of the server
    """The server's root file system cannot be shown to another container."""


def begin(host: Host, server: Server) -> None:
    """Run a rescuing image in a server's place; an earlier rescue that was broken off is undone first.

    Args:
        host: where.
        server: the server, with the rescuing image as its own.

    Raises:
        Unrescuable: the engine's storage does not let us.
        DockstackError: a step failed; the server is stopped and whole.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid), undo_on_error() as undo:
        received.refuse_unfinished(host, server.uuid)
        restore(host, server)
        server = replace(server, rescued=True)
        original = host.container(server.uuid)
        if host.facts().storage_driver not in disks.OPEN:
            raise Unrescuable(
                "The engine keeps this server's root file system in a way that no other container can be given.",
                f"Rescue works with the storage drivers {' and '.join(disks.OPEN)} (`docker info`); copy files with "
                "`docker cp` instead.",
            )
        image = lifecycle.require_buildable(host, server)
        specification = lifecycle.specify(host, lifecycle.place(host, server), image)
        labelled = replace(specification, labels=specification.labels | {RESCUE_LABEL: "true"})
        if original.state is not PowerState.SHUTDOWN:  # its files must not be written from two sides
            lifecycle.stop(host, server, 0)
        undo.push(restore, host, server)
        runtime.remove_patch(host.patches, original.id)  # nobody starts it by accident
        host.engine.rename(original.id, name_rescued(server.uuid))
        container_id = creation.create(host, server.container_name, labelled, undo)
        copies.restore_sparse_files(host, container_id, image.config)
        guest_access.place(host, server, image)
        lifecycle.start(host, server)


def end(host: Host, server: Server) -> None:
    """Put a server's own container back in its place and start it; without a rescue, it is only started.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        restore(host, server)
        lifecycle.start(host, server)
