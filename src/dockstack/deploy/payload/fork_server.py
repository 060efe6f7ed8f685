# SPDX-License-Identifier: Apache-2.0
"""Python services share what they import: each is forked from a process that has imported it; runs as root.

Apart, each of them has a hundred MiB of modules to itself, and takes a second of a processor to import them. Here one
process imports what all use, and forks one for each family of services, which imports that family's own. Nobody else
may be told by their memory: they have no threads, have read no configuration, and hold no secret.

A service's start comes from a shim (fork_shim.py), which its supervisor has started as root in the service's place, and
which sends the whole command, as root would run it: into a host's namespaces, with a limit, as the service's user. The
forked process does what these programs would do, and then what ``python`` would. Root alone may ask, so nobody gets a
process here who could not have started it.

If anything fails before that, the shim becomes the command itself. If this process ends, the services go on.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import grp
import importlib
import os
import pwd
import re
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import time
import warnings
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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

MARK = b"DOCKSTACK_SERVICE="
"""By this variable one finds a service's processes, so it is shown whatever else there is no room for."""

WAITING = 128
MOST_AT_ONCE, DEADLINE = 64, 10
"""So many processes may be forked within the seconds that each has to become a service."""

REST = 1.0  # seconds until the next try where there are no descriptors, or no processes, for one more
LONGEST_REQUEST, FILES = 256 * 1024, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
NAMESPACES = {"mnt": 0x00020000, "net": 0x40000000}
LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max file locks": 10,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}
"""By their names in /proc: prlimit(2) would need a right that root in a container may not have."""
SAME = ("Uid", "Gid", "Groups", "CapInh", "CapAmb", "Seccomp", "Seccomp_filters")
"""What a process cannot take over from another, or need not, so that a shim must have it as this server does."""
WRAPPERS = {"nsenter", "setpriv", "prlimit"}
OPTIONS = {"net", "mount", "reuid", "regid", "groups", "init-groups", "data"}
"""The programs that root puts before a service's own, and those of their options that are understood here."""

ENVIRONMENT_PLACE = slice(47, 49)  # of its addresses, after the name (proc(5), stat)
_libc = ctypes.CDLL(None, use_errno=True)


class Request(NamedTuple):
    """What a shim was started with.

    Attributes:
        umask: of the shim.
        directory: its working directory.
        command: an argument list: a script, or a Python with its arguments, behind programs that set a process up.
        environment: assignments.
        files: standard input, output and error, and a pipe that ends with it.
    """

    umask: int
    directory: str
    command: list[str]
    environment: list[bytes]
    files: tuple[int, ...]


class Setting(NamedTuple):
    """What the programs before a command would set up.

    Attributes:
        namespaces: descriptors of those to enter.
        uid: the user to become, if it is another one.
        gid: its group.
        groups: its further groups.
        data: the limit of its memory, in bytes.
    """

    namespaces: dict[str, int]
    uid: int | None
    gid: int
    groups: list[int]
    data: int | None


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
    parent = os.getpid()
    for family, listener in listeners.items():
        if os.fork() == 0:
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                return  # it has ended before
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
    loaded_marker(listener.getsockname().removesuffix(NEW)).touch()
    return become(Family(listener).forked())


class Family:
    """The process of a family: forks for each shim, and tells it how its process has ended."""

    def __init__(self, listener: socket.socket) -> None:
        """Serve this listener."""
        self._listener = listener
        self._children: dict[int, socket.socket] = {}
        self._recent: deque[float] = deque(maxlen=MOST_AT_ONCE)
        self._rest_until = 0.0
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._waking, False)

    def forked(self) -> socket.socket:
        """Return in a forked process only, with the connection of its shim."""
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            rest = max(0.0, self._rest_until - time.monotonic())
            waiting = [self._woken, *([] if rest else [self._listener.fileno()])]
            ready, _, _ = select.select(waiting, [], [], rest or None)
            if self._woken in ready:
                os.read(self._woken, 512)
                self._bury()
            elif ready and (connection := self._accept()) is not None:
                return connection

    def _accept(self) -> socket.socket | None:
        """Fork for who has come, if it is root; whatever is lacking for that, the family goes on."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            self._rest(REST, f"nobody can come in: {error}")
            return None
        if peer(connection)[1] != 0:
            connection.close()
            return None
        try:
            pid = os.fork()
        except OSError as error:
            connection.close()
            self._rest(REST, f"nothing can be forked: {error}")
            return None
        if pid == 0:
            signal.alarm(DEADLINE)
            self._leave()
            return connection
        self._children[pid] = connection
        now = time.monotonic()
        if len(self._recent) == MOST_AT_ONCE and self._recent[0] + DEADLINE > now:
            self._rest(self._recent[0] + DEADLINE - now, "too many come at once")
        self._recent.append(now)
        return None

    def _rest(self, seconds: float, reason: str) -> None:
        print(f"The next may come in {seconds:.0f} s: {reason}", flush=True)
        self._rest_until = time.monotonic() + seconds

    def _leave(self) -> None:
        """In a forked process: have nothing of the family's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._listener.close()
        os.close(self._woken)
        os.close(self._waking)
        for foreign in self._children.values():
            foreign.close()

    def _bury(self) -> None:
        """Take the status of all that have ended; one that a tracer holds is told of again when that lets it go."""
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._children.pop(pid) as connection, suppress(OSError):  # its shim may be gone
                connection.send(struct.pack("i", status), socket.MSG_DONTWAIT)


def become(connection: socket.socket) -> list[str]:
    """Be in all respects what the shim's command would be, tell the shim who this is, and return the command.

    Raises:
        ValueError: this process cannot be what is wanted; the shim can.
    """
    shim, _, _ = peer(connection)
    request = receive(connection)
    *standard, lifeline = request.files
    command, options = unwrapped(request.command)
    _refuse_unrunnable(command)
    setting = understood(options)
    status = _status(shim)
    _refuse_different(shim, status, setting)
    os.setsid()
    _join_control_groups(shim)
    _take_over(shim, status)
    if setting.data is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (setting.data, setting.data))
    _enter(setting.namespaces)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request.directory)
    os.umask(request.umask)
    os.set_inheritable(lifeline, False)
    die_with(lifeline)
    descriptor = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [str(os.getpid()).encode()], [descriptor])
    os.close(descriptor)
    if not connection.recv(1):  # the shim has ended, or is the service itself
        sys.exit("the shim did not wait")
    connection.close()
    signal.alarm(0)
    # The user's other processes may trace this one from here on: nothing is said to the shim any more, which is root's.
    if setting.uid is not None:
        os.setgroups(setting.groups)
        os.setresgid(setting.gid, setting.gid, setting.gid)
        os.setresuid(setting.uid, setting.uid, setting.uid)
    _call("prctl", PR_SET_DUMPABLE, 1)  # as after any exec: else its own files in /proc are root's
    # From here on it is found as the service's, so not before the shim stands for it.
    _show_environment(request.environment)
    _entitle(" ".join(command))
    _be_another()
    return command


def peer(connection: socket.socket) -> tuple[int, int, int]:
    """Return who is at the other end, as the kernel says: process, user and group."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def receive(connection: socket.socket) -> Request:
    """Read a request.

    Raises:
        SystemExit: there is none: somebody looked whether this server answers.
        ValueError: it is no request.
    """
    data, files, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, FILES)
    if not data:
        sys.exit()
    size, data = int.from_bytes(data[:4], sys.byteorder), data[4:]
    while len(data) < size <= LONGEST_REQUEST and (more := connection.recv(size - len(data))):
        data += more
    if len(data) != size or len(files) != FILES:
        raise ValueError("not a request of a shim")
    umask, directory, count, *words = data.split(b"\0")
    return Request(
        umask=int(umask),
        directory=os.fsdecode(directory),
        command=[os.fsdecode(word) for word in words[: int(count)]],
        environment=words[int(count) :],
        files=tuple(files),
    )


def unwrapped(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return a command, and the options of the programs before it, each of which becomes the next.

    Raises:
        ValueError: an option that is not understood.
    """
    left, options = list(words), {}
    while left and Path(left[0]).name in WRAPPERS:
        del left[0]
        while left and left[0].startswith("--"):
            name, _, value = left.pop(0)[2:].partition("=")
            if not name:
                break
            if name not in OPTIONS or name in options:
                raise ValueError(f"option --{name} is not for a fork server")
            options[name] = value
    return left, options


def understood(options: Mapping[str, str]) -> Setting:
    """Return what these options would set up; names are this machine's, whatever host is entered.

    Raises:
        ValueError: it is not said who the process is to be.
    """
    files = {"mnt": options.get("mount"), "net": options.get("net")}
    uid, gid, groups = None, 0, []
    if "reuid" in options:
        account = _account(options["reuid"])
        uid, gid = account.pw_uid, _group(options["regid"])
        if "groups" in options:
            groups = [_group(name) for name in options["groups"].split(",")]
        elif "init-groups" in options:
            groups = os.getgrouplist(account.pw_name, gid)
        else:
            raise ValueError("it is not said which groups the process has")
    elif options.keys() & {"regid", "groups", "init-groups"}:
        raise ValueError("groups without a user are not for a fork server")
    return Setting(
        namespaces={kind: os.open(file, os.O_RDONLY) for kind, file in files.items() if file},
        uid=uid,
        gid=gid,
        groups=groups,
        data=int(options["data"]) if "data" in options else None,
    )


def _account(user: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)


def _group(name: str) -> int:
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def _refuse_unrunnable(command: Sequence[str]) -> None:
    """Refuse what ``run`` would not do as the very program does."""
    if not command:
        raise ValueError("there is no command")
    if _is_python(command[0]):
        options = [word for word in command[1:2] if word.startswith("-")]
        if len(command) < 2 or options not in ([], ["-m"]) or (options and len(command) < 3):  # noqa: PLR2004
            raise ValueError(f"{' '.join(command[:3])} is not for a fork server")
        return
    with Path(command[0]).open("rb") as program:
        first = program.readline(256)
    if not first.startswith(b"#!") or b"python" not in first:
        raise ValueError(f"{command[0]} is no script of Python's")


def _is_python(program: str) -> bool:
    return re.fullmatch(r"python[\d.]*", Path(program).name) is not None


def _status(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _refuse_different(shim: int, status: Mapping[str, str], setting: Setting) -> None:
    """Refuse a shim that has what nobody can take over from another process."""
    own = _status("self")
    # Whoever becomes another user loses them; who stays root must have no more than the shim.
    names = (*SAME, *(("CapPrm", "CapEff") if setting.uid in (None, 0) else ()))
    differs = [name for name in names if status.get(name) != own.get(name)]
    for kind in os.listdir("/proc/self/ns"):  # noqa: PTH208 - names
        theirs, ours = (os.stat(f"/proc/{pid}/ns/{kind}") for pid in (shim, "self"))  # noqa: PTH116
        if not os.path.samestat(theirs, ours):
            differs.append(f"{kind} namespace")
    if int(status["CapBnd"], 16) & ~int(own["CapBnd"], 16):
        differs.append("CapBnd")
    if differs:
        raise ValueError(f"the shim differs from this server in {', '.join(differs)}")


def _take_over(shim: int, status: Mapping[str, str]) -> None:
    """Have what the kernel gives a process from its parent as the shim has it from its supervisor."""
    _take_limits(shim)
    score = Path(f"/proc/{shim}/oom_score_adj").read_text()
    if score != Path("/proc/self/oom_score_adj").read_text():
        Path("/proc/self/oom_score_adj").write_text(score)
    nice = os.getpriority(os.PRIO_PROCESS, shim)
    if nice != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    os.sched_setaffinity(0, os.sched_getaffinity(shim))
    policy, parameters = os.sched_getscheduler(shim), os.sched_getparam(shim)
    if policy != os.sched_getscheduler(0):
        os.sched_setscheduler(0, policy, parameters)
    lost = int(_status("self")["CapBnd"], 16) & ~int(status["CapBnd"], 16)
    for number in range(lost.bit_length()):
        if lost >> number & 1:
            _call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    if status["NoNewPrivs"] == "1":
        _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _enter(namespaces: Mapping[str, int]) -> None:
    """Enter namespaces; which of them this process is in already is looked at before its /proc is another."""
    here = {kind: os.stat(f"/proc/self/ns/{kind}") for kind in namespaces}  # noqa: PTH116
    for kind, descriptor in namespaces.items():
        if not os.path.samestat(os.fstat(descriptor), here[kind]):
            _call("setns", descriptor, NAMESPACES[kind])
        os.close(descriptor)


def _be_another() -> None:
    """Have nothing in common with those that are forked beside this one but what was imported."""
    time.tzset()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


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
    arguments = list(command[1:]) if _is_python(command[0]) else list(command)
    if arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Python does
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(arguments[0]))  # noqa: PTH120 - likewise
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


NEW = ".new"


def loaded_marker(path: str) -> Path:
    """Return the file that is there once the family that listens at a socket has imported all, and answers at once."""
    return Path(f"{path}.loaded")


def _listen(path: str) -> socket.socket:
    """Listen before anything is imported: shims that come early wait. Whom they find there answers at once."""
    loaded_marker(path).unlink(missing_ok=True)
    new = Path(f"{path}{NEW}")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(str(new))
    os.umask(mask)
    listener.listen(WAITING)
    new.rename(path)
    return listener


def _make_room() -> None:
    """Begin anew with arguments and an environment that are long enough to be written over."""
    if "DOCKSTACK_ROOM" not in os.environ:
        room = {**os.environ, "SPT_NOENV": "1", "DOCKSTACK_ROOM": "." * ROOM}
        os.execve(sys.executable, [sys.executable, *sys.argv, "." * ROOM], room)  # noqa: S606 - nothing of a stranger's


def _show_environment(assignments: Sequence[bytes]) -> None:
    """Take an environment, and show it where others look for the mark of a service (/proc/PID/environ)."""
    place = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[ENVIRONMENT_PLACE]
    start, end = (int(each) for each in place)
    os.environb.clear()  # nobody may point there when it changes
    shown = b"\0".join(sorted(assignments, key=lambda each: not bytes(each).startswith(MARK)))[: end - start - 1]
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


def _join_control_groups(shim: int) -> None:
    """Be counted with the shim, where a supervisor keeps each service's processes in a group."""
    own = set(Path("/proc/self/cgroup").read_text().splitlines())
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    for line in Path(f"/proc/{shim}/cgroup").read_text().splitlines():
        if line not in own:
            _, controllers, path = line.split(":", 2)
            (control_group(controllers, path, mounts) / "cgroup.procs").write_text(str(os.getpid()))


def control_group(controllers: str, path: str, mounts: Iterable[str]) -> Path:
    """Return the directory of a control group.

    Args:
        controllers: of its hierarchy, as in /proc/PID/cgroup; none in version 2.
        path: in the hierarchy.
        mounts: lines of /proc/PID/mountinfo: a hierarchy, or a part of one, may be mounted anywhere.

    Raises:
        FileNotFoundError: it cannot be seen.
    """
    for line in mounts:
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        found = kind == "cgroup" and set(controllers.split(",")) <= set(options.split(","))
        if (found if controllers else kind == "cgroup2") and f"{path}/".startswith(f"{root.rstrip('/')}/"):
            return Path(point) / os.path.relpath(path, root)
    raise FileNotFoundError(f"control group {path} of {controllers or 'version 2'} is not mounted")


def _take_limits(shim: int) -> None:
    for line in Path(f"/proc/{shim}/limits").read_text().splitlines():
        name, values = line[:26].rstrip(), line[26:].split()
        if name in LIMITS:
            soft, hard = (resource.RLIM_INFINITY if each == "unlimited" else int(each) for each in values[:2])
            if resource.getrlimit(LIMITS[name]) != (soft, hard):
                resource.setrlimit(LIMITS[name], (soft, hard))


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*map(ctypes.c_ulong, arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
