# SPDX-License-Identifier: Apache-2.0
"""What the engine takes and gives, typed and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dockstack.compute.model import PowerState
from dockstack.names import NAME_PREFIX, UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

_POWER_STATES = {
    "running": PowerState.RUNNING,
    "paused": PowerState.PAUSED,
    "created": PowerState.SHUTDOWN,
    "exited": PowerState.SHUTDOWN,
    "removing": PowerState.SHUTDOWN,
    "dead": PowerState.CRASHED,
}


@dataclass(frozen=True)
class EngineInfo:
    """An engine as it describes itself and its machine."""

    name: str
    version: str
    api_version: str
    cpus: int
    memory_bytes: int
    root_directory: str
    storage_driver: str
    kernel: str
    architecture: str  # as `uname -m` says it
    cgroup_version: int
    runtimes: tuple[str, ...]
    live_restore: bool
    security_options: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The directories of which overlay2 makes a container's root file system."""

    lower: tuple[str, ...]  # the uppermost first
    upper: str
    work: str

    @classmethod
    def of_driver(cls, entry: Mapping[str, Any]) -> Layers | None:
        """Read the graph driver's part of an inspection; None if it is another than overlay2."""
        data = entry.get("Data") or {}
        if entry.get("Name") != "overlay2" or not {"LowerDir", "UpperDir", "WorkDir"} <= set(data):
            return None
        return cls(tuple(data["LowerDir"].split(":")), data["UpperDir"], data["WorkDir"])


@dataclass(frozen=True)
class Container:
    """A container of ours; what a listing cannot say keeps its default."""

    id: str
    name: str
    state: PowerState
    labels: dict[str, str] = field(default_factory=dict)
    image_id: str = ""
    created_at: str = ""  # RFC 3339
    pid: int = 0  # 0: no process
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""  # why the last start failed
    started_at: str = ""
    finished_at: str = ""
    host_config: dict[str, Any] = field(default_factory=dict)  # its limits among much else, in the engine's words
    tty: bool = False  # its first process has a terminal
    command: tuple[str, ...] = ()  # its first process
    layers: Layers | None = None  # None: its root file system is made otherwise

    @property
    def server_uuid(self) -> str:
        """The server that the container is or was made for."""
        return self.labels.get(UUID_LABEL, "")

    @property
    def ours(self) -> bool:
        """Whether name and label agree.

        A label alone proves nothing: an image made from a server carries the server's labels,
        and whatever an operator runs from it carries them too.
        """
        return bool(self.server_uuid) and self.name.startswith(NAME_PREFIX + self.server_uuid)

    @property
    def current(self) -> bool:
        """Whether it is its server now, and not what was set aside for a while."""
        return self.name == NAME_PREFIX + self.server_uuid

    @classmethod
    def of_listing(cls, entry: Mapping[str, Any]) -> Container:
        """Read one entry of GET /containers/json."""
        names = entry.get("Names") or [""]
        return cls(
            id=entry["Id"],
            name=names[0].removeprefix("/"),
            state=power_state(entry.get("State", "")),
            labels=dict(entry.get("Labels") or {}),
            image_id=entry.get("ImageID", ""),
        )

    @classmethod
    def of_inspection(cls, entry: Mapping[str, Any]) -> Container:
        """Read the answer of GET /containers/{id}/json."""
        state = entry["State"]
        return cls(
            id=entry["Id"],
            name=entry["Name"].removeprefix("/"),
            state=power_state(state["Status"]),
            labels=dict(entry["Config"].get("Labels") or {}),
            image_id=entry["Image"],
            created_at=entry["Created"],
            pid=state["Pid"],
            exit_code=None if state["Pid"] else state["ExitCode"],
            oom_killed=state["OOMKilled"],
            error=state["Error"],
            started_at=state["StartedAt"],
            finished_at=state["FinishedAt"],
            host_config=dict(entry.get("HostConfig") or {}),
            tty=bool(entry["Config"].get("Tty")),
            command=(entry["Path"], *(entry.get("Args") or ())) if entry.get("Path") else (),
            layers=Layers.of_driver(entry.get("GraphDriver") or {}),
        )


@dataclass(frozen=True)
class EngineImage:
    """An image in the engine's store."""

    id: str  # "sha256:..."
    config: dict[str, Any]  # the process: Env, Cmd, Entrypoint, ...
    size: int  # bytes, unpacked
    architecture: str  # Go's name: amd64, arm64
    os: str
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    tagged_at: str = ""  # RFC 3339: when it was last given a name here; empty if not known


class EventKind(StrEnum):
    """What happened to a container, in the words of Nova's lifecycle events."""

    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"


class Event(NamedTuple):
    """One event of a container of ours."""

    server_uuid: str
    kind: EventKind
    time_ns: int
    container_id: str = ""


class GuestFile(NamedTuple):
    """A plain file inside a container."""

    data: bytes
    mode: int
    uid: int
    gid: int


class Execution(NamedTuple):
    """What a command inside a container came to."""

    exit_code: int
    output: bytes  # standard output and error, as they came


@dataclass(frozen=True)
class ContainerSpec:
    """All that the engine needs to create a container.

    ``limits`` is in the engine's own words (see containers/limits.py), so that a live update uses the same.
    """

    image: str  # always an id, never a name: a tag can be moved by whoever loads an image
    hostname: str
    runtime: str
    labels: dict[str, str]
    limits: dict[str, Any]
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""
    working_directory: str = ""
    stop_signal: str | None = None
    stop_timeout: int | None = None
    tty: bool = False
    init: bool = False
    healthcheck: dict[str, Any] = field(default_factory=lambda: {"Test": ["NONE"]})
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    privileged: bool = False
    devices: tuple[str, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()  # tmpfs only, in the engine's words
    tmpfs: dict[str, str] = field(default_factory=dict)
    log_max_size: str = "10m"
    log_max_files: int = 2

    def body(self) -> dict[str, Any]:
        """Say it in the engine's words: the body of POST /containers/create."""
        body = {
            "Image": self.image,
            "Hostname": self.hostname,
            "Env": list(self.environment),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "User": self.user,
            "WorkingDir": self.working_directory,
            "Labels": dict(self.labels),
            "Tty": self.tty,
            "OpenStdin": self.tty,
            "StdinOnce": False,
            "Healthcheck": dict(self.healthcheck),
            "HostConfig": self._host_config(),
        }
        if self.stop_signal is not None:
            body["StopSignal"] = self.stop_signal
        if self.stop_timeout is not None:
            body["StopTimeout"] = self.stop_timeout
        return body

    def _host_config(self) -> dict[str, Any]:
        return {
            **self.limits,
            "Runtime": self.runtime,
            "NetworkMode": "none",
            "RestartPolicy": {"Name": "no"},
            "Privileged": self.privileged,
            "Devices": [
                {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"} for path in self.devices
            ],
            "CapDrop": ["ALL"],
            "CapAdd": list(self.capabilities),
            # said either way, as the engine may have a default of its own
            "SecurityOpt": [f"no-new-privileges={str(self.no_new_privileges).lower()}"],
            "Init": self.init,
            "Tmpfs": dict(self.tmpfs),
            "Mounts": [mount for mount in self.mounts if mount["Target"] not in self.tmpfs],
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": self.log_max_size, "max-file": str(self.log_max_files)},
            },
        }


def power_state(status: str) -> PowerState:
    """Translate the engine's word; one that we do not know (a restart in progress) is NOSTATE."""
    return _POWER_STATES.get(status, PowerState.NOSTATE)
