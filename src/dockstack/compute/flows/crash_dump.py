# SPDX-License-Identifier: Apache-2.0
"""Nova's "trigger crash dump": send the server's first process a signal on which it writes a dump of its state.

On other hypervisors that is a non-maskable interrupt, on which the kernel of the virtual machine writes the dump.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.containers import signals
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX

if TYPE_CHECKING:
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

PROPERTY = "docker_crash_signal"
LABEL = LABEL_PREFIX + "crash_signal"
DEFAULT = "SIGABRT"


class Undumpable(DockstackError):  # noqa: N818 - said of the server
    """No signal would make the server write a dump."""


def dump(host: Host, server: Server) -> None:
    """Send a server's first process the signal that makes it dump: what that writes, and where, is its own choice.

    The server's metadata says which signal, else what its image said when it was made.

    Raises:
        Undumpable: it does not run, or the kernel would drop the signal.
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        container = host.container(server.uuid)
        if container.state is not PowerState.RUNNING:
            raise Undumpable("A server that does not run cannot write a crash dump.", "Start or unpause it first.")
        signal = server.metadata.get(PROPERTY) or container.labels.get(LABEL) or DEFAULT
        if not signals.is_handled(container.pid, signal):
            raise Undumpable(
                f"The first process of this server does not handle {signal}, and so the kernel drops it.",
                f"Name a signal that it handles in the property {PROPERTY} of the server or its image, or boot an "
                "image with docker_init=true, whose init hands signals on.",
            )
        host.engine.kill(container.id, signal)
