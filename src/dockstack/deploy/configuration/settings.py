# SPDX-License-Identifier: Apache-2.0
"""All that the builders need to know about one cloud, as frozen facts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockstack.deploy.configuration.compatibility import PASSWORDS
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.paths import AUTHORITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.distributions import Distribution

SERVICE_USERS = ("keystone", "glance", "placement", "nova", "neutron")
"""The users that services run as, and the names of their SQL and Keystone accounts."""

DATABASES: Mapping[str, tuple[str, ...]] = {
    "keystone": ("keystone",),
    "glance": ("glance",),
    "placement": ("placement",),
    "nova": ("nova_api", "nova_cell0", "nova"),
    "neutron": ("neutron",),
}
"""Which databases each SQL account owns."""

SECRET_NAMES = (
    "admin_password",
    "demo_password",
    "rabbitmq_password",
    "rabbitmq_cookie",
    "metadata_secret",
    "registry_secret",
    "registry_password",
    "registry_database_password",
    "cinder_password",
    "cinder_database_password",
    "barbican_password",
    "barbican_database_password",
    "key_manager_secret",
    *(f"{user}_password" for user in SERVICE_USERS if user != "keystone"),
    *(f"{user}_database_password" for user in SERVICE_USERS),
    *PASSWORDS,
)
"""Every secret that one cloud has; letters and digits only, so that URLs need no quoting."""


@dataclass(frozen=True)
class Ports:
    """Where each listener answers."""

    keystone: int = 5000
    placement: int = 8778
    glance: int = 9292
    nova: int = 8774
    nova_metadata: int = 8775
    serial_console: int = 6083
    novnc: int = 6080
    neutron: int = 9696
    cinder: int = 8776
    barbican: int = 9311
    registry: int = 5005
    rabbitmq: int = 5672
    rabbitmq_distribution: int = 25672
    epmd: int = 4369
    ovn_northbound: int = 6641
    ovn_southbound: int = 6642


@dataclass(frozen=True)
class Networks:
    """The networks that a new cloud has."""

    external_name: str = "public"
    physical_network: str = "public"
    external_cidr: str = "198.51.100.0/24"
    external_gateway: str = "198.51.100.1"
    external_pool: tuple[str, str] = ("198.51.100.10", "198.51.100.250")
    external_bridge: str = "br-ex"  # "": a host without
    external_bandwidth: int = 10_000  # Mbit/s, each way
    tenant_name: str = "private"
    tenant_cidr: str = "10.77.0.0/24"
    tenant_cidr_v6: str = "fd77::/64"
    automatic_cidr: str = "10.78.0.0/16"
    router_name: str = "router1"
    dns_servers: tuple[str, ...] = ()
    masquerade: bool = True


@dataclass(frozen=True)
class ImageQuotas:
    """What each project may keep in Glance unless Keystone has a limit of its own for it; -1 is no limit."""

    size_gb: int = 50
    staged_gb: int = 50
    count: int = 1000
    uploads: int = 100


@dataclass(frozen=True)
class Settings:
    """One cloud on one controller.

    Attributes:
        bind_address: where the APIs, the message bus and the consoles' proxies listen.
        listen_address: where other machines come in; "": they do not.
        tls: whether what comes in there is encrypted, and ended by a proxy in front of ``bind_address``.
        controller_address: what everybody calls the controller, itself included.
        flavors: further ones, each as name:vcpus:memory:disk.
        compatibility: whose users, roles, flavors and clouds there shall be besides ours; "": nobody's.
        fork_server: whether Python services are forked from a process that has imported for them.
        http_images: whether Glance may have images that it reads from the registry; also where that ran once.
    """

    secrets: Mapping[str, str] = field(repr=False)
    hostname: str
    distribution: Distribution = DEBIAN_12
    bind_address: str = "127.0.0.1"
    listen_address: str = ""
    tls: bool = False
    controller_address: str = "127.0.0.1"
    tunnel_address: str = "127.0.0.1"
    region: str = "RegionOne"
    virtualenv: str = "/opt/dockstack/openstack"
    state_directory: str = "/var/lib/dockstack"
    run_directory: str = "/run/dockstack"
    datapath: str = "system"
    northbound: str = "unix:/run/ovn/ovnnb_db.sock"
    southbound: str = "unix:/run/ovn/ovnsb_db.sock"
    encap_type: str = "geneve"
    gateway_chassis: bool = True
    hosts: int = 1
    ports: Ports = Ports()
    networks: Networks = Networks()
    container_formats: tuple[str, ...] = ()
    image_store: str = "/var/lib/glance/images"
    image_size_limit_gb: int = 50
    image_quotas: ImageQuotas = ImageQuotas()
    registry: bool = False
    http_images: bool = False
    registry_store: str = "/var/lib/dockstack/registry"
    flavors: tuple[str, ...] = ()
    compatibility: str = ""
    volumes: bool = False
    volume_pool: str = "/var/lib/cinder/volumes"
    volume_backups: str = "/var/lib/cinder/backups"
    key_manager: bool = False
    fork_server: bool = False
    debug: bool = False
    compute_driver: str = ""
    hypervisor_options: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    metadata_extension: str = "metadata"
    agent_watch: tuple[str, ...] = ()
    cpu_allocation_ratio: float = 16.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    reserved_memory_mb: int = 512
    reserved_disk_mb: int = 1024
    concurrent_builds: int = 10
    api_threads: int = 4
    conductor_workers: int = 1
    scheduler_workers: int = 1
    buffer_pool_mb: int = 64
    database_connections: int = 300

    def with_driver_options(self, options: tuple[tuple[str, str], ...]) -> Settings:
        """Return them with further options of our driver in nova.conf, if this is a host of ours."""
        sections = tuple(
            (name, (*before, *options) if name == "docker" else before) for name, before in self.hypervisor_options
        )
        return replace(self, hypervisor_options=sections)

    def secret(self, name: str) -> str:
        """Return one of SECRET_NAMES."""
        return self.secrets[name]

    def url(self, port: int, path: str = "") -> str:
        """Return the address of an API as the catalogue shows it."""
        return f"http{'s' if self.tls else ''}://{self.controller_address}:{port}{path}"

    @property
    def local_address(self) -> str:
        """Where this machine itself reaches what listens on ``bind_address``."""
        return "127.0.0.1" if self.bind_address == "0.0.0.0" else self.bind_address

    @property
    def authority(self) -> str:
        """The file of whom clients of the APIs and of the message bus trust; "" without TLS."""
        return AUTHORITY if self.tls else ""

    @property
    def identity_url(self) -> str:
        """Keystone's address, with the version."""
        return self.url(self.ports.keystone, "/v3")

    @property
    def database_socket(self) -> str:
        """MariaDB's only listener."""
        return f"{self.run_directory}/mariadb/mariadb.sock"

    @property
    def memcached_socket(self) -> str:
        """Memcached's only listener."""
        return f"{self.run_directory}/memcached/memcached.sock"

    @property
    def transport_url(self) -> str:
        """RabbitMQ's address for oslo.messaging."""
        password = self.secret("rabbitmq_password")
        return f"rabbit://openstack:{password}@{self.controller_address}:{self.ports.rabbitmq}/"

    def database_url(self, user: str, database: str) -> str:
        """Return SQLAlchemy's address of one database."""
        password = self.secret(f"{user}_database_password")
        return (
            f"mysql+pymysql://{user}:{password}@localhost/{database}?unix_socket={self.database_socket}&charset=utf8mb4"
        )
