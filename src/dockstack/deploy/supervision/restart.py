# SPDX-License-Identifier: Apache-2.0
"""Start or restart a service, decided by recorded state so that no restart is ever lost.

When a service is started, the hash of all that it was started with (its unit, the content of its configuration files,
the version of its code) is recorded. It is restarted when, and only when, the hash of what is there now differs from
the record, or it does not run. A run that is killed between a change of configuration and the restart leaves the old
record, so the next run restarts the service. One that is killed while the service starts leaves the new record, so the
next run goes on waiting.

A service is waited for as long as its processes live and work: on a busy machine a start takes minutes, and a restart
would only have it begin anew. One that neither answers nor works for the time of its check has failed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockstack.deploy.node import listeners, processes
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.supervision import readiness
from dockstack.deploy.supervision.readiness import Answer
from dockstack.deploy.supervision.services import Check, Service, ServiceStart, definition_hash

if TYPE_CHECKING:
    from dockstack.deploy.supervision.backends.model import Backend
    from dockstack.deploy.supervision.machine import Machine

POLL = 0.1
UNCHECKED = 15.0  # seconds that a service without a check may take until it runs
LONGEST = 1800.0  # seconds for a service that works and is never ready
WORKING_SHARE = 0.04  # of a processor: idle services use a quarter of that, and starting ones all that they can get
HOPELESS = 3  # a service that died so often since its start will not come up by waiting
TAIL_BYTES = 8192
TAIL_LINES = 25


def needs_start(started_with: str | None, wanted: str, *, running: bool) -> bool:
    """Decide on a start or restart; there is no other rule."""
    return not running or started_with != wanted


def ensure_running(machine: Machine, service: Service) -> bool:
    """Have a service defined, running with its present configuration, and ready; return whether it was (re)started.

    Raises:
        StepFailedError: it does not become ready; ``details`` holds the last lines of its log.
    """
    records, backend = machine.records, machine.backend
    machine.services.append(service.name)
    machine.manifest.made("service", service.name)
    records.define(service)
    backend.define(service)
    watched, versions = machine.digests(service.watch), machine.versions(service.packages)
    wanted = definition_hash(service, backend.render(service), watched, versions)
    started = needs_start(records.started_with(service.name), wanted, running=backend.look(service).running)
    begun = time.monotonic()
    if started:
        machine.say(f"Starting {service.name}")
        records.forget_start(service.name)
        backend.start(service)
        records.set_started(service.name, wanted)
        machine.changes += 1
    else:
        backend.sweep(service)
    try:
        wait_until_ready(machine, backend, service)
    except StepFailedError:
        if started:  # it has given up or hangs, so the next run is to start it anew
            records.forget_start(service.name)
        raise
    if started:
        seconds = round(time.monotonic() - begun, 2)
        machine.starts.append(ServiceStart(service.name, round(begun - machine.began, 2), seconds))
    return started


def wait_until_ready(machine: Machine, backend: Backend, service: Service) -> None:
    """Wait until the service's check succeeds; give up at once when the supervisor has.

    Raises:
        StepFailedError: it has failed, or neither answers nor works.
    """
    patience = _Patience(machine, service)
    deaths, ran = 0, True
    while True:
        seen = backend.look(service)
        if seen.waiting:  # for the one before, as nova-compute finishes what it does; or for what it requires
            patience = _Patience(machine, service)
        deaths += ran and not seen.running
        ran = seen.running
        answer = _answer(machine, service, seen.pid) if seen.running else Answer(seen.reason or "it does not run")
        if not answer.problem:
            return
        if seen.failed or deaths >= HOPELESS or not patience.lasts(seen.pid, answer):
            raise StepFailedError(
                f"{service.name} does not become ready: {machine.secrets.redact(answer.problem)}",
                f"Its log is {service.log_path}; without the cause, `dockstack up` goes on from here.",
                machine.secrets.redact(log_tail(machine, service)),
            )
        time.sleep(POLL)


class _Patience:
    """The time of a service's check, which begins anew as often as its processes have worked in it."""

    def __init__(self, machine: Machine, service: Service) -> None:
        """Begin now."""
        self._machine, self._name = machine, service.name
        self._limit = service.check.timeout if service.check else UNCHECKED
        self._first = self._begun = time.monotonic()
        self._before: tuple[int | None, int] | None = None

    def lasts(self, pid: int | None, answer: Answer) -> bool:
        """Return whether to go on waiting; one that answers, and is not ready, has had its time."""
        before = self._before = self._before or self._used(pid)
        now = time.monotonic()
        if now <= self._begun + self._limit:
            return True
        used = self._used(pid)
        worked = used[1] - before[1] if used[0] == before[0] else used[1]
        if answer.spoken or now > self._first + LONGEST or worked < WORKING_SHARE * (now - self._begun):
            return False
        self._begun, self._before = now, used
        self._machine.say(f"Waiting for {self._name}: it works, and does not answer yet")
        return True

    def _used(self, pid: int | None) -> tuple[int | None, int]:
        """Return the main process, and what it and its descendants have used of the processors, seconds."""
        lines = self._machine.run(processes.LISTING, check=False).lines if pid else []
        return pid, processes.processor_seconds(pid, lines) if pid else 0


def _answer(machine: Machine, service: Service, pid: int | None) -> Answer:
    if service.check is None:
        return Answer()
    if machine.node.connector == "@local":
        answer = readiness.ask(service.check)
        return answer if answer.problem else _port_conflict(service.check, pid)
    said = machine.run(readiness.shell_line(service.check), check=False)
    return Answer() if said.ok else Answer("it does not answer")


def _port_conflict(check: Check, pid: int | None) -> Answer:
    """Return what is wrong if a process other than the service answers on its port.

    A local user could listen there first, and the next step would send the cloud's passwords to that process.
    """
    if check.port is None or pid is None:
        return Answer()
    if listeners.holds(processes.tree(pid, processes.snapshot()), check.port):
        return Answer()
    return Answer(f"another process listens on its port {check.port}; `ss -lntp` names it", spoken=True)


def log_tail(machine: Machine, service: Service) -> str:
    """Return the last lines of a service's own log, or of its output."""
    for path in (*service.logs, service.log_path):
        text = machine.run(["tail", "-c", str(TAIL_BYTES), path], check=False).stdout
        if text.strip():
            return "\n".join(text.splitlines()[-TAIL_LINES:])
    return ""
