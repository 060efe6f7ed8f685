# SPDX-License-Identifier: Apache-2.0
"""Start or restart a service, decided by recorded state so that no restart is ever lost.

When a service is ready, the hash of all that it was started with (its unit, the content of its configuration files, the
version of its code) is recorded. It is restarted when, and only when, the hash of what is there now differs from the
record, or it does not run. A run that is killed between a change of configuration and the restart leaves the old
record, so the next run restarts the service.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockstack.deploy.node import listeners, processes
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.supervision import readiness
from dockstack.deploy.supervision.services import Check, Service, definition_hash

if TYPE_CHECKING:
    from dockstack.deploy.supervision.backends.model import Backend
    from dockstack.deploy.supervision.machine import Machine

POLL = 0.1
HOPELESS = 3  # a service that died so often since its start will not come up by waiting
TAIL_BYTES = 8192
TAIL_LINES = 25


def needs_start(started_with: str | None, wanted: str, *, running: bool) -> bool:
    """Decide on a start or restart; there is no other rule."""
    return not running or started_with != wanted


def ensure_running(machine: Machine, service: Service) -> bool:
    """Have a service defined, running with its present configuration, and ready; return whether it was (re)started.

    Raises:
        StepFailedError: it does not become ready in its time; ``details`` holds the last lines of its log.
    """
    records, backend = machine.records, machine.backend
    machine.services.append(service.name)
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
        machine.changes += 1
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
        return readiness.ask(service.check) or _port_conflict(service.check, pid)
    return "" if machine.run(readiness.shell_line(service.check), check=False).ok else "it does not answer"


def _port_conflict(check: Check, pid: int | None) -> str:
    """Return what is wrong if a process other than the service answers on its port; "" if none does.

    A local user could listen there first, and the next step would send the cloud's passwords to that process.
    """
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
