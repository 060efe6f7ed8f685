# SPDX-License-Identifier: Apache-2.0
"""One request, from its arguments to its answer, in a process of its own that may hang or die."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dockstack.display import printable
from dockstack.mounts import caller as callers
from dockstack.mounts import kernel, loops, mounting, records, requests
from dockstack.mounts.requests import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from dockstack.mounts.caller import Caller
    from dockstack.mounts.kernel import Notification


@dataclass(frozen=True)
class Server:
    """Whose call it is.

    Attributes:
        uuid: the server's.
        namespace: the number of its mount namespace.
        policy: how it may mount.
    """

    uuid: str
    namespace: int
    policy: str


class Handling:
    """A server's call."""

    def __init__(self, listener: int, notification: Notification, server: Server, directory: Path) -> None:
        """Take a call.

        Args:
            listener: by which it is answered.
            notification: the call.
            server: whose it is.
            directory: where the records of volumes are.
        """
        self._listener, self._call = listener, notification
        self._server, self._directory = server, directory

    def finish(self, *, again: bool, quiet: bool = False) -> bool:
        """Do what it asks for and answer it; say whether that was done.

        Args:
            again: somebody before us may have done it, wholly or by halves, and died.
            quiet: say nothing of a refusal.
        """
        try:
            with callers.opened(self._call.pid) as caller:
                if kernel.is_waiting(self._listener, self._call.cookie):
                    self._do(caller, again=again)
                    return True
                return False
        except Refusal as refusal:
            number, reason = refusal.number, str(refusal)
        except OSError as error:
            number, reason = error.errno or errno.EIO, str(error)
        if not quiet:
            name = errno.errorcode.get(number, str(number))
            sys.stderr.write(f"server {printable(self._server.uuid)}: {name}: {printable(reason)}\n")
        kernel.answer(self._listener, self._call.cookie, number)
        return False

    def _do(self, caller: Caller, *, again: bool) -> None:
        call = self._call
        if call.architecture != kernel.ARCHITECTURE or call.number not in (kernel.MOUNT, kernel.UMOUNT):
            raise Refusal(f"call {call.number} of architecture {call.architecture:#x}", errno.ENOSYS)
        callers.check_root(caller, self._server.namespace)
        standing = callers.Standing(caller)
        if call.number == kernel.UMOUNT:
            place, how = callers.read_text(caller, call.arguments[0]), requests.read_umount(call.arguments[1])
            mounting.unmount(standing, place, how, again=again)
            kernel.answer(self._listener, call.cookie, 0)
            return
        source, target, kind, flags, data = call.arguments[:5]
        words = [callers.read_text(caller, address) for address in (source, target, kind)]
        # A process may give other file systems' options as bytes of any kind: they are none of ours.
        wish = requests.read_mount(words[2], flags, callers.read_text(caller, data))
        if self._server.policy != "kernel":
            raise Refusal(f"the policy {self._server.policy!r}")
        attached = partial(records.attached, self._directory, self._server.uuid)
        try:
            name = mounting.mount(standing, words[0], words[1], wish, attached=attached)
        except FileExistsError:
            if not again:
                raise
            name = b""
        if not kernel.answer(self._listener, call.cookie, 0) and name:
            # Its caller had a signal: it asks again, or never learns that this is there.
            with suppress(OSError, Refusal):
                mounting.unmount_device(standing, name, mounting.device_at(standing, name), kernel.DETACH)


def settle(name: str) -> bool:
    """Have a volume's own devices right: the last mount may have ended without us, or another host have attached it."""
    with loops.locked(name, mounting.LOCK_SECONDS) as volumes:
        if volumes[0].status.label.startswith(loops.VOLUME_LABEL):
            mounting.settle(volumes)
    return True
