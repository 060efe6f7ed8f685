# SPDX-License-Identifier: Apache-2.0
"""The end of a server's first process, told to whoever wonders why the server is off.

A server whose first process ends at once looks to Nova like one that was switched off, and its owner sees neither why
nor what to do. So its console log ends with that, and a server that has just been built gets a fault.

A server that was rebooted from inside ends in the same way, as far as the engine knows, and is started again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.consoles import log
from dockstack.compute.containers import ending
from dockstack.compute.engine import EventKind
from dockstack.compute.failures import isolated
from dockstack.compute.flows import lifecycle
from dockstack.compute.model import PowerState
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Container, Event
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)

_PATIENCE, _ROUND = 60, 0.5  # seconds that Nova may take to write down what it wants
_HABIT = 5  # reboots, each soon after a start
_LONGEST_TASK, _TASK_ROUND = 6 * 3600, 5  # seconds that it may take for what it is doing, as for a large snapshot


class TaskUnderWay(Exception):  # noqa: N818 - nothing is wrong
    """Nova is in the midst of something with a server; what it wants of it is known afterwards."""


def read_log(host: Host, server: Server) -> bytes:
    """Return the end of what a server's processes wrote; if the first one has ended, how; and if that is a habit, that.

    Raises:
        NotFound: it has no container.
    """
    written = log.tail(host.engine, server.container_name)
    container = host.container(server.uuid)
    said = [ending.describe(container), "" if ending.has_come_up(container) else _describe_row(host, server.uuid)]
    note = "".join(f"[dockstack] {line}\n" for line in said if line).encode()
    if not note:
        return written
    lines = written if not written or written.endswith(b"\n") else written + b"\n"
    return (lines + note)[-log.MAX_BYTES :]


def _describe_row(host: Host, server_uuid: str) -> str:
    count = host.reboots.in_a_row(server_uuid)
    if count < _HABIT:
        return ""
    times = f"{count} times in a row within {ending.EARLY_SECONDS} s of its start"
    return f"It reboots by itself again and again ({times}), and so is started later each time: see what reboots it."


def read_state(host: Host, server_uuid: str, *, fresh: bool) -> PowerState:
    """Tell a server's power state: one that was rebooted from inside and is about to be started again runs.

    Nova would stop a server that it finds off; and it could not tell later that this one is to run.

    Args:
        host: where.
        server_uuid: which.
        fresh: do not answer from memory.

    Raises:
        NotFound: it has no container.
    """
    state = host.audit.get_state(server_uuid, fresh=fresh)
    return PowerState.RUNNING if state is PowerState.SHUTDOWN and server_uuid in host.reboots else state


def tell(
    host: Host,
    event: Event,
    emit: Callable[[Event], None],
    fail: Callable[[Event, str, Callable[[], bool]], bool],
    read_wanted: Callable[[str], Server | None],
) -> None:
    """Tell Nova of an event; of a server that has just been built and ended at once, why; of a reboot, nothing.

    Nova may not be done with its build yet, and the next event must not wait for that: a thread of its own does. Who
    waits does not see what the server's user asks for meanwhile, as a reboot or a rebuild: so it looks again.

    Args:
        host: where.
        event: what happened.
        emit: tells Nova.
        fail: gives a server that Nova has just built a fault with this reason, if it still ended so when Nova is done
            with it, as the function says; False: it is none.
        read_wanted: asks Nova for a server, if it is to run here; raises TaskUnderWay while somebody works on it.
    """
    ended = _find_ended(host, event)
    rebooted = ended if ended is not None and ending.is_reboot(ended) else None
    reason = _find_reason(host, event) if ended is not None and rebooted is None else ""

    def still_ended() -> bool:
        return _find_reason(host, event) == reason

    def settle() -> None:
        with isolated("starting again after a reboot from inside", event.server_uuid):
            if rebooted is not None and _start_again(host, event.server_uuid, rebooted, read_wanted):
                return
        with isolated("saying why a server ended at once", event.server_uuid):
            if reason and fail(event, reason, still_ended):
                return
        emit(event)

    if rebooted is not None or reason:
        threading.Thread(target=settle, name="server-end", daemon=True).start()
    else:
        emit(event)


def _find_reason(host: Host, event: Event) -> str:
    """Say why a server ended that had only begun; empty if it did not, or nobody knows."""
    found = _find_ended(host, event)
    early = found is not None and found.id == event.container_id and ending.is_early(found)
    return ending.describe(found) if found is not None and early else ""


def _find_ended(host: Host, event: Event) -> Container | None:
    """Return a server's container if the event is the end of its first process, and if it can be had."""
    with isolated("looking how a server ended", event.server_uuid):
        return host.find_own(NAME_PREFIX + event.server_uuid) if event.kind is EventKind.STOPPED else None
    return None


def _start_again(host: Host, server_uuid: str, ended: Container, read_wanted: Callable[[str], Server | None]) -> bool:
    """Start a server that was rebooted from inside; say whether that was done.

    Nova may be in the midst of something with it, as of building it or of a snapshot that takes hours to upload: that
    is waited for. What Nova then wants, it may take a moment to write down.
    """
    with host.reboots.waiting(server_uuid) as still_waits:
        before = host.reboots.count(server_uuid, early=ending.has_hardly_run(ended))
        time.sleep(ending.rest(ended, before))
        last = time.monotonic() + _LONGEST_TASK
        deadline = time.monotonic() + _PATIENCE
        while True:
            pause = _ROUND
            with host.busy.hold(server_uuid):
                found = host.find_own(NAME_PREFIX + server_uuid)
                if found is None or not ending.is_reboot(found) or not still_waits():
                    return False
                try:
                    server = read_wanted(server_uuid)
                except TaskUnderWay:
                    server, pause, deadline = None, _TASK_ROUND, min(last, time.monotonic() + _PATIENCE)
                if server is not None:
                    LOG.info("Starting again, as the server was rebooted from inside", instance_uuid=server_uuid)
                    lifecycle.start(host, server)
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
