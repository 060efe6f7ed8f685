# SPDX-License-Identifier: Apache-2.0
"""Stands for a service that the fork server makes (fork_server.py): runs in its place, and ends with it.

    fork_shim.py SOCKET COMMAND...

Its supervisor starts, signals and awaits this process, which passes on signals and takes over the status of its end. If
it is killed, the kernel kills the service (fork_server.py:die_with). If nobody answers at the socket, it becomes the
command itself, so that nothing needs a fork server.

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
PATIENCE = 60.0  # seconds for the fork server to have imported all
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


def main() -> None:
    """Have the service forked, and stand for it."""
    place, *command = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lifeline = ask(connection, place, command)
        service = awaited(connection)
    except OSError:
        service = None
    if service is None:
        os.execv(command[0], command)  # noqa: S606 - all that is open here closes with it
    for number in PASSED_ON:
        signal.signal(number, lambda which, _: pass_on(service, which))
    poll = select.poll()
    poll.register(service)
    poll.poll()
    end_with(status_of(connection))
    os.close(lifeline)  # it was open until here


def ask(connection: socket.socket, place: str, command: list[str]) -> int:
    """Ask for a process like this one; return the descriptor that must stay open for as long as it shall live."""
    connection.settimeout(PATIENCE)
    connection.connect(place)
    lost, lifeline = os.pipe()
    own = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("mnt", "net")]
    umask = os.umask(0)
    os.umask(umask)
    environment = [name + b"=" + value for name, value in os.environb.items()]
    words = [str(umask), os.getcwd(), str(len(command)), *command]  # noqa: PTH109
    data = b"\0".join((*map(os.fsencode, words), *environment))
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, *own, lost))
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    connection.sendall(data[sent:])
    connection.shutdown(socket.SHUT_WR)
    for number in (*own, lost):
        os.close(number)
    return lifeline


def awaited(connection: socket.socket) -> int | None:
    """Return a descriptor of the service's process; None if it has failed before it was like this one."""
    data, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
    if not ancillary:
        return None
    with open("/proc/self/comm", "wb") as name:  # noqa: PTH123 - pathlib is twice this program's size
        name.write(NAME + data)
    return int.from_bytes(ancillary[0][2][:4], sys.byteorder)


def pass_on(service: int, number: int) -> None:
    """Send the service a signal, unless it has ended."""
    try:
        signal.pidfd_send_signal(service, number)
    except ProcessLookupError:
        return


def status_of(connection: socket.socket) -> int:
    """Return the service's wait status, as the fork server tells it; a failure if that has ended, too."""
    try:
        data = connection.recv(4)
    except OSError:
        data = b""
    return int.from_bytes(data, sys.byteorder) if data else 1 << 8


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
