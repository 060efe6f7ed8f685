# SPDX-License-Identifier: Apache-2.0
"""Services as systemd units under ``dockstack.target``; rendering is pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockstack.deploy.supervision import readiness
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import CheckKind, entered_command, in_start_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.deploy.node.shell import Shell
    from dockstack.deploy.supervision.services import Service

UNITS = "/etc/systemd/system"
TARGET = "dockstack.target"
TARGET_UNIT = """\
[Unit]
Description=OpenStack cloud made by dockstack
After=network-online.target
Wants=network-online.target

[Install]
WantedBy=multi-user.target
"""
LOOK_LIMIT = 30  # that systemd may take to tell of a unit
STOP_LIMIT = 900  # for all units together, each of which has a time of its own
PREPARATION_LIMIT = 90  # seconds for what runs before a service
# What can stand in a unit file unquoted.
PLAIN = re.compile(r"[A-Za-z0-9_@/.:=,+-]+")


def unit_name(service: Service) -> str:
    """Return the unit that runs the service: the distribution's own where there is one."""
    return service.unit or f"dockstack-{service.name}.service"


def quote(word: str) -> str:
    """Quote one word for a unit file: neither the manager's specifiers nor its variables are expanded."""
    escaped = word.replace("%", "%%").replace("$", "$$")
    if PLAIN.fullmatch(escaped):
        return escaped
    inner = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{inner}"'


def quote_setting(name: str, value: str) -> str:
    """Quote one ``Environment=`` assignment, in which ``$`` has no meaning."""
    inner = f"{name}={value}".replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{inner}"'


def render(service: Service) -> str:
    """Return the unit file, or the drop-in for a unit of the distribution."""
    if service.unit:
        return render_drop_in(service)
    after = " ".join(_required_units(service))
    command = entered_command(service) if service.inside or service.shim else service.command
    lines = [
        "[Unit]",
        f"Description={service.title or service.name} (dockstack)",
        f"PartOf={TARGET}",
        f"After=network.target{' ' + after if after else ''}",
    ]
    if after:
        lines.append(f"Wants={after}")
    lines += ["StartLimitIntervalSec=120", "StartLimitBurst=10", "", "[Service]", "Type=exec", *_identity(service)]
    lines += [f"Environment={quote_setting(name, value)}" for name, value in sorted(service.environment.items())]
    lines += [f"ExecStartPre=+{' '.join(quote(word) for word in command)}" for command in service.prepare]
    lines += [
        f"WorkingDirectory={service.directory}",
        f"ExecStart={' '.join(quote(word) for word in command)}",
        *_await_ready(service),
        f"StandardOutput=append:{service.log_path}",
        f"StandardError=append:{service.log_path}",
        "Restart=always",
        "RestartSec=2",
        f"KillSignal=SIG{service.stop_signal}",
        f"KillMode={'process' if service.kill_mode == 'process' else 'control-group'}",
        f"TimeoutStopSec={service.stop_timeout}",
        f"LimitNOFILE={service.nofile}",
    ]
    if service.end_statuses:
        lines.append(f"SuccessExitStatus={' '.join(map(str, service.end_statuses))}")
    if service.oom_score:
        lines.append(f"OOMScoreAdjust={service.oom_score}")
    if service.kill_mode == "process":
        lines += ["Delegate=yes", "TasksMax=infinity"]
    lines += ["", "[Install]", f"WantedBy={TARGET}", ""]
    return "\n".join(lines)


def render_drop_in(service: Service) -> str:
    """Return what we add to a unit of the distribution: it follows the target, if we may stop it."""
    lines = ["[Unit]", *([f"PartOf={TARGET}"] if service.stoppable else [])]
    units = _required_units(service)
    if units:
        lines.append(f"After={' '.join(units)}")
    return "\n".join([*lines, ""])


def _identity(service: Service) -> list[str]:
    """Return User= and Group=. In a further host the command itself becomes the user, as only root may enter it.

    So does one with a shim, which has no User= at all: systemd would give it a home for it.
    """
    if service.shim:
        return []
    if service.inside:
        return ["User=root"]
    lines = [f"User={service.user}"]
    if service.group:
        lines.append(f"Group={service.group}")
    if service.groups:
        lines.append(f"SupplementaryGroups={' '.join(service.groups)}")
    return lines


def _await_ready(service: Service) -> list[str]:
    """Return the command by which systemd waits until the service is ready before it starts those that require it.

    Without it, all services start at once at boot and fail at a message bus that does not answer yet. APIs are not
    waited for, as their clients retry. The wait is limited, so that a service that is late does not block the others
    for ever.
    """
    check = service.check
    if check is None or check.kind is CheckKind.HTTP:
        return []
    ready = f"{readiness.shell_line(check)} >/dev/null 2>&1"
    wait = f'while kill -0 "$MAINPID" 2>/dev/null && ! {ready}; do sleep 0.2; done'
    limit = round(check.timeout)
    command = " ".join(quote(word) for word in ("/usr/bin/timeout", str(limit), "/bin/sh", "-c", wait))
    return [f"ExecStartPost=-+{command}", f"TimeoutStartSec={limit + PREPARATION_LIMIT}"]


def _required_units(service: Service) -> list[str]:
    return [f"dockstack-{name}.service" for name in service.requires]


class Systemd:
    """Drives systemd on a node."""

    name = "systemd"

    def __init__(self, shell: Shell) -> None:
        """Work through this shell: a machine, or a plain local one."""
        self._shell = shell

    def render(self, service: Service) -> str:
        """Return the unit file."""
        return render(service)

    def prepare(self) -> None:
        """Have the target, enabled for the next boot."""
        if self._shell.file(f"{UNITS}/{TARGET}", TARGET_UNIT):
            self._shell.run(["systemctl", "daemon-reload"])
        if not self._shell.run(["systemctl", "is-enabled", "--quiet", TARGET], check=False).ok:
            self._shell.run(["systemctl", "enable", "--quiet", TARGET])
        if not self._shell.run(["systemctl", "is-active", "--quiet", TARGET], check=False).ok:
            self._shell.run(["systemctl", "start", "--no-block", TARGET])

    def wake(self) -> None:
        """There is nothing to do: systemd runs; the target would start all services."""

    def define(self, service: Service) -> bool:
        """Write the unit, add it to the target, and have systemd read it."""
        unit = unit_name(service)
        for foreign in service.replaces:
            self._retire(foreign)
        if service.unit:
            self._shell.run(["mkdir", "-p", f"{UNITS}/{unit}.d"])
            self._alias(service, unit)
        changed = self._shell.file(self._path(service), render(service))
        wanted = f"{UNITS}/{TARGET}.wants/{unit}"
        if not self._shell.run(["test", "-L", wanted], check=False).ok:
            self._shell.run(["systemctl", "add-wants", TARGET, unit])
            changed = True
        if changed:
            self._shell.run(["systemctl", "daemon-reload"])
        return changed

    def look(self, service: Service) -> RunState:
        """Ask systemd for the main process and its state."""
        wanted = "--property=ActiveState,Job,MainPID,Result,SubState"
        output = self._shell.run(["systemctl", "show", unit_name(service), wanted], check=False, limit=LOOK_LIMIT)
        values = dict(line.partition("=")[::2] for line in output.lines)
        active = values.get("ActiveState", "unknown")
        pid = int(values.get("MainPID") or 0)
        reason = f"{active} ({values.get('SubState')}, {values.get('Result')})"
        running = active in {"active", "reloading"} or (active == "activating" and pid > 0)
        queued = not running and values.get("Job", "0") not in {"", "0"}  # behind the units that it stands after
        waiting = active == "deactivating" or queued
        return RunState(running, pid or None, active == "failed", "" if running else reason, waiting=waiting)

    def start(self, service: Service) -> None:
        """Start or restart; a unit that failed too often gets a new chance."""
        self._shell.run(["systemctl", "reset-failed", unit_name(service)], check=False)
        self._shell.run(["systemctl", "restart", "--no-block", unit_name(service)])

    def stop(self, service: Service) -> None:
        """Stop and wait."""
        self._shell.run(["systemctl", "stop", unit_name(service)], check=False, limit=STOP_LIMIT)

    def stop_all(self, services: Sequence[Service], ended: Callable[[Service], object]) -> None:
        """Stop all in one call; systemd orders the jobs in reverse to the start.

        Services that others require are named last, because the job of a name waits for the names before it only.
        """
        units = [unit_name(service) for service in reversed(in_start_order(services))]
        if units:
            self._shell.run(["systemctl", "stop", *units], check=False, limit=STOP_LIMIT)
        for service in services:
            ended(service)

    def sweep(self, service: Service) -> None:
        """There is nothing to do: systemd ends all processes of a unit's control group."""

    def remove(self, service: Service) -> None:
        """Stop and forget; a unit of the distribution loses only our drop-in."""
        unit = unit_name(service)
        if service.stoppable:
            self.stop(service)
        self._shell.absent(f"{UNITS}/{TARGET}.wants/{unit}")
        self._shell.absent(self._path(service))
        self._shell.absent(f"{UNITS}/dockstack-{service.name}.service")
        self._shell.run(["systemctl", "daemon-reload"], check=False)
        self._shell.run(["systemctl", "reset-failed", f"dockstack-{service.name}.service"], check=False)

    def finish(self) -> None:
        """Mark the target as stopped; systemd itself goes on."""
        self._shell.run(["systemctl", "stop", TARGET], check=False, limit=STOP_LIMIT)

    def leave(self) -> None:
        """Remove the target and its links."""
        self._shell.run(["systemctl", "disable", "--quiet", TARGET], check=False)
        self._shell.absent(f"{UNITS}/{TARGET}.wants")
        self._shell.absent(f"{UNITS}/{TARGET}")
        self._shell.run(["systemctl", "daemon-reload"], check=False)

    def _retire(self, foreign: str) -> None:
        """End a unit that ours replaces: both would want the same port, now or at the next boot.

        One that runs need not be enabled: others start it, or it was masked when it ran already.
        """
        if self._shell.run(["systemctl", "is-enabled", "--quiet", foreign], check=False).ok:
            self._shell.run(["systemctl", "disable", "--now", "--quiet", foreign])
        elif self._shell.run(["systemctl", "is-active", "--quiet", foreign], check=False).ok:
            self._shell.run(["systemctl", "stop", foreign], limit=STOP_LIMIT)

    def _alias(self, service: Service, unit: str) -> None:
        """Let other units order themselves after ``dockstack-<name>``, also where the distribution's unit is used."""
        alias = f"{UNITS}/dockstack-{service.name}.service"
        if not self._shell.run(["test", "-L", alias], check=False).ok:
            fragment = self._shell.run(["systemctl", "show", "--property=FragmentPath", "--value", unit]).stdout.strip()
            self._shell.run(["ln", "-sfn", fragment, alias])

    def _path(self, service: Service) -> str:
        unit = unit_name(service)
        return f"{UNITS}/{unit}.d/dockstack.conf" if service.unit else f"{UNITS}/{unit}"
