# SPDX-License-Identifier: Apache-2.0
"""What must not die keeps what cannot be had again: the socket that runtimes connect to, and servers' listeners.

While nobody listens at that socket no server starts and nobody gets in, and a listener that is closed leaves its
server without mount(2) for as long as it runs. So this process does next to nothing: it takes listeners in, takes calls
off them, and hands both to the broker, whichever runs. A broker that was killed finds every call that was not answered
yet; and a holder that was killed gets all of it back from the broker, which has copies. One that is asked to end while
servers need it leaves a child that goes on alone, until the next holder has taken all of it over.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.mounts import exchange, kernel
from dockstack.names import MOUNT_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL = "holder.sock"
_WAIT_SECONDS = 1.0  # that a broker has to give back what an earlier holder had
_SEND_SECONDS = 5.0
_FULL_SECONDS = 0.1  # between tries to take somebody in while no descriptor is free
_BACKLOG = 4096


@dataclass
class Listener:
    """A server's calls.

    Attributes:
        about: what the broker must know of it: server, namespace, policy.
        descriptor: seccomp's.
        waiting: calls that may not be answered yet, by cookie.
    """

    about: dict[str, Any]
    descriptor: int
    waiting: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Runtime:
    """One that connected, and what it said so far."""

    connection: socket.socket
    text: bytes = b""
    descriptors: list[int] = field(default_factory=list)


class Holder:
    """Keeps, and hands on."""

    def __init__(self, directory: Path) -> None:
        """Listen for a broker.

        Args:
            directory: of the sockets, root's alone.
        """
        self._directory = directory
        self._epoll = select.epoll()
        self._doing: dict[int, Callable[[int], None]] = {}
        self._listeners: dict[str, Listener] = {}
        self._sockets: list[socket.socket] = []
        self._broker: socket.socket | None = None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        former = _reach(directory / CONTROL)
        if former is not None:
            self._inherit(former)
        self._control = _listen(directory / CONTROL, socket.SOCK_SEQPACKET)
        if former is not None:
            with suppress(OSError):
                exchange.send(former, {"taken": True})
            former.close()
        self._watch(self._control.fileno(), lambda _: self._accept_broker())

    def run(self) -> None:
        """Work for ever."""
        signal.signal(signal.SIGTERM, lambda *_: self._go_on_alone())
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._sockets and time.monotonic() < deadline:
            self.turn(deadline - time.monotonic())
        if not self._sockets:
            self._add_socket(_listen(self._directory / MOUNT_SOCKET.name, socket.SOCK_STREAM))
        while True:
            self.turn(None)

    def turn(self, seconds: float | None) -> None:
        """Wait for something to do, and do it."""
        for descriptor, events in self._epoll.poll(seconds):
            do = self._doing.get(descriptor)
            if do is not None:
                do(events)

    def _watch(self, descriptor: int, do: Callable[[int], None]) -> None:
        self._doing[descriptor] = do
        self._epoll.register(descriptor, select.EPOLLIN)

    def _forget(self, descriptor: int) -> None:
        del self._doing[descriptor]
        self._epoll.unregister(descriptor)

    # The holders before and after this one.

    def _inherit(self, former: socket.socket) -> None:
        """Take over from a holder what it has; it does nothing more meanwhile, and goes on if we end."""
        try:
            exchange.send(former, {"heir": True})
            while "all" not in (told := exchange.receive(former))[0]:
                message, descriptor = told
                if descriptor is not None:
                    self._keep(message, descriptor)
                elif message["request"] in self._listeners:
                    notification = base64.b64decode(message["notification"])
                    waiting = self._listeners[message["request"]].waiting
                    waiting[kernel.decode(notification).cookie] = notification
        except (OSError, ValueError) as error:
            sys.stderr.write(f"the former holder has not given all that it had: {error}\n")

    def _bequeath(self, heir: socket.socket) -> None:
        """Give a new holder everything, and end once it has it."""
        self._tell_everything()
        self._tell({"all": True})
        with suppress(OSError, ValueError):
            if "taken" in exchange.receive(heir)[0]:
                raise SystemExit
        self._drop_broker()

    def _go_on_alone(self) -> None:
        """End as asked; while servers need what is here, a child keeps it that nobody supervises."""
        if not self._listeners or os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # whoever reads them may end
            os.dup2(null, stream)

    # The runtimes.

    def _keep(self, message: dict[str, Any], descriptor: int) -> None:
        if "listener" in message:
            self._add_listener(message, descriptor)
        else:
            self._add_socket(socket.socket(fileno=descriptor))

    def _add_socket(self, found: socket.socket) -> None:
        """Accept runtimes at a socket; once, as a second one of the same would wait for who was accepted already."""
        same = os.fstat(found.fileno()).st_ino
        if any(os.fstat(known.fileno()).st_ino == same for known in self._sockets):
            found.close()
            return
        self._sockets.append(found)
        self._watch(found.fileno(), lambda _: self._accept_runtime(found))
        self._tell({"socket": True}, found.fileno())

    def _accept_runtime(self, found: socket.socket) -> None:
        """Take in what a runtime says of a container that starts, or of a process that goes into one."""
        connection = _accept(found)
        if connection is not None:
            connection.setblocking(False)
            said = Runtime(connection)
            self._watch(connection.fileno(), lambda _: self._hear_runtime(said))
            self._hear_runtime(said)  # mostly it has said all already

    def _hear_runtime(self, said: Runtime) -> None:
        """Read what there is; one that is slow, or says nothing, keeps nobody waiting."""
        try:
            while True:
                part, descriptor = exchange.receive_bytes(said.connection)
                if descriptor is not None:
                    said.descriptors.append(descriptor)
                if not part:
                    break
                said.text += part
        except BlockingIOError:
            return
        except OSError as error:
            sys.stderr.write(f"a runtime: {error}\n")
        self._forget(said.connection.fileno())
        said.connection.close()
        try:
            about = read_state(said.text)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            sys.stderr.write(f"a runtime says what nobody understands: {error!r}\n")
        else:
            if said.descriptors:
                self._add_listener({"listener": str(uuid.uuid4()), **about}, said.descriptors.pop(0))
        for descriptor in said.descriptors:
            os.close(descriptor)

    # The listeners.

    def _add_listener(self, about: dict[str, Any], descriptor: int) -> None:
        key = about["listener"]
        if key in self._listeners:
            os.close(descriptor)
            return
        self._listeners[key] = Listener(about, descriptor)
        self._watch(descriptor, lambda events: self._hear(key, events))
        self._tell(about, descriptor)

    def _hear(self, key: str, events: int) -> None:
        """Take a call off a listener; with the last process of its server it ends."""
        listener = self._listeners[key]
        if events & select.EPOLLIN:
            try:
                notification = kernel.receive(listener.descriptor)
            except OSError as error:
                sys.stderr.write(f"a listener that is none: {error}\n")
                self._drop_listener(key)
                return
            if notification is not None:
                _prune(listener)
                listener.waiting[kernel.decode(notification).cookie] = notification
                self._tell(_request(key, notification, again=False))
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self._drop_listener(key)

    def _drop_listener(self, key: str) -> None:
        listener = self._listeners.pop(key)
        self._forget(listener.descriptor)
        os.close(listener.descriptor)

    # The broker.

    def _accept_broker(self) -> None:
        connection = _accept(self._control)
        if connection is None:
            return
        connection.settimeout(_SEND_SECONDS)
        self._drop_broker()
        self._broker = connection
        self._watch(connection.fileno(), lambda _: self._hear_broker(connection))

    def _hear_broker(self, connection: socket.socket) -> None:
        """Take back what a broker has, and give it what is here once it has said all."""
        try:
            message, descriptor = exchange.receive(connection)
        except (OSError, ValueError):
            self._drop_broker()
            return
        if descriptor is not None:
            self._keep(message, descriptor)
        elif "ready" in message:
            self._tell_everything()
        elif "heir" in message:
            self._bequeath(connection)

    def _tell_everything(self) -> None:
        for found in self._sockets:
            self._tell({"socket": True}, found.fileno())
        for listener in self._listeners.values():
            self._tell(listener.about, listener.descriptor)
        for key, listener in self._listeners.items():
            _prune(listener)
            for notification in listener.waiting.values():
                self._tell(_request(key, notification, again=True))

    def _tell(self, message: dict[str, Any], descriptor: int | None = None) -> None:
        """Tell the broker; one that is not there is told all of it when it comes."""
        if self._broker is None:
            return
        try:
            exchange.send(self._broker, message, descriptor)
        except OSError:
            self._drop_broker()

    def _drop_broker(self) -> None:
        if self._broker is not None:
            self._forget(self._broker.fileno())
            self._broker.close()
            self._broker = None


def read_state(text: bytes) -> dict[str, Any]:
    """Read what a runtime sends along with a listener (OCI: "container process state").

    Raises:
        ValueError: it is something else; KeyError, TypeError likewise.
        OSError: the container is gone.
    """
    said = json.loads(text)
    metadata = json.loads(said["metadata"])
    namespace = Path("/proc", str(int(said["state"]["pid"])), "ns/mnt").stat().st_ino
    return {"server": str(metadata["server"]), "policy": str(metadata["policy"]), "namespace": namespace}


def _request(key: str, notification: bytes, *, again: bool) -> dict[str, Any]:
    return {"request": key, "notification": base64.b64encode(notification).decode(), "again": again}


def _prune(listener: Listener) -> None:
    """Forget the calls that have their answer."""
    for cookie in list(listener.waiting):
        if not kernel.is_waiting(listener.descriptor, cookie):
            del listener.waiting[cookie]


def _accept(listening: socket.socket) -> socket.socket | None:
    """Accept whoever connects; none if he is gone again, or no descriptor is free."""
    try:
        return listening.accept()[0]
    except OSError as error:
        sys.stderr.write(f"nobody is taken in: {error}\n")
        time.sleep(_FULL_SECONDS)
        return None


def _reach(path: Path) -> socket.socket | None:
    """Connect to a holder that goes on alone; none if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(_SEND_SECONDS)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def _listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Listen at a path, in place of whoever did before."""
    fresh = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    listening = socket.socket(socket.AF_UNIX, kind)
    listening.bind(str(fresh))
    fresh.chmod(0o600)
    listening.listen(_BACKLOG)
    fresh.rename(path)
    return listening


def main() -> None:
    """Be the holder: the console script ``dockstack-mount-holder``."""
    parser = argparse.ArgumentParser(description="Keep what servers' mounts need while the broker is away.")
    parser.add_argument(
        "--directory", type=Path, default=MOUNT_SOCKET.parent, help="of its sockets (default: %(default)s)"
    )
    Holder(parser.parse_args().directory).run()


if __name__ == "__main__":
    main()
