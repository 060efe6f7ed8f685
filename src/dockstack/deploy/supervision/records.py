# SPDX-License-Identifier: Apache-2.0
"""Restarts decided from recorded state, so that no restart is ever lost.

When a service has been started, the hash of all that it was started with (its unit, the content of its configuration
files, the version of its code) is recorded. A service is restarted when, and only when, the hash of what is there now
differs from the record, or it does not run. A run that dies between a change of configuration and the restart leaves
the old record: the next run restarts the service.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.node import listeners, processes
from dockstack.deploy.node.atomic_write import write_atomically
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.supervision import readiness
from dockstack.deploy.supervision.services import Check, Service, definition_hash, from_json, in_start_order, to_json

if TYPE_CHECKING:
    from dockstack.deploy.node.machine import Machine
    from dockstack.deploy.supervision.backends.model import Backend

POLL = 0.1
HOPELESS = 3  # a service that died so often since its start will not come up by waiting
TAIL_BYTES = 8192
TAIL_LINES = 25


class Records:
    """What we know of the services of one node: their definitions, and with which hash each was started."""

    def __init__(self, directory: str | Path) -> None:
        """Keep the records below this directory."""
        self._defined = Path(directory) / "services"
        self._started = Path(directory) / "started"

    @classmethod
    def here(cls) -> Records:
        """Return the records of this machine."""
        return cls(paths.STATE_DIRECTORY)

    def define(self, service: Service) -> None:
        """Remember a service, so that status, logs, down and clean know it."""
        content = json.dumps(to_json(service), indent=1, sort_keys=True)
        path = self._defined / f"{service.name}.json"
        if not path.exists() or path.read_text() != content:
            write_atomically(path, content)

    def services(self) -> tuple[Service, ...]:
        """Return all known services in the order in which they start."""
        files = sorted(self._defined.glob("*.json"))
        return in_start_order(from_json(json.loads(file.read_text())) for file in files)

    def started_with(self, name: str) -> str | None:
        """Return the hash with which a service was last started."""
        try:
            return (self._started / name).read_text()
        except FileNotFoundError:
            return None

    def set_started(self, name: str, value: str) -> None:
        """Record that a service was started with this hash and is ready."""
        write_atomically(self._started / name, value)

    def forget_start(self, name: str) -> None:
        """Let the next run start the service anew, whatever happens now."""
        (self._started / name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Forget a service."""
        self.forget_start(name)
        (self._defined / f"{name}.json").unlink(missing_ok=True)


def needs_start(started_with: str | None, wanted: str, *, running: bool) -> bool:
    """Decide on a (re)start: the one rule."""
    return not running or started_with != wanted


def ensure_running(machine: Machine, service: Service) -> bool:
    """Have a service defined, running with its present configuration, and ready; return whether it was started.

    Raises:
        StepFailedError: it does not become ready in its time.
    """
    records, backend = machine.records, machine.backend
    machine.manifest.made("service", service.name)
    records.define(service)
    backend.define(service)
    watched, versions = machine.digests(service.watch), machine.versions(service.packages)
    wanted = definition_hash(service, backend.render(service), watched, versions)
    started = needs_start(records.started_with(service.name), wanted, running=backend.look(service).running)
    if started:
        machine.say(f"Starting {service.name}")
        records.forget_start(service.name)
        backend.start(service)
    else:
        backend.sweep(service)
    wait_until_ready(machine, backend, service)
    if started:
        records.set_started(service.name, wanted)
    return started


def wait_until_ready(machine: Machine, backend: Backend, service: Service) -> None:
    """Wait until the service's check succeeds; give up at once when the supervisor has."""
    limit = service.check.timeout if service.check else 15.0
    deadline = time.monotonic() + limit
    deaths, ran = 0, True
    while True:
        seen = backend.look(service)
        deaths += ran and not seen.running
        ran = seen.running
        answer = _answer(machine, service, seen.pid) if seen.running else seen.reason or "it does not run"
        if not answer:
            return
        if seen.failed or deaths >= HOPELESS or time.monotonic() > deadline:
            raise StepFailedError(
                f"{service.name} does not become ready: {machine.secrets.redact(answer)}",
                f"Its log is {service.log_path}; without the cause, `dockstack up` goes on from here.",
                machine.secrets.redact(log_tail(machine, service)),
            )
        time.sleep(POLL)


def _answer(machine: Machine, service: Service, pid: int | None) -> str:
    if service.check is None:
        return ""
    if machine.node.connector == "@local":
        return readiness.ask(service.check) or _impostor(service.check, pid)
    return "" if machine.run(readiness.shell_line(service.check), check=False).ok else "it does not answer"


def _impostor(check: Check, pid: int | None) -> str:
    """Tell of somebody else who answers in a service's place: the next step would hand him the cloud's passwords."""
    if check.port is None or pid is None:
        return ""
    if listeners.holds(processes.tree(pid, processes.snapshot()), check.port):
        return ""
    return f"another process listens on its port {check.port}; `ss -lntp` names it"


def log_tail(machine: Machine, service: Service) -> str:
    """Return the last lines of a service's own log, or of its output."""
    for path in (*service.logs, service.log_path):
        text = machine.run(["tail", "-c", str(TAIL_BYTES), path], check=False).stdout
        if text.strip():
            return "\n".join(text.splitlines()[-TAIL_LINES:])
    return ""
