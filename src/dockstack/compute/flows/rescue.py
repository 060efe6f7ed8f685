# SPDX-License-Identifier: Apache-2.0
"""Another image runs in a server's place, with the server's own root file system mounted in it, and goes again.

The server's container is set aside under another name, and the rescuing one takes its name, network and identity: so
power, console and state are those of the server without any of them knowing. Names and a label are all that is kept of
it; a rescue that was broken off anywhere is ended, or taken up, from what the engine lists.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.compute.containers import runtime
from dockstack.compute.flows import guest_access, lifecycle
from dockstack.compute.host import creation, disks, received
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
    """Run a rescuing image in a stopped server's place. One that a rescue was broken off for is taken up.

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
        creation.create(host, server.container_name, labelled, undo)
        guest_access.place(host, server, image)
        lifecycle.start(host, server)


def end(host: Host, server: Server) -> None:
    """Let a server be itself again and start it; one that is itself is only started.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        restore(host, server)
        lifecycle.start(host, server)
