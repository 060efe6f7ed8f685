# SPDX-License-Identifier: Apache-2.0
"""One model of a service; a backend turns it into a systemd unit or a supervisor program."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dockstack import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class CheckKind(StrEnum):
    """How a service is asked whether it is ready."""

    TCP = "tcp"
    HTTP = "http"
    UNIX = "unix"
    COMMAND = "command"


@dataclass(frozen=True)
class Check:
    """One readiness check, asked again until it succeeds or its time is over (see restart.py).

    Attributes:
        kind: how to ask.
        target: tcp ``host:port``, http URL, path of a unix socket; unused for a command.
        command: exit status 0 means ready.
        statuses: HTTP statuses that count as ready.
        timeout: seconds after which the service counts as failed, unless it has worked all the while.
    """

    kind: CheckKind
    target: str = ""
    command: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200, 300, 401)
    timeout: float = 90.0

    @property
    def port(self) -> int | None:
        """The TCP port that must answer, if any."""
        if self.kind is CheckKind.HTTP:
            return urllib.parse.urlsplit(self.target).port
        return int(self.target.rpartition(":")[2]) if self.kind is CheckKind.TCP else None


@dataclass(frozen=True)
class Service:
    """A long-running process of the cloud.

    Attributes:
        name: unique on a node; the log command's argument and the unit's name (``dockstack-<name>``).
        command: argument list, run in the foreground; no shell.
        title: one line for people.
        user: runs as this user; ``groups`` are added to those it has.
        environment: never a secret: it can be read in /proc by the same user, and units are world-readable.
        directory: working directory.
        log: file that receives stdout and stderr.
        logs: files that the service itself writes and a person may want to see first.
        requires: services on the same node that must run; they start first and are not stopped before this one.
        check: readiness; None means ready when running.
        watch: files whose content decides on a restart: configuration and markers of installed code.
        packages: distribution packages whose version decides on a restart.
        unit: the distribution's own systemd unit, used where PID 1 is systemd instead of one of ours.
        replaces: units of the distribution that are disabled because this service takes their place.
        prepare: commands run as root before the start (run directories and the like); idempotent.
        stop_signal: what asks the service to end.
        stop_timeout: seconds before SIGKILL.
        end_statuses: exit statuses besides 0 with which it ends as asked.
        kill_mode: "group" ends the whole process group; "process" leaves the children alone (an engine's shims).
        oom_score: -1000 (never killed for memory) to 1000.
        nofile: limit of open files.
        stoppable: False: ``down`` leaves it alone (an engine that we only found, never ours).
        inside: the further host on this machine whose process it is (see hosts.py); "" for the machine itself.
        shim: words before the whole command, by which root has another process become it; none: it is started as it is.
    """

    name: str
    command: tuple[str, ...]
    title: str = ""
    user: str = "root"
    group: str | None = None
    groups: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    log: str = ""
    logs: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    check: Check | None = None
    watch: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    unit: str | None = None
    replaces: tuple[str, ...] = ()
    prepare: tuple[tuple[str, ...], ...] = ()
    stop_signal: str = "TERM"
    stop_timeout: int = 30
    end_statuses: tuple[int, ...] = ()
    kill_mode: str = "group"
    oom_score: int = 0
    nofile: int = 65536
    stoppable: bool = True
    inside: str = ""
    shim: tuple[str, ...] = ()

    @property
    def log_path(self) -> str:
        """The file that receives stdout and stderr."""
        return self.log or f"/var/log/dockstack/{self.name}.log"


class ServiceStart(NamedTuple):
    """A start of a service, until it answered.

    Attributes:
        name: the service's.
        at: seconds since work on its machine began.
        seconds: from the call to start it until it was ready.
    """

    name: str
    at: float
    seconds: float


def entered_command(service: Service) -> tuple[str, ...]:
    """Return the command that root runs: it enters the service's host, changes to its user and becomes the service.

    Of a service with a shim, that is what the shim is told.
    """
    identity: tuple[str, ...] = ()
    if service.user != "root" or service.group or service.groups:
        groups = f"--groups={','.join(service.groups)}" if service.groups else "--init-groups"
        identity = (
            *("/usr/bin/setpriv", f"--reuid={service.user}", f"--regid={service.group or service.user}"),
            *(groups, "--"),
        )
    host = names.enter_host(service.inside) if service.inside else ()
    return (*service.shim, *host, *identity, *service.command)


def definition_hash(service: Service, unit: str, watched: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Return the hash that decides on a restart: of the unit, the watched files' content and the packages' versions.

    Args:
        service: the service.
        unit: the rendered unit or program section.
        watched: path -> hash of its content ("" if it is absent).
        versions: package -> installed version.
    """
    material = {
        "name": service.name,
        "command": list(service.command),
        "unit": unit,
        "watched": dict(sorted(watched.items())),
        "versions": dict(sorted(versions.items())),
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def to_json(service: Service) -> dict[str, object]:
    """Return the service as plain data, for the records that status, logs, down and clean read."""
    plain = asdict(service)
    plain["environment"] = dict(service.environment)
    return plain


def from_json(plain: Mapping[str, Any]) -> Service:
    """Rebuild a service that ``to_json`` wrote; fields that it does not know are left out."""
    known = {key: value for key, value in plain.items() if key in Service.__dataclass_fields__}
    values: dict[str, Any] = {key: _tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    raw = known.get("check")
    if isinstance(raw, dict):
        values["check"] = _check(raw)
    return Service(**values)


def _check(raw: Mapping[str, Any]) -> Check:
    return Check(
        kind=CheckKind(raw["kind"]),
        target=str(raw["target"]),
        command=tuple(raw["command"]),
        statuses=tuple(raw["statuses"]),
        timeout=float(raw["timeout"]),
    )


def _tuple(value: list[object]) -> tuple[object, ...]:
    return tuple(_tuple(item) if isinstance(item, list) else item for item in value)


def in_start_order(services: Iterable[Service]) -> tuple[Service, ...]:
    """Order services so that each stands after those that it requires; reversed, it is the order to stop them."""
    by_name = {service.name: service for service in services}
    ordered: dict[str, Service] = {}

    def place(service: Service, waiting: tuple[str, ...]) -> None:
        if service.name in waiting:
            raise ValueError(f"services require each other: {' > '.join((*waiting, service.name))}")
        for required in service.requires:
            if required in by_name and required not in ordered:
                place(by_name[required], (*waiting, service.name))
        ordered.setdefault(service.name, service)

    for service in by_name.values():
        place(service, ())
    return tuple(ordered.values())


def in_stop_order(services: Sequence[Service], stop: Callable[[Service], object]) -> None:
    """Call ``stop`` for all services side by side, for each after those that require it."""
    stopped: dict[str, Future[None]] = {}

    def stop_after_dependents(service: Service) -> None:
        for other in services:
            if service.name in other.requires:
                stopped[other.name].result()
        stop(service)

    if not services:
        return
    with ThreadPoolExecutor(len(services)) as pool:
        # Dependents are submitted first: what a service waits for is there already.
        for service in reversed(in_start_order(services)):
            stopped[service.name] = pool.submit(stop_after_dependents, service)
        for future in stopped.values():
            future.result()
