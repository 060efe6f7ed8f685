# SPDX-License-Identifier: Apache-2.0
"""SSH servers, over which servers migrate between the hosts of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import extra_hosts, migration
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node

KEYS = f"{paths.ETC}/migration"
_KEY, _HOST_KEY = f"{KEYS}/id_ed25519", f"{KEYS}/host_key"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that lets the hosts of one machine log in to each other; on a single host it removes that."""
    if not isinstance(chosen(node), Docker) or not node.has(Role.CONTROLLER):
        return ()
    keys = [f"{hosts.PREFIX}{number}" for number in range(hosts.FIRST, node.attributes.number("hosts") + 1)]
    after = ("nova-files", "openstack-environment", "compute", *(f"{key}-compute" for key in keys))
    return (Stage("migration", "Letting hosts send each other servers", start, after, phase="services"),)


def start(machine: Machine) -> None:
    """Have an SSH server on each host, with a key pair that only the hosts have."""
    settings = settings_of(machine)
    own = migration.server(settings)
    others = hosts.extra_hosts(machine.attributes, settings.hostname)
    if not others:
        if any(service.name == own.name for service in machine.records.services()):
            host_removal.forget(machine, own)
            _give_shell(machine, migration.NO_SHELL)
        return
    machine.packages(*machine.distribution.packages_of("dropbear", "ssh-keygen"))
    _give_shell(machine, migration.SHELL)
    make_keys(machine)
    addresses = (settings.tunnel_address, *(host.tunnel_address for host in others))
    _place(machine, own, "", addresses)
    for host in others:
        service = migration.server(extra_hosts.settings_on(settings, host))
        _place(machine, extra_hosts.entered(service, host.key, ()), hosts.state_directory(host.key), addresses)


def _give_shell(machine: Machine, shell: str) -> None:
    machine.command(["usermod", "--shell", shell, "nova"], unless=f"getent passwd nova | grep -q ':{shell}$'")


def make_keys(machine: Machine) -> None:
    """Make the hosts' client key and their host key, once for this machine."""
    machine.directory(KEYS, mode=0o700)
    for path, line in (
        (_KEY, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nova", "-f", _KEY]),
        (_HOST_KEY, ["dropbearkey", "-t", "ed25519", "-f", _HOST_KEY]),
    ):
        machine.manifest.made("file", path)
        machine.command(line, unless=["test", "-e", path])
    machine.manifest.made("file", f"{_KEY}.pub")


def _place(machine: Machine, service: Service, root: str, addresses: tuple[str, ...]) -> None:
    """Write a host's files below ``root`` and have its server running."""
    public = machine.run(["ssh-keygen", "-y", "-f", _KEY]).stdout.strip()
    shown = machine.run(["dropbearkey", "-y", "-f", _HOST_KEY]).lines
    host_public = next(" ".join(line.split()[:2]) for line in shown if line.startswith("ssh-ed25519 "))
    for directory in (migration.DIRECTORY, migration.AUTHORIZED_KEYS.rpartition("/")[0]):
        machine.directory(f"{root}{directory}", owner="nova", mode=0o700)
    key = machine.run(["cat", _KEY]).stdout
    for path, content in migration.files(f"{key.strip()}\n", public, host_public, addresses).items():
        machine.file(f"{root}{path}", content, owner="nova", mode=0o600)
    copy = ["install", "-o", "nova", "-g", "nova", "-m", "0600", _HOST_KEY, f"{root}{migration.HOST_KEY}"]
    machine.manifest.made("file", f"{root}{migration.HOST_KEY}")
    machine.command(copy, unless=["cmp", "-s", _HOST_KEY, f"{root}{migration.HOST_KEY}"])
    ensure_running(machine, service)
