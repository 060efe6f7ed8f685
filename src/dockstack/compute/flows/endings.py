# SPDX-License-Identifier: Apache-2.0
"""The end of a server's first process, told to whoever wonders why the server is off.

A server whose first process ends at once looks to Nova like one that was switched off, and its owner sees neither why
nor what to do. So its console log ends with that, and a server that has just been built gets a fault.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dockstack.compute.consoles import log
from dockstack.compute.containers import ending
from dockstack.compute.engine import EventKind
from dockstack.compute.failures import isolated
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Event
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server


def read_log(host: Host, server: Server) -> bytes:
    """Return the end of what a server's processes wrote; and, if the first one has ended, how.

    Raises:
        NotFound: it has no container.
    """
    written = log.tail(host.engine, server.container_name)
    said = ending.describe(host.container(server.uuid))
    if not said:
        return written
    note = f"[dockstack] {said}\n".encode()
    lines = written if not written or written.endswith(b"\n") else written + b"\n"
    return (lines + note)[-log.MAX_BYTES :]


def tell(
    host: Host, event: Event, emit: Callable[[Event], None], fail: Callable[[Event, str, Callable[[], bool]], bool]
) -> None:
    """Tell Nova of an event; of a server that has just been built and ended at once, why.

    Nova may not be done with its build yet, and the next event must not wait for that: a thread of its own does. Who
    waits does not see what the server's user asks for meanwhile, as a reboot or a rebuild: so it looks again.

    Args:
        host: where.
        event: what happened.
        emit: tells Nova.
        fail: gives a server that Nova has just built a fault with this reason, if it still ended so when Nova is done
            with it, as the function says; False: it is none.
    """
    reason = _find_reason(host, event)
    if not reason:
        emit(event)
        return

    def still_ended() -> bool:
        return _find_reason(host, event) == reason

    def fail_or_emit() -> None:
        with isolated("saying why a server ended at once", event.server_uuid):
            if fail(event, reason, still_ended):
                return
        emit(event)

    threading.Thread(target=fail_or_emit, name="early-end", daemon=True).start()


def _find_reason(host: Host, event: Event) -> str:
    """Say why a server ended that had only begun; empty if it did not, or nobody knows."""
    if event.kind is not EventKind.STOPPED:
        return ""
    with isolated("looking how a server ended", event.server_uuid):
        container = host.find_own(NAME_PREFIX + event.server_uuid)
        if container is not None and container.id == event.container_id and ending.is_early(container):
            return ending.describe(container)
    return ""
