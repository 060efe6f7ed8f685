# SPDX-License-Identifier: Apache-2.0
"""An SSH server on each host of one machine, over which nova-compute migrates servers; pure.

It listens on the hosts' own network only, accepts one key of nova-compute's user, and always runs the receiver,
whatever command the client asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.nova import STATE_DIRECTORY
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.configuration.settings import Settings

SERVICE = "migration"
PORT = 8222
DIRECTORY = "/etc/nova/migration"
KEY, HOST_KEY = f"{DIRECTORY}/id_ed25519", f"{DIRECTORY}/host_key"
KNOWN_HOSTS, CLIENT = f"{DIRECTORY}/known_hosts", f"{DIRECTORY}/ssh_config"
AUTHORIZED_KEYS = f"{STATE_DIRECTORY}/.ssh/authorized_keys"
NO_SHELL = "/usr/sbin/nologin"
SHELL = "/bin/sh"  # what runs the receiver; a password this user never has


def server(settings: Settings) -> Service:
    """Return the SSH server of one host."""
    receiver = f"{settings.virtualenv}/bin/dockstack-migration-receiver --directory {STATE_DIRECTORY}/docker/migrations"
    address = f"{settings.tunnel_address}:{PORT}"
    closed = ("-s", "-g", "-j", "-k", "-T", "1")  # no passwords, no forwarding, one key
    return Service(
        name=SERVICE,
        title="SSH for servers that move here",
        command=("/usr/sbin/dropbear", "-F", "-E", "-p", address, "-r", HOST_KEY, *closed, "-c", receiver),
        user="nova",
        log="/var/log/nova/migration.log",
        check=Check(CheckKind.TCP, address),
        watch=(HOST_KEY,),
        packages=settings.distribution.packages_of("dropbear"),
    )


def driver_options() -> tuple[tuple[str, str], ...]:
    """Return the options of [docker] in nova.conf for migrations."""
    return (("migration_transport", "ssh"), ("migration_ssh_command", f"ssh -F {CLIENT}"))


def files(key: str, public: str, host_public: str, addresses: tuple[str, ...]) -> Mapping[str, str]:
    """Return the files of each host that are no program's own, by path.

    Args:
        key: the private key with which the hosts log in to each other.
        public: its public half.
        host_public: the public half of the key by which they know each other.
        addresses: of all hosts.
    """
    client = f"Port {PORT}\nUser nova\nIdentityFile {KEY}\nIdentitiesOnly yes\nUserKnownHostsFile {KNOWN_HOSTS}\n"
    known = "".join(f"[{address}]:{PORT} {host_public}\n" for address in addresses)
    return {KEY: key, CLIENT: client, KNOWN_HOSTS: known, AUTHORIZED_KEYS: f"{public}\n"}
