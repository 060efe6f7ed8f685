# SPDX-License-Identifier: Apache-2.0
"""Services under a supervisord of our own, for machines whose PID 1 is not systemd; rendering is pure.

Supervisor does not know a service's workers any more when their parent is killed, nor any process when it is killed
itself. Therefore each process that it starts has a mark in its environment. Processes with a service's mark that do not
descend from its main process are ended before that service starts again.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import socket
import subprocess
import xmlrpc.client
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dockstack.deploy import paths
from dockstack.deploy.node import processes
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.services import entered_command, in_stop_order
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dockstack.deploy.node.shell import Shell
    from dockstack.deploy.supervision.services import Service

DIRECTORY = f"{paths.ETC}/supervisor"
CONFIGURATION = f"{DIRECTORY}/supervisord.conf"
PROGRAMS = f"{DIRECTORY}/programs"
PROGRAM = Path(__file__).with_name("supervisord.py")
SOCKET = f"{paths.RUN}/supervisor.sock"
PIDFILE = f"{paths.RUN}/supervisord.pid"
LOG = f"{paths.LOG}/supervisord.log"
OUTPUT = f"{paths.LOG}/supervisord.out"
# A container may not be allowed to protect a process; that must not keep it from running.
OOM_SCRIPT = 'echo {score} 2>/dev/null > /proc/self/oom_score_adj; exec "$@"'
START_LIMIT = 20.0
FILE_LIMIT = 65536
STOP_LIMIT = 300.0
ASK_LIMIT = 10.0  # that supervisord may take for an answer which costs it nothing
HUNG_LIMIT = 2.0  # that one may take to end which has not answered
ASKING = {"getSupervisorVersion", "getProcessInfo"}
POLL = 0.05
BAD_NAME, ALREADY_ADDED, NOT_RUNNING, ALREADY_STARTED = 10, 90, 70, 60
STOPPED_STATES = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}

SUPERVISORD_CONF = f"""\
[unix_http_server]
file={SOCKET}
chmod=0600

[supervisord]
logfile={LOG}
logfile_maxbytes=5MB
logfile_backups=2
pidfile={PIDFILE}
nodaemon=true
silent=true
umask=022
directory=/

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files={PROGRAMS}/*.conf
"""

# oslo.service renames its processes by setproctitle, which would overwrite their environment in /proc with our mark.
KEEP_MARK = {"SPT_NOENV": "1"}


def render(service: Service) -> str:
    """Return the program's section."""
    environment = {processes.SERVICE_MARK: service.name, **KEEP_MARK, **_plain_environment(service)}
    settings = [f'{name}="{value.replace("%", "%%")}"' for name, value in sorted(environment.items())]
    group = "true" if service.kill_mode == "group" else "false"
    lines = [
        f"[program:{service.name}]",
        f"command={' '.join(quote(word) for word in wrapped_command(service))}",
        f"user={'root' if _becomes(service) else service.user}",
        f"directory={service.directory}",
        f"environment={','.join(settings)}",
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        "startretries=10",
        f"stopsignal={service.stop_signal}",
        f"stopwaitsecs={service.stop_timeout}",
        f"stopasgroup={group}",
        f"killasgroup={group}",
        "redirect_stderr=true",
        f"stdout_logfile={service.log_path.replace('%', '%%')}",
        "stdout_logfile_maxbytes=50MB",
        "stdout_logfile_backups=2",
        "",
    ]
    return "\n".join(lines)


def wrapped_command(service: Service) -> tuple[str, ...]:
    """Wrap the command with what supervisor cannot set: groups, limits and the OOM score."""
    plain = _plain_environment(service)
    awkward = [f"{name}={value}" for name, value in sorted(service.environment.items()) if name not in plain]
    wrapper: list[str] = ["/usr/bin/env", *awkward] if awkward else []
    if service.oom_score:
        wrapper += ["/bin/sh", "-c", OOM_SCRIPT.format(score=service.oom_score), "sh"]
    if service.nofile != FILE_LIMIT:
        wrapper += ["/usr/bin/prlimit", f"--nofile={service.nofile}", "--"]
    return (*wrapper, *(entered_command(service) if _becomes(service) else service.command))


def _becomes(service: Service) -> bool:
    """Whether root starts it and the command itself changes to user, groups or host; supervisor only knows users."""
    return bool(service.group or service.groups or service.inside or service.shim)


def quote(word: str) -> str:
    """Quote one word for supervisor's shell-like command line; ``%`` would be expanded and ``;`` start a comment."""
    escaped = word.replace("%", "%%")
    if escaped and not set(escaped) & set(" \t\"'\\;#$`&|<>()*?[]{}~!"):
        return escaped
    return "'" + escaped.replace("'", "'\"'\"'") + "'"


def _plain_environment(service: Service) -> dict[str, str]:
    """Return the variables that can be written in supervisor's syntax, which has no escape for a quote."""
    return {name: value for name, value in service.environment.items() if not set(value) & set("'\"\\\n")}


class Reach(Enum):
    """What one finds behind supervisord's socket."""

    ANSWERS = auto()
    HANGS = auto()
    NONE = auto()


class SupervisordHungError(DockstackError):
    """Supervisord runs, and does not answer."""

    def __init__(self, method: str, limit: float) -> None:
        """Say what it was asked for."""
        pid = _written_pid()
        super().__init__(
            f"supervisord (pid {pid}) did not answer {method} within {limit:.0f} s.",
            f"Look at {LOG}. If it hangs: kill -9 {pid}; `dockstack up` starts it again, and its services go on.",
        )


class Supervisor:
    """Drives our supervisord on this machine over its socket, which only root may use."""

    name = "supervisor"

    def __init__(self, shell: Shell) -> None:
        """Write files through this shell."""
        self._shell = shell

    def render(self, service: Service) -> str:
        """Return the program's section."""
        return render(service)

    def prepare(self) -> None:
        """Have supervisord running, detached from the command line; before that, end what a killed one left.

        Raises:
            DockstackError: it does not come up.
        """
        for directory, mode in ((DIRECTORY, "755"), (PROGRAMS, "755"), (paths.RUN, "755"), (paths.LOG, "755")):
            self._shell.run(["install", "-d", "-m", mode, directory])
        self._shell.file(CONFIGURATION, SUPERVISORD_CONF)
        found = self._reach()
        if found is Reach.ANSWERS:
            return
        _end_supervisors(found)
        self._end_leftovers()
        with Path(OUTPUT).open("w") as output:
            subprocess.Popen(
                # Without its own directory in the search path, in which this very file would hide supervisor's package.
                [f"{paths.CLI_VENV}/bin/python", "-I", str(PROGRAM), "-n", "-c", CONFIGURATION],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                preexec_fn=_raise_file_limit,  # noqa: PLW1509 - this process has one thread
            )
        if not wait_for(lambda: self._reach() is Reach.ANSWERS, START_LIMIT, POLL):
            tail = Path(OUTPUT).read_text()
            raise DockstackError("supervisord does not come up.", f"Its log is {LOG}.", tail)

    def wake(self) -> None:
        """Have supervisord running; services that are stopped stay so."""
        self.prepare()

    def define(self, service: Service) -> bool:
        """Write the program's section; supervisord takes it at the next start of the service."""
        return self._shell.file(f"{PROGRAMS}/{service.name}.conf", render(service))

    def look(self, service: Service) -> RunState:
        """Ask supervisord; if it is not there, nothing runs."""
        try:
            info = self._info(service.name)
        except SupervisordHungError as error:
            return RunState(running=False, reason=error.brief)
        if info is None:
            return RunState(running=False, reason="not started")
        state = str(info["statename"])
        running = state in {"RUNNING", "STARTING"} and bool(info["pid"])
        reason = "" if running else str(info["spawnerr"] or info["description"] or state.lower())
        return RunState(running, int(info["pid"]) or None, state == "FATAL", reason)

    def start(self, service: Service) -> None:
        """Start with the present definition: stop, end left workers, take the definition, start."""
        self.stop(service)
        self._shell.run(["mkdir", "-p", os.path.dirname(service.log_path)])  # noqa: PTH120 - a path on the node
        for command in service.prepare:
            self._shell.run(command)
        if self._info(service.name) is not None:
            self._call("removeProcessGroup", service.name)
        self._call("reloadConfig")
        self._call("addProcessGroup", service.name, ignore=ALREADY_ADDED)
        self._call("startProcess", service.name, False, ignore=ALREADY_STARTED)

    def stop(self, service: Service) -> None:
        """Stop, wait, and end workers that outlived their parent."""
        info = self._info(service.name)
        if info is not None and str(info["statename"]) not in STOPPED_STATES:
            self._call("stopProcess", service.name, True, ignore=NOT_RUNNING)
        self.sweep(service)

    def stop_all(self, services: Sequence[Service], ended: Callable[[Service], object]) -> None:
        """Stop in threads: supervisord does not know who requires whom."""

        def stop(service: Service) -> None:
            self.stop(service)
            ended(service)

        in_stop_order(services, stop)

    def sweep(self, service: Service) -> None:
        """End workers that outlived a killed parent, by the service's own signal: to uWSGI, SIGTERM means reload."""
        first = signal.Signals[f"SIG{service.stop_signal}"]
        processes.end(self.leftovers(service), service.stop_timeout, first=first)

    def remove(self, service: Service) -> None:
        """Stop and forget."""
        self.stop(service)
        if self._info(service.name) is not None:
            self._call("removeProcessGroup", service.name, ignore=BAD_NAME)
        self._shell.absent(f"{PROGRAMS}/{service.name}.conf")

    def finish(self) -> None:
        """Shut supervisord down, also one whose socket is gone, and wait until it has ended its services."""
        _end_supervisors(self._reach())

    def leave(self) -> None:
        """There is nothing to do: supervisord's files are noted as ours and go with the rest."""

    def leftovers(self, service: Service) -> list[int]:
        """Return processes of a service that do not descend from its main process.

        Of a service whose children are to be left alone (an engine's containers), only a process that runs the
        service's own program counts.
        """
        info = self._info(service.name)
        everything = processes.snapshot()
        alive = processes.tree(int(info["pid"]), everything) if info and info["pid"] else set()
        found = set(processes.marked(processes.SERVICE_MARK, service.name)) - alive
        if service.kill_mode == "process":
            program = Path(service.command[0]).name
            found = {pid for pid in found if Path((processes.arguments(pid) or [""])[0]).name == program}
        return sorted(found)

    def _end_leftovers(self) -> None:
        """End what a killed supervisord left, except the children of an engine: those are servers."""
        in_stop_order(Records.here().services(), self.sweep)

    def _reach(self) -> Reach:
        try:
            self._call("getSupervisorVersion")
        except SupervisordHungError:
            return Reach.HANGS
        except (OSError, http.client.HTTPException):
            return Reach.NONE
        return Reach.ANSWERS

    def _info(self, name: str) -> Mapping[str, Any] | None:
        try:
            return cast("Mapping[str, Any] | None", self._call("getProcessInfo", name, ignore=BAD_NAME))
        except (OSError, http.client.HTTPException):
            return None

    def _call(self, method: str, *arguments: Any, ignore: int | None = None) -> Any:
        limit = ASK_LIMIT if method in ASKING else STOP_LIMIT
        transport = _UnixTransport(limit)
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport, allow_none=True) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except TimeoutError as error:
                raise SupervisordHungError(method, limit) from error
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == ignore:
                    return None
                raise DockstackError(
                    f"supervisord refused {method} {' '.join(map(str, arguments))}: {fault.faultString}",
                    f"Its log is {LOG}.",
                ) from fault


def _supervisors() -> list[int]:
    """Return the pids of our supervisord: one, or none, or one more that lost its socket."""
    return processes.with_arguments("-n", "-c", CONFIGURATION)


def _written_pid() -> str:
    """Return the pid that supervisord has written down, which costs less than to look for it; "?" if it is gone."""
    try:
        return Path(PIDFILE).read_text().strip()
    except FileNotFoundError:
        return "?"


def _end_supervisors(found: Reach) -> None:
    """End our supervisord, and wait until it has ended its services; one that hangs ends none."""
    processes.end(_supervisors(), HUNG_LIMIT if found is Reach.HANGS else STOP_LIMIT)


def _raise_file_limit() -> None:
    """Give supervisord, and so its services, as many open files as the machine allows them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILE_LIMIT if hard == resource.RLIM_INFINITY else min(hard, FILE_LIMIT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        del host
        return _UnixConnection("localhost", timeout=self._limit)
