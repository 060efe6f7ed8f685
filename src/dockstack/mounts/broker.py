# SPDX-License-Identifier: Apache-2.0
"""The broker: has each call of a server handled in a process of its own, a few at a time, each with a deadline."""

from __future__ import annotations

import argparse
import base64
import errno
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.mounts import exchange, handling, kernel, loops
from dockstack.mounts.handling import Handling, Server
from dockstack.mounts.holder import CONTROL
from dockstack.names import MOUNT_SOCKET, VOLUMES_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 300.0  # e2fsck of a large volume takes minutes
ROUND_SECONDS = 0.25  # while servers have volumes: one that starts again wants its devices whole
IDLE_SECONDS = 2.0
RETRY_SECONDS = 0.1
MOST_AT_ONCE = 16
MOST_MOUNTS = 4  # of them: each may check a file system, which takes memory
MOST_OF_A_SERVER = 1  # mounts, and as many others, so that no umount waits for a check
MOST_LINES = 20  # of refusals in the log, a server and a minute


@dataclass
class Listener:
    """A server's calls: what the holder said of them, and by what they are answered."""

    about: dict[str, Any]
    descriptor: int

    @property
    def server(self) -> Server:
        """Whose they are."""
        return Server(self.about["server"], int(self.about["namespace"]), self.about["policy"])


@dataclass(frozen=True)
class Request:
    """A call that waits; ``again``: an earlier broker was at it."""

    key: str
    notification: kernel.Notification
    again: bool

    @property
    def mounts(self) -> bool:
        """Whether it may take a check of a file system."""
        return self.notification.number == kernel.MOUNT


@dataclass(frozen=True)
class Worker:
    """A process that is at work on a call, or gives a device its size back if there is none.

    Attributes:
        pid: its own.
        watch: readable when it has ended.
        request: the call.
        server: whose.
        deadline: when it has taken too long.
        name: what no other worker may work on.
    """

    pid: int
    watch: int
    request: Request | None
    server: str
    deadline: float
    name: object


class Broker:
    """Answers servers' calls."""

    def __init__(self, directory: Path, records: Path, deadline: float = DEADLINE) -> None:
        """Begin with nothing; the holder gives us what there is.

        Args:
            directory: of the holder's socket.
            records: what servers have.
            deadline: seconds that a call may take.
        """
        self._directory, self._records, self._deadline = directory, records, deadline
        self._epoll = select.epoll()
        self._holder: socket.socket | None = None
        self._sockets: list[int] = []
        self._given: list[int] = []  # to a holder that has not given them back
        self._listeners: dict[str, Listener] = {}
        self._requests: deque[Request] = deque()
        self._workers: dict[int, Worker] = {}
        self._late: set[int] = set()
        self._refusals: Counter[str] = Counter()
        self._minute = 0.0
        self._looked = 0.0

    def run(self) -> None:
        """Work for ever."""
        while True:
            if self._holder is None:
                self._connect()
            self._begin()
            for descriptor, _ in self._epoll.poll(self._pause()):
                if self._holder is not None and descriptor == self._holder.fileno():
                    self._hear()
                elif descriptor in self._workers:
                    self._end(self._workers.pop(descriptor))
                else:
                    self._drop(descriptor)
            self._look_at_the_clock()

    def _pause(self) -> float:
        """Say how long to wait for something to happen before a look at the clock."""
        if self._holder is None:
            return RETRY_SECONDS
        with suppress(FileNotFoundError):
            return ROUND_SECONDS if any(self._records.iterdir()) else IDLE_SECONDS
        return IDLE_SECONDS

    # The holder.

    def _connect(self) -> None:
        """Give the holder what an earlier one had, and ask for what it has."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(self._directory / CONTROL))
            for descriptor in self._sockets:
                exchange.send(connection, {"socket": True}, descriptor)
            for listener in self._listeners.values():
                exchange.send(connection, listener.about, listener.descriptor)
            exchange.send(connection, {"ready": True})
        except OSError:
            connection.close()
            return
        # Its answer shows that it lives: of one that dies, this socket may be the last thing that the kernel closes.
        self._given, self._sockets = self._sockets, []
        self._holder = connection
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _hear(self) -> None:
        if self._holder is None:
            return
        try:
            message, descriptor = exchange.receive(self._holder)
        except (OSError, ValueError):
            self._epoll.unregister(self._holder.fileno())
            self._holder.close()
            self._holder = None
            if not self._sockets:
                self._given, self._sockets = [], self._given
            return
        if descriptor is None:
            self._take(message)
        elif "socket" in message:
            self._sockets.append(descriptor)
            while self._given:
                os.close(self._given.pop())
        elif message["listener"] in self._listeners:
            os.close(descriptor)
        else:
            self._listeners[message["listener"]] = Listener(message, descriptor)
            self._epoll.register(descriptor, 0)  # its end alone: calls are the holder's to take

    def _take(self, message: dict[str, Any]) -> None:
        call = kernel.decode(base64.b64decode(message["notification"]))
        known = [*self._requests, *(worker.request for worker in self._workers.values() if worker.request)]
        if all((one.key, one.notification.cookie) != (message["request"], call.cookie) for one in known):
            self._requests.append(Request(message["request"], call, bool(message["again"])))

    def _drop(self, descriptor: int) -> None:
        """Forget a listener whose server has ended."""
        for key, listener in list(self._listeners.items()):
            if listener.descriptor == descriptor:
                self._epoll.unregister(descriptor)
                os.close(descriptor)
                del self._listeners[key]

    # The workers.

    def _begin(self) -> None:
        """Have as many calls handled as may be, in the order in which they came."""
        waiting, self._requests = self._requests, deque()
        busy = Counter((worker.server, worker.request.mounts) for worker in self._workers.values() if worker.request)
        for request in waiting:
            listener = self._listeners.get(request.key)
            if listener is None:
                continue
            server = listener.server
            kind = server.uuid, request.mounts
            mounts = sum(number for (_, mounting), number in busy.items() if mounting)
            full = len(self._workers) >= MOST_AT_ONCE or (request.mounts and mounts >= MOST_MOUNTS)
            if full or busy[kind] >= MOST_OF_A_SERVER:
                self._requests.append(request)
                continue
            busy[kind] += 1
            work = Handling(listener.descriptor, request.notification, server, self._records)
            quiet = self._refusals[server.uuid] >= MOST_LINES
            do = partial(work.finish, again=request.again, quiet=quiet)
            self._fork(do, request, server.uuid, (request.key, request.notification.cookie))

    def _fork(self, do: Callable[[], object], request: Request | None, server: str, name: object) -> None:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                kernel.end_with_parent(signal.SIGKILL)
                status = 0 if os.getppid() == parent and do() else 1
            except BaseException:  # noqa: BLE001 - the top of a process
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        watch = os.pidfd_open(pid)
        self._workers[watch] = Worker(pid, watch, request, server, time.monotonic() + self._deadline, name)
        self._epoll.register(watch, select.EPOLLIN)

    def _end(self, worker: Worker) -> None:
        self._epoll.unregister(worker.watch)
        os.close(worker.watch)
        self._late.discard(worker.pid)
        _, status = os.waitpid(worker.pid, 0)
        if worker.request is None:
            return
        if status:
            self._refusals[worker.server] += 1
        self._answer(worker.request, errno.EIO)  # in vain, if it has its answer

    def _answer(self, request: Request, error: int) -> None:
        listener = self._listeners.get(request.key)
        if listener is not None:
            kernel.answer(listener.descriptor, request.notification.cookie, error)

    def _look_at_the_clock(self) -> None:
        """End what takes too long, and undo what servers left that ended with something mounted."""
        now = time.monotonic()
        for worker in self._workers.values():
            if now > worker.deadline and worker.pid not in self._late:
                self._late.add(worker.pid)  # the kernel may not let it go
                os.kill(worker.pid, signal.SIGKILL)
                if worker.request is not None:
                    sys.stderr.write(f"server {worker.server}: took longer than {self._deadline} s\n")
                    self._answer(worker.request, errno.ETIMEDOUT)
        if now - self._minute > 60:  # noqa: PLR2004 - a minute
            self._minute = now
            self._refusals.clear()
        if now - self._looked >= ROUND_SECONDS:
            self._looked = now
            busy = {worker.name for worker in self._workers.values()}
            for name in loops.unsettled_volumes():
                if name not in busy:
                    self._fork(partial(handling.settle, name), None, "", name)


def main() -> None:
    """Be the broker: the console script ``dockstack-mount-broker``."""
    parser = argparse.ArgumentParser(description="Mount volumes' file systems into servers that ask for it.")
    parser.add_argument(
        "--directory", type=Path, default=MOUNT_SOCKET.parent, help="of the holder's sockets (default: %(default)s)"
    )
    parser.add_argument(
        "--records", type=Path, default=VOLUMES_DIRECTORY, help="of which volumes servers have (default: %(default)s)"
    )
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="seconds that one mount may take (default: %(default)s)"
    )
    options = parser.parse_args()
    Broker(options.directory, options.records, options.deadline).run()


if __name__ == "__main__":
    main()
