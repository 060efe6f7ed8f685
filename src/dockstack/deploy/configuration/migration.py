# SPDX-License-Identifier: Apache-2.0
"""An SSH server on each host, over which nova-compute migrates servers; pure.

It listens where the host's tunnels end, accepts keys of the other hosts' nova-compute only, and always runs the
receiver, whatever command the client asks for. The hosts of one machine share a pair of keys; nodes have their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.nova import STATE_DIRECTORY
from dockstack.deploy.paths import ETC, OPENSTACK_VENV
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.distributions import Distribution

SERVICE = "migration"
PORT = 8222
DIRECTORY = "/etc/nova/migration"
KEYS = f"{ETC}/migration"  # of root's; what nova-compute and the SSH server have are copies
CLIENT_PUBLIC, HOST_PUBLIC = f"{KEYS}/client.pub", f"{KEYS}/host.pub"
KEY, HOST_KEY = f"{DIRECTORY}/id_ed25519", f"{DIRECTORY}/host_key"
KNOWN_HOSTS, CLIENT = f"{DIRECTORY}/known_hosts", f"{DIRECTORY}/ssh_config"
AUTHORIZED_KEYS = f"{STATE_DIRECTORY}/.ssh/authorized_keys"
NO_SHELL = "/usr/sbin/nologin"
SHELL = "/bin/sh"  # what runs the receiver; a password this user never has
# The machine's own SSH server, if it has one, looks into the same file: there, too, a key opens the receiver only.
# dropbear refuses a key with an option that it does not know, such as no-user-rc; this one means all that there are.
CONFINED = "restrict"
RECEIVER = f"{OPENSTACK_VENV}/bin/dockstack-migration-receiver --directory {STATE_DIRECTORY}/docker/migrations"


def packages(distribution: Distribution) -> tuple[str, ...]:
    """Return the packages that a host needs for it."""
    return distribution.packages_of("dropbear", "ssh-keygen")


def server(settings: Settings) -> Service:
    """Return the SSH server of one host."""
    address = f"{settings.tunnel_address}:{PORT}"
    closed = ("-s", "-g", "-j", "-k", "-T", "1")  # no passwords, no forwarding, one key
    return Service(
        name=SERVICE,
        title="SSH for servers that move here",
        command=("/usr/sbin/dropbear", "-F", "-E", "-p", address, "-r", HOST_KEY, *closed, "-c", RECEIVER),
        user="nova",
        log="/var/log/nova/migration.log",
        check=Check(CheckKind.TCP, address),
        watch=(HOST_KEY,),
        packages=settings.distribution.packages_of("dropbear"),
    )


def options() -> tuple[tuple[str, str], ...]:
    """Return the options of [docker] in nova.conf for migrations."""
    return (("migration_transport", "ssh"), ("migration_ssh_command", f"ssh -F {CLIENT}"))


def own_files(key: str) -> dict[str, str]:
    """Return a host's files that do not speak of others, by path; ``key`` is the private one with which it logs in."""
    client = f"Port {PORT}\nUser nova\nIdentityFile {KEY}\nIdentitiesOnly yes\nUserKnownHostsFile {KNOWN_HOSTS}\n"
    return {KEY: key, CLIENT: client}


def acquaintances(let_in: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a host's files that speak of others, by path.

    Args:
        let_in: the public keys with which they log in.
        known: the public keys of their SSH servers, by address.
    """
    return {
        KNOWN_HOSTS: "".join(f"[{address}]:{PORT} {key}\n" for address, key in known.items()),
        AUTHORIZED_KEYS: "".join(f'{CONFINED},command="{RECEIVER}" {key}\n' for key in let_in),
    }
