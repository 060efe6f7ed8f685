# SPDX-License-Identifier: Apache-2.0
"""Keep what servers see of their machine their own, also after LXCFS was restarted or killed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import lxcfs
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL

if TYPE_CHECKING:
    from dockstack.compute.host.host import Host

LOG = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds; a look costs one stat
PATIENCE = 2  # looks in a row without an LXCFS until its dead files are taken out of servers: a restart is shorter


class Watcher:
    """One thread that looks whether another LXCFS runs than before, and renews the view of every running server."""

    def __init__(self, host: Host, interval: float = INTERVAL) -> None:
        """Prepare to watch; ``start`` begins.

        Args:
            host: whose LXCFS and servers.
            interval: seconds between two looks.
        """
        self._host = host
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lxcfs", daemon=True)
        self._known: int | None = None
        self._missing = 0
        self._again = True  # the first look finds what happened while nobody watched
        self._asked = threading.Event()

    def start(self) -> None:
        """Begin to watch, in a thread of its own, if this host is to have an LXCFS; its first answer is waited for."""
        if self._host.lxcfs.directory is not None:
            self._thread.start()
            self._asked.wait(lxcfs.PATIENCE)

    def stop(self, timeout: float = 10) -> None:
        """End the thread and wait for it, at most ``timeout`` seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def look(self) -> None:
        """Compare with the last look; renew if LXCFS is another one, and once more at the look after that.

        A server that was starting meanwhile did not run yet at the first time. One that started while an LXCFS hung,
        and has no view therefore, gets one when that goes on.
        """
        began = time.monotonic()
        found = self._host.lxcfs.ask()
        self._asked.set()
        hung = time.monotonic() - began > lxcfs.PATIENCE
        if found is None:
            self._missing += 1
            due = self._missing == PATIENCE
            if due:
                LOG.warning(
                    "LXCFS does not answer below %s: servers see the host's processors, memory and uptime until it is "
                    "back",
                    self._host.lxcfs.directory,
                )
        else:
            self._missing = 0
            due = found != self._known or hung
            self._known = found
        if due or self._again:
            renewed = renew_all(self._host)
            if renewed:
                LOG.info("Renewed what %s servers see of their machine", renewed)
        self._again = due

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except DockstackError as error:
                self._again = True
                LOG.warning("Cannot renew what servers see of their machine; trying on: %s", error)
            except Exception:
                LOG.exception("Looking after LXCFS failed; going on")
            self._stopping.wait(self._interval)


def renew_all(host: Host) -> int:
    """Renew the view of every running server of this host; one failure must not keep the others waiting.

    Returns:
        How many needed it.
    """
    renewed = 0
    for listed in host.engine.containers({HOST_LABEL: host.name}):
        if listed.state not in (PowerState.RUNNING, PowerState.PAUSED):
            continue
        try:
            container = host.engine.container(listed.name)
            renewed += bool(container.pid and host.lxcfs.renew(container.pid, container.id))
        except DockstackError as error:
            LOG.warning("Cannot renew what it sees of its machine: %s", error, instance_uuid=listed.server_uuid)
    return renewed
