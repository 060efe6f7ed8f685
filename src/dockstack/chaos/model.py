# SPDX-License-Identifier: Apache-2.0
"""What a story of chaos is made of, and what may be found at its end; pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

GONE = "GONE"  # not a status of Nova's: the server does not exist


class Action(StrEnum):
    """What is done to a server."""

    CREATE = "create"
    DELETE = "delete"
    REBOOT_SOFT = "reboot-soft"
    REBOOT_HARD = "reboot-hard"
    STOP = "stop"
    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    REBUILD = "rebuild"
    SNAPSHOT = "snapshot"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    RESIZE = "resize"
    MIGRATE = "migrate"
    CONFIRM = "confirm"
    REVERT = "revert"
    ATTACH = "attach"
    DETACH = "detach"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    VOLUME_ATTACH = "volume-attach"
    VOLUME_DETACH = "volume-detach"
    VOLUME_EXTEND = "volume-extend"
    VOLUME_SNAPSHOT = "volume-snapshot"
    RECOVER = "recover"  # reset-state and a hard reboot, for a server in ERROR; never drawn


class Victim(StrEnum):
    """What is killed; the value is what a story and a journal call it."""

    COMPUTE = "nova-compute"
    ENGINE = "docker"
    CONTAINERD = "containerd"
    SHIM = "shim"
    LXCFS = "lxcfs"
    SWITCH = "ovs-vswitchd"
    SWITCH_DATABASE = "ovsdb"
    CONTROLLER = "ovn-controller"
    AGENT = "neutron-ovn-agent"
    MIGRATION = "migration"
    BUS = "rabbitmq"
    DATABASE = "mariadb"
    CONDUCTOR = "nova-conductor"
    SCHEDULER = "nova-scheduler"
    NOVA_API = "nova-api"
    NEUTRON_API = "neutron-api"
    PLACEMENT_API = "placement-api"
    GLANCE_API = "glance-api"
    KEYSTONE = "keystone"
    NORTHD = "ovn-northd"
    SOUTHBOUND = "ovn-sb"
    VOLUMES = "cinder-volume"
    MOUNTS = "mount-broker"
    HOST = "host"


@dataclass(frozen=True)
class Act:
    """One decided action.

    Attributes:
        number: counts a slot's decisions.
        slot: whose server; a slot has one server at a time.
        action: what to do.
        pause: seconds to wait first.
    """

    number: int
    slot: int
    action: Action
    pause: float


@dataclass(frozen=True)
class Kill:
    """One decided kill.

    Attributes:
        number: counts the kills.
        at: seconds after the start.
        victim: what.
        host: on which of the hosts, counted from 0, the machine itself; 0 for what the cloud has once.
        slot: whose server's shim.
        away: for how many seconds a killed host stays away.
    """

    number: int
    at: float
    victim: Victim
    host: int = 0
    slot: int = 0
    away: float = 0.0


@dataclass(frozen=True)
class Wishes:
    """What decides on a story besides its seed."""

    seed: int
    minutes: float
    kills: int
    servers: int
    hosts: int
    victims: tuple[Victim, ...] = ()  # none: whatever there is
    volumes: bool = False  # servers have them


@dataclass(frozen=True)
class Story:
    """All decisions of a run: for each slot its acts in their order, and the kills."""

    wishes: Wishes
    acts: tuple[tuple[Act, ...], ...]
    kills: tuple[Kill, ...]


class Category(StrEnum):
    """How bad a finding is."""

    LOST = "lost"  # a server or what it wrote
    LEFT_OVER = "left over"  # something of what was deleted
    STUCK = "stuck"  # nobody is going to end what was begun
    WRONG = "wrong"  # it is other than Nova, Neutron or Placement says


@dataclass(frozen=True)
class Finding:
    """One broken invariant.

    Attributes:
        invariant: its name.
        subject: what breaks it: a server's id, a service, a path.
        details: how.
    """

    category: Category
    invariant: str
    subject: str
    details: str

    def as_dict(self) -> dict[str, str]:
        """Return plain values, for JSON."""
        return asdict(self) | {"category": self.category.value}


@dataclass(frozen=True)
class Nic:
    """A server's network interface, as Neutron or as the kernel has it."""

    mac: str
    addresses: frozenset[str]  # without prefix lengths


@dataclass(frozen=True)
class Port:
    """A port of Neutron's, with where OVN has it."""

    id: str
    nic: Nic
    host: str
    status: str

    @property
    def device(self) -> str:
        """The host's end of the server's interface."""
        return f"tap{self.id[:11]}"


@dataclass(frozen=True)
class Allocation:
    """What Placement holds for somebody on a provider."""

    provider: str  # its name: that of a host
    resources: dict[str, int]


@dataclass(frozen=True)
class Truth:
    """What the APIs say of one server that should exist.

    Attributes:
        allocations: what Placement holds for it.
        memory_mb: its flavor's.
        vcpus: its flavor's.
    """

    id: str
    name: str
    status: str
    task: str | None
    host: str
    memory_mb: int
    vcpus: int
    ports: tuple[Port, ...]
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True)
class Volume:
    """A volume of the run's, as Cinder has it; ``servers``: those that it is attached to."""

    id: str
    status: str
    servers: frozenset[str]


@dataclass(frozen=True)
class Container:
    """A container as the engine shows it, with the limits that its control group has while it runs.

    Attributes:
        memory: bytes.
        cpu: processors that the quota allows.
        pids: processes and threads.
        made_with_pids: what the engine was told of those; no API of Nova's says it.
    """

    id: str
    name: str
    server: str  # the label's; empty for a snapshot's copy
    running: bool
    paused: bool
    pid: int
    memory: int
    cpu: float
    pids: int
    made_with_pids: int


@dataclass(frozen=True)
class HostView:
    """All that one host holds of servers.

    Attributes:
        key: the further host's; empty for the machine itself.
        name: Nova's.
        namespaces: of servers, by the server's id, with their interfaces.
        switch_ports: of the switch that servers are plugged into.
        patches: ids of the containers that the runtime has notes on.
        files: what lies below the driver's state directory, relative to it.
        volumes: servers with the volumes that they hold here, as it is written down.
    """

    key: str
    name: str
    containers: tuple[Container, ...] = ()
    namespaces: dict[str, tuple[Nic, ...]] = field(default_factory=dict)
    switch_ports: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    patches: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()  # images of snapshots under way
    volumes: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Survey:
    """All that can be seen at one moment.

    Attributes:
        deleted: servers that were made and deleted, with the ids of their ports.
        chassis: where OVN has ports, by their ids: the host's name, or empty if they are bound to none.
        consumers: who holds something in Placement, by provider's name.
        known: all servers that Nova has, strangers' too.
        migrations: unended ones, by the server's id, with their states.
        living: ids of the containers that have processes, whatever their engines say.
        spools: files without a name that some process has open in a workspace of images.
        loops: files behind loop devices that were not there at the start.
        owned: Neutron's ports by the id of the server that has them.
        volumes: the run's.
    """

    truths: tuple[Truth, ...]
    hosts: tuple[HostView, ...]
    deleted: dict[str, tuple[str, ...]]
    chassis: dict[str, str]
    consumers: dict[str, frozenset[str]]
    known: frozenset[str]
    migrations: dict[str, str]
    living: frozenset[str]
    spools: frozenset[str]
    loops: tuple[str, ...]
    owned: dict[str, tuple[str, ...]]
    volumes: tuple[Volume, ...] = ()


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        recovered: servers in ERROR that a reset and a hard reboot brought back, with their files.
        unbuilt: servers that ended in ERROR, with a fault, before they ever ran.
        healed: findings that went away while we waited for calm.
    """

    kills: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    servers: int = 0
    recovered: int = 0
    unbuilt: int = 0
    lines: int = 0
    calm_seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def count(self, category: Category) -> int:
        """Count the findings of a category."""
        return sum(1 for finding in self.findings if finding.category is category)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        counts = {category.value.replace(" ", "_"): self.count(category) for category in Category}
        return asdict(self) | {"findings": [finding.as_dict() for finding in self.findings], "counts": counts}
