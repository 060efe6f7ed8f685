# SPDX-License-Identifier: Apache-2.0
"""Stands for a service that the fork server makes (fork_server.py): runs in its place, and ends with it.

    fork_shim.py SOCKET COMMAND...

Its supervisor starts it as root, and signals and awaits it; it passes on signals and takes over the status of its end.
If it is killed, the kernel kills the service (fork_server.py:die_with). If nobody answers at the socket, it says so and
becomes the command itself, which changes to the service's user, so that nothing needs a fork server.

There is one for each service, so it imports only what is built into Python; ``signal`` is three times the size of what
it is made of. Its name in lists of processes says for which process it stands, and by that name one finds the service's
processes (dockstack/deploy/node/processes.py).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import os
import select
import sys

NAME = b"forked:"
LOADED = ".loaded"
"""Ends the name of the file that is there once the family at a socket has imported all (fork_server.py)."""

LOADING, ANSWERING = 45.0, 15.0
"""Seconds for a family to import all and answer, and to answer when it has; a start of a service may take 90."""

TELLING = 5.0  # seconds for the status of a service that has ended
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
ENDING = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


def main() -> None:
    """Have the service forked, and stand for it."""
    place, *command = sys.argv[1:] or [""]
    if not (place.startswith("/") and command and command[0].startswith("/")):
        sys.exit("Usage: fork_shim.py SOCKET COMMAND..., both by absolute paths.")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    passed_on: set[int] = set()
    try:
        lifeline = ask(connection, place, command)
        name, service = awaited(connection)
        for number in PASSED_ON:
            signal.signal(number, lambda which, _: pass_on(service, which, passed_on))
        stand_for(name)
        connection.sendall(b"\0")
    except OSError as error:
        if passed_on & ENDING:
            sys.exit()
        sys.stderr.write(f"Not forked ({error}): {' '.join(command)}\n")
        sys.stderr.flush()
        os.execv(command[0], command)  # noqa: S606 - all that is open here closes with it
    poll = select.poll()
    poll.register(service)
    poll.poll()
    end_with(status_of(connection, passed_on))
    os.close(lifeline)  # it was open until here


def ask(connection: socket.socket, place: str, command: list[str]) -> int:
    """Ask for a process like this one; return the descriptor that must stay open for as long as it shall live."""
    connection.settimeout(ANSWERING if os.access(place + LOADED, os.F_OK) else LOADING)
    connection.connect(place)
    lost, lifeline = os.pipe()
    umask = os.umask(0)
    os.umask(umask)
    environment = [name + b"=" + value for name, value in os.environb.items()]
    words = [str(umask), os.getcwd(), str(len(command)), *command]  # noqa: PTH109
    data = b"\0".join((*map(os.fsencode, words), *environment))
    data = len(data).to_bytes(4, sys.byteorder) + data
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, lost))
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    connection.sendall(data[sent:])
    os.close(lost)
    return lifeline


def awaited(connection: socket.socket) -> tuple[bytes, int]:
    """Return the pid of the service's process, and a descriptor of it.

    Raises:
        OSError: it has failed before it was like this one.
    """
    data, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
    if not ancillary:
        raise OSError("the fork server could not, and its log says why")
    service = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
    os.set_inheritable(service, False)
    return data, service


def stand_for(pid: bytes) -> None:
    """Say in the name of this process for which other it stands."""
    with open("/proc/self/comm", "wb") as name:  # noqa: PTH123 - pathlib is twice this program's size
        name.write(NAME + pid)


def pass_on(service: int, number: int, passed_on: set[int]) -> None:
    """Send the service a signal, unless it has ended."""
    passed_on.add(number)
    try:
        signal.pidfd_send_signal(service, number)
    except ProcessLookupError:
        return


def status_of(connection: socket.socket, passed_on: set[int]) -> int:
    """Return the service's wait status, as the fork server tells it.

    If nobody can tell, one that was asked to end has done so, and another has failed.
    """
    connection.settimeout(TELLING)
    try:
        data = connection.recv(4)
    except OSError:
        data = b""
    if data:
        return int.from_bytes(data, sys.byteorder)
    return 0 if passed_on & ENDING else 1 << 8


def end_with(status: int) -> None:
    """End as the service did."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
