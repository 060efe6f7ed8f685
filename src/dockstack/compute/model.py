# SPDX-License-Identifier: Apache-2.0
"""What the rooms speak of: frozen facts about a server, free of Nova's and the engine's types."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ARCHIVE_FORMAT, REFERENCE_FORMAT = "docker", "dockerref"  # Glance's container formats
ROOT_DEVICE = "vda"  # what Nova's records call a server's root file system; volumes in it are vdb and so on
REFERENCE_BYTES = 512  # of a reference: its longest name, tag and digest


class PowerState(StrEnum):
    """A container's state in the words of Nova (nova/compute/power_state.py)."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    NOSTATE = "nostate"


@dataclass(frozen=True)
class Address:
    """One fixed address of a port."""

    cidr: str  # "10.0.0.5/24" or "fd00::5/64": the address with its subnet's prefix length
    gateway: str | None = None  # the subnet's gateway, if it has one
    dhcp: str | None = None  # the subnet's DHCP server, if Neutron runs one


@dataclass(frozen=True)
class Route:
    """A host route of a subnet."""

    destination: str  # CIDR
    gateway: str


@dataclass(frozen=True)
class Port:
    """A Neutron port as the server's network interface."""

    id: str
    mac: str
    device: str  # the host's end ("tap" + first 11 characters of the id)
    interface: str  # the server's end: "eth0", "eth1" in the order of the request
    network_id: str
    mtu: int
    bridge: str = "br-int"
    vif_type: str = "ovs"
    bridged: bool = False  # Neutron's agent filters on a Linux bridge between the device and the switch
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: tuple[str, ...] = ()
    active: bool = False


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node; a machine without any is one."""

    id: int
    cpus: frozenset[int]
    memory_mb: int
    socket: int | None  # None: its processors are on several
    siblings: tuple[frozenset[int], ...]  # the hyperthreads of each core


@dataclass(frozen=True)
class DiskRates:
    """What a server may read and write on the host's disk in a second; None: as much as there is."""

    read_bytes: int | None = None
    write_bytes: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclass(frozen=True)
class Bandwidth:
    """What a port may carry in one direction."""

    average_kb: int  # kilobytes a second
    burst_kb: int = 0  # kibibytes at once; 0: as little as works well


@dataclass(frozen=True)
class Limits:
    """What a flavor allows."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    pids: int = 4096
    nofile: int = 0  # 0: the engine's default
    cpu_shares: int | None = None  # None: 1024 a vCPU
    cpu_period: int | None = None  # microseconds; None: the kernel's default
    cpu_quota: int | None = None  # microseconds of each vCPU in a period; None: all of it
    swap_mb: int = 0
    pinned: tuple[int, ...] = ()  # the host's processors that are the server's own
    memory_nodes: tuple[int, ...] = ()  # the host's NUMA nodes; none: all
    cpus: tuple[int, ...] = ()  # the host's processors that it runs on; none: all
    disk_rates: DiskRates = DiskRates()
    inbound: Bandwidth | None = None  # of each port; None: as much as there is
    outbound: Bandwidth | None = None


@dataclass(frozen=True)
class Confinement:
    """How closely a server is kept: its flavor's choice, and so the operator's; never an image's or a tenant's."""

    no_new_privileges: bool = False  # setuid programs, such as sudo and su, gain nothing
    privileged: bool = False  # everything that root on the host may
    cap_add: tuple[str, ...] = ()  # capabilities beside the usual ones, without "CAP_"
    cap_drop: tuple[str, ...] = ()  # of the usual ones
    devices: tuple[str, ...] = ()  # device nodes of the host
    runtime: str = ""  # the engine's name of another runtime; empty for the usual one
    volume_mounts: str = "kernel"  # how it may mount its volumes itself: one of extra_specs.MOUNT_POLICIES


@dataclass(frozen=True)
class Source:
    """An image in a registry, pinned to its content."""

    registry: str
    repository: str
    digest: str  # of its manifest, or of the index that has it for several platforms
    platform: str = ""  # as docker_platform says; empty: the host's
    token: str | None = field(default=None, repr=False, compare=False)  # Keystone's, of whoever asks for it


@dataclass(frozen=True)
class Image:
    """A Glance image that a server boots from."""

    id: str
    name: str
    checksum: str | None = None  # os_hash_value if Glance has one
    size: int | None = None  # bytes as stored in Glance
    disk_format: str | None = None
    container_format: str | None = None
    properties: dict[str, str] = field(default_factory=dict)  # every property, also those that Nova does not know
    source: Source | None = None  # where its content is, if Glance has only a reference
    trust: str = ""  # whose signature its data must have; empty: nobody's
    returning: bool = False  # the server's own root file system, which may have outgrown the flavor's disk

    @property
    def may_point(self) -> bool:
        """Whether its data may be a reference to a registry: nothing else is as short."""
        if self.container_format == REFERENCE_FORMAT:
            return True
        return self.container_format == ARCHIVE_FORMAT and self.size is not None and self.size <= REFERENCE_BYTES


@dataclass(frozen=True)
class Snapshot:
    """A server's root file system as an image, ready to be sent."""

    architecture: str  # the machine's, as uname names it
    disk_gb: int  # what a flavor's disk must have
    settings: dict[str, str]  # how it runs, in image properties: each as it would have to be set to change nothing
    archive: Callable[[], Generator[bytes]] = field(compare=False, repr=False)  # starts reading it; once


@dataclass(frozen=True)
class InjectedFile:
    """A file that a server's owner wants in it from the start."""

    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Server:
    """A Nova server, whole: all that the rooms need to build its container."""

    uuid: str
    name: str
    hostname: str
    project_id: str
    user_id: str
    flavor: str
    image: Image
    limits: Limits
    ports: tuple[Port, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    admin_password: str | None = field(default=None, repr=False)
    key_data: str | None = None  # the public key, in OpenSSH's format
    confinement: Confinement = Confinement()
    files: tuple[InjectedFile, ...] = ()
    rescued: bool = False  # another image is to run in its place: whatever else does is none of Nova's doing
    volumes: tuple[Volume, ...] | None = None  # that it has; None where Nova did not say it with its call

    @property
    def root_volume(self) -> str:
        """The id of the volume that is its root file system, as far as Nova said so with its call."""
        return next((volume.id for volume in self.volumes or () if volume.is_root), "")

    @property
    def container_name(self) -> str:
        """The container's name; unique, so that a create is idempotent."""
        return NAME_PREFIX + self.uuid


@dataclass(frozen=True)
class Ephemeral:
    """A disk that a host makes for a server, and that goes with it."""

    size_gb: int
    file_system: str
    label: str  # by which the server finds it


@dataclass(frozen=True)
class Volume:
    """A Cinder volume that Nova has attached to a server, or is attaching; or another disk that it gets as a device."""

    id: str
    device: str  # its name in the server: "vdb"
    protocol: str = ""  # how hosts reach it, in os-brick's words; empty: Cinder has not said so yet
    connection: dict[str, object] = field(default_factory=dict, repr=False)  # may hold secrets
    read_only: bool = False
    rates: DiskRates = DiskRates()
    ephemeral: Ephemeral | None = None  # it is one, and no volume of Cinder's

    @property
    def is_root(self) -> bool:
        """Whether it holds the server's root file system: no device of the server, but what it stands on."""
        return self.device == ROOT_DEVICE

    @property
    def encrypted(self) -> bool:
        """Whether hosts have to decrypt it."""
        return bool(self.connection.get("encrypted"))


@dataclass(frozen=True)
class Encryption:
    """How a volume is encrypted, and what opens it."""

    key: bytes = field(repr=False)
    provider: str = "luks"  # in os-brick's words
    cipher: str = "aes-xts-plain64"  # as cryptsetup calls it; of a volume that has no header yet
    bits: int = 256


@dataclass(frozen=True)
class Device:
    """A volume as a block device of this host."""

    volume: Volume
    major: int
    minor: int
    size: int  # bytes


@dataclass(frozen=True)
class DeviceUsage:
    """What a server's processes moved to and from one block device."""

    read_requests: int = 0
    read_bytes: int = 0
    written_requests: int = 0
    written_bytes: int = 0


@dataclass(frozen=True)
class Destination:
    """The other host of a move."""

    name: str  # Nova's
    address: str
