# SPDX-License-Identifier: Apache-2.0
"""Python services share what they import: each is forked from a process that has imported it; runs as root.

Apart, each of them has a hundred MiB of modules to itself, and takes a second of a processor to import them. Here one
process imports what all use, and forks one for each family of services, which imports that family's own. Nobody else
may be told by their memory: they have no threads, have read no configuration, and hold no secret.

A service's start comes from a shim (fork_shim.py), which its supervisor has started as the service: with its user,
environment, limits and namespaces. The kernel says whose the shim is, and what it sends was opened by itself: the
forked process gets no right that the shim does not have. Then it does as ``python`` would with the shim's command.

If anything fails before that, the shim becomes the service itself. If this process ends, the services go on.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMON = "common"
"""The family of those that have nothing more in common than all have."""

# A module that is missing, as another release may have it elsewhere, is left to the services. None of these starts a
# thread, none makes Nova refuse to run on native threads by importing eventlet (see _Refusal), and none reads while it
# is imported an option that we set: Nova's managers do, so each service imports its own.
FAMILIES: dict[str, tuple[str, ...]] = {
    COMMON: (
        "asyncio",
        "alembic",
        "cryptography.fernet",
        "cryptography.x509",
        "dogpile.cache",
        "jsonschema",
        "keystoneauth1.identity",
        "keystoneauth1.loading",
        "keystonemiddleware.auth_token",
        "kombu.transport.pyamqp",
        "microversion_parse",
        "netaddr",
        "oslo_cache.core",
        "oslo_concurrency.processutils",
        "oslo_db.sqlalchemy.enginefacade",
        "oslo_db.sqlalchemy.models",
        "oslo_limit.limit",
        "oslo_log.log",
        "oslo_middleware",
        "oslo_policy.policy",
        "oslo_privsep.daemon",
        "oslo_reports.guru_meditation_report",
        "osprofiler.sqlalchemy",
        "osprofiler.web",
        "paste.deploy",
        "paste.urlmap",
        "pymemcache",
        "pymysql",
        "routes.middleware",
        "sqlalchemy.dialects.mysql.pymysql",
        "sqlalchemy.orm",
        "webob",
    ),
    "nova": (
        "nova.cmd.conductor",
        "oslo_messaging._drivers.impl_rabbit",
        "nova.cmd.scheduler",
        "nova.cmd.compute",
        "nova.conductor.manager",
        "nova.api.metadata.handler",
        "nova.api.openstack.compute",
        "nova.api.openstack.wsgi_app",
        "nova.db.api.models",
        "nova.db.main.models",
        "nova.virt.docker",
    ),
    "neutron": (
        "neutron.cmd.agents.ovn_neutron_agent",
        "oslo_messaging._drivers.impl_rabbit",
        "neutron.cmd.server",
        "neutron.api.v2.router",
        "neutron.agent.ovn.extensions.metadata",
        "neutron.plugins.ml2.plugin",
        "neutron.plugins.ml2.drivers.ovn.mech_driver.mech_driver",
        "neutron.privileged",
        "neutron.services.ovn_l3.plugin",
    ),
}

ROOM = 8192
"""Bytes for the names and environments that forked processes show in /proc."""

WAITING = 128
LONGEST_REQUEST, FILES = 256 * 1024, 6
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
SO_PEERGROUPS, MOST_GROUPS = 59, 255
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
LIMITS = {
    "Max address space": resource.RLIMIT_AS,
    "Max core file size": resource.RLIMIT_CORE,
    "Max data size": resource.RLIMIT_DATA,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max processes": resource.RLIMIT_NPROC,
}
"""By their names in /proc: prlimit(2) would need a right that root in a container may not have."""
ENVIRONMENT_PLACE = slice(47, 49)  # of its addresses, after the name (proc(5), stat)
_libc = ctypes.CDLL(None, use_errno=True)


class Request(NamedTuple):
    """What a shim was started with.

    Attributes:
        umask: of the shim.
        directory: its working directory.
        command: an argument list: a script, or a Python with its arguments.
        environment: assignments.
        files: standard input, output and error, its mounts, its network, and a pipe that ends with it.
    """

    umask: int
    directory: str
    command: list[str]
    environment: list[bytes]
    files: tuple[int, ...]


def main() -> None:
    """Serve all families; in a forked process, be the service."""
    _make_room()
    directory = sys.argv[1]
    sys.path.pop(0)  # our scripts' place, which belongs to no service
    # The first one last: who finds it there finds all.
    listeners = {family: _listen(f"{directory}/{family}.sock") for family in reversed(FAMILIES)}
    gc.disable()  # the collector writes to each object that it looks at, and so copies what is shared
    with _Refusal():
        load(FAMILIES[COMMON])
    gc.freeze()
    _entitle("dockstack fork server")
    for family, listener in listeners.items():
        if os.fork() == 0:
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
            for other in listeners.values():
                if other is not listener:
                    other.close()
            command = serve(family, listener)
            run(command)
            return
    os.wait()  # none of them ends by itself: begin anew, together
    sys.exit(1)


class _Refusal:
    """Lets nobody import eventlet: Nova runs on native threads only where nobody has."""

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> None:
        """Refuse it, as Nova does (nova/monkey_patch.py:poison_eventlet)."""
        if name.partition(".")[0] == "eventlet":
            raise ImportError(name)


def load(modules: Iterable[str]) -> None:
    """Import what there is of these modules."""
    for name in modules:
        try:
            with warnings.catch_warnings(action="ignore"):
                importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the service that needs it says so
            print(f"Not shared: {name}: {error!r}", flush=True)


def serve(family: str, listener: socket.socket) -> list[str]:
    """Fork for each shim; return in a forked process only, with its command.

    Raises:
        RuntimeError: a module has started a thread, which a fork would lose.
    """
    if family != COMMON:
        load(FAMILIES[family])
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - a count
        raise RuntimeError(f"a module of {family} has started a thread")
    _entitle(f"dockstack fork server: {family}")
    gc.freeze()
    poll = select.poll()
    poll.register(listener)
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for ready, _ in poll.poll():
            if ready == listener.fileno():
                connection, _ = listener.accept()
                pid = os.fork()
                if pid == 0:
                    listener.close()
                    for other, (_, foreign) in running.items():
                        os.close(other)
                        foreign.close()
                    return become(connection)
                descriptor = os.pidfd_open(pid)
                running[descriptor] = pid, connection
                poll.register(descriptor)
            else:
                poll.unregister(ready)
                os.close(ready)
                pid, connection = running.pop(ready)
                _, status = os.waitpid(pid, 0)
                with connection, suppress(OSError):  # its shim may be gone
                    connection.send(struct.pack("i", status), socket.MSG_DONTWAIT)


def become(connection: socket.socket) -> list[str]:
    """Be in all respects what the shim is, tell it who this is, and return its command."""
    shim, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    request = receive(connection)
    *standard, mounts, network, lifeline = request.files
    os.setsid()
    _join_control_groups(shim)
    _take_limits(shim)
    for descriptor, kind, name in ((mounts, CLONE_NEWNS, "mnt"), (network, CLONE_NEWNET, "net")):
        if not os.path.samestat(os.fstat(descriptor), os.stat(f"/proc/self/ns/{name}")):  # noqa: PTH116
            _call("setns", descriptor, kind)
        os.close(descriptor)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.setgroups(_peer_groups(connection))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _call("prctl", PR_SET_DUMPABLE, 1)  # as after any exec: else its own files in /proc are root's
    os.chdir(request.directory)
    os.umask(request.umask)
    _show_environment(request.environment)
    _entitle(" ".join(request.command))
    die_with(lifeline)
    descriptor = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [str(os.getpid()).encode()], [descriptor])
    os.close(descriptor)
    connection.close()
    return request.command


def receive(connection: socket.socket) -> Request:
    """Read a request.

    Raises:
        SystemExit: there is none: somebody looked whether this server answers.
        ValueError: it is no request.
    """
    connection.settimeout(10)
    data, files, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, FILES)
    while more := connection.recv(LONGEST_REQUEST):
        data += more
    connection.settimeout(None)
    if not data:
        sys.exit()
    umask, directory, count, *words = data.split(b"\0")
    if len(files) != FILES:
        raise ValueError("not a request of a shim")
    return Request(
        umask=int(umask),
        directory=os.fsdecode(directory),
        command=[os.fsdecode(word) for word in words[: int(count)]],
        environment=words[int(count) :],
        files=tuple(files),
    )


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed, which is when its shim has ended."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        if not os.read(lifeline, 1):  # it ended before
            os.kill(os.getpid(), signal.SIGKILL)


def run(command: Sequence[str]) -> None:
    """Do as a Python that was started with this command, and return when its program does."""
    gc.enable()
    arguments = list(command[1:]) if Path(command[0]).name.startswith("python") else list(command)
    if arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Python does
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(arguments[0]))  # noqa: PTH120 - likewise
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _listen(path: str) -> socket.socket:
    """Listen before anything is imported: shims that come early wait. Whom they find there answers at once."""
    new = Path(f"{path}.new")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(new))
    new.chmod(0o666)  # its directory says who may come near
    listener.listen(WAITING)
    new.rename(path)
    return listener


def _make_room() -> None:
    """Begin anew with arguments and an environment that are long enough to be written over."""
    if "DOCKSTACK_ROOM" not in os.environ:
        room = {**os.environ, "SPT_NOENV": "1", "DOCKSTACK_ROOM": "." * ROOM}
        os.execve(sys.executable, [sys.executable, *sys.argv, "." * ROOM], room)  # noqa: S606 - nothing of a stranger's


def _show_environment(assignments: Iterable[bytes]) -> None:
    """Take an environment, and show it where others look for the mark of a service (/proc/PID/environ)."""
    place = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[ENVIRONMENT_PLACE]
    start, end = (int(each) for each in place)
    os.environb.clear()  # nobody may point there when it changes
    shown = b"\0".join(assignments)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, shown, len(shown))
    for each in assignments:
        name, _, value = each.partition(b"=")
        os.environb[name] = value


def _entitle(title: str) -> None:
    """Show what this is in lists of processes."""
    with suppress(ImportError):
        from setproctitle import setproctitle  # noqa: PLC0415 - not each release has it

        setproctitle(title)


def _peer_groups(connection: socket.socket) -> list[int]:
    data = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MOST_GROUPS)
    return list(struct.unpack(f"{len(data) // 4}I", data))


def _join_control_groups(shim: int) -> None:
    """Be counted with the shim, where a supervisor keeps each service's processes in a group."""
    own = set(Path("/proc/self/cgroup").read_text().splitlines())
    for line in Path(f"/proc/{shim}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if line not in own:
            root = Path("/sys/fs/cgroup") / controllers.removeprefix("name=")
            if not controllers and (root / "unified").is_dir():  # version 2 beside version 1
                root /= "unified"
            (root / path.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


def _take_limits(shim: int) -> None:
    for line in Path(f"/proc/{shim}/limits").read_text().splitlines():
        name, values = line[:26].rstrip(), line[26:].split()
        if name in LIMITS:
            soft, hard = (resource.RLIM_INFINITY if each == "unlimited" else int(each) for each in values[:2])
            resource.setrlimit(LIMITS[name], (soft, hard))


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
