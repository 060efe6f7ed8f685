# SPDX-License-Identifier: Apache-2.0
"""SSH servers, over which servers migrate: between the hosts of this machine, and from a node of a cloud to others."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

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

_KEY, _HOST_KEY = f"{migration.KEYS}/id_ed25519", f"{migration.KEYS}/host_key"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that lets hosts send this one servers; where none can reach it, it removes that."""
    if not isinstance(chosen(node), Docker) or not node.has(Role.CONTROLLER):
        return ()
    keys = hosts.further_keys(node.attributes)
    after = ("nova-files", "openstack-environment", "compute", *(f"{key}-compute" for key in keys))
    return (Stage("migration", "Letting hosts send each other servers", start, after, phase="services"),)


def start(machine: Machine) -> None:
    """Have an SSH server on each host, with a key pair that only the hosts have.

    A host whose tunnels other machines reach has one for these, too: nodes may come at any time. Whom it lets in, and
    that is nobody until then, it is told as nodes are.
    """
    settings = settings_of(machine)
    own = migration.server(settings)
    others = hosts.extra_hosts(machine.attributes, settings.hostname)
    if not others:
        if ipaddress.ip_address(settings.tunnel_address).is_loopback:
            remove(machine)
        else:
            start_on_node(machine, replace(own, requires=("ovs-vswitchd",)))  # its address may be on a bridge
        return
    for path in (migration.CLIENT_PUBLIC, migration.HOST_PUBLIC):  # by which nodes know a host that is alone
        machine.absent(path)
    _prepare(machine)
    addresses = (settings.tunnel_address, *(host.tunnel_address for host in others))
    _place(machine, own, "", addresses)
    for host in others:
        service = migration.server(extra_hosts.settings_on(settings, host))
        _place(machine, extra_hosts.entered(service, host.key, ()), hosts.state_directory(host.key), addresses)


def remove(machine: Machine) -> None:
    """Let nobody in any more, if anybody was: the server, the keys and nova's shell go; killed, the next run goes on.

    The record goes last: by it, what is left of the others is known.
    """
    for service in machine.records.services():
        if service.name == migration.SERVICE:
            _give_shell(machine, migration.NO_SHELL)
            for path in (migration.DIRECTORY, migration.AUTHORIZED_KEYS, migration.KEYS):
                machine.absent(path)
            host_removal.forget(machine, service)


def start_on_node(machine: Machine, service: Service) -> None:
    """Have an SSH server with keys of this node's own; whom it knows and lets in, it is told when others are there."""
    _prepare(machine)
    _give_keys(machine, "")
    for path in migration.acquaintances((), {}):
        machine.manifest.made("file", path)
    for path, public in ((migration.CLIENT_PUBLIC, _public(machine)), (migration.HOST_PUBLIC, _host_public(machine))):
        machine.file(path, f"{public}\n")
    ensure_running(machine, service)


def _prepare(machine: Machine) -> None:
    machine.packages(*migration.packages(machine.distribution))
    _give_shell(machine, migration.SHELL)
    make_keys(machine)


def _give_shell(machine: Machine, shell: str) -> None:
    machine.command(["usermod", "--shell", shell, "nova"], unless=f"getent passwd nova | grep -q ':{shell}$'")


def make_keys(machine: Machine) -> None:
    """Make the hosts' client key and their host key, once for this machine."""
    machine.directory(migration.KEYS, mode=0o700)
    for path, line in (
        (_KEY, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nova", "-f", _KEY]),
        (_HOST_KEY, ["dropbearkey", "-t", "ed25519", "-f", _HOST_KEY]),
    ):
        machine.manifest.made("file", path)
        machine.command(line, unless=["test", "-e", path])
    machine.manifest.made("file", f"{_KEY}.pub")


def _place(machine: Machine, service: Service, root: str, addresses: tuple[str, ...]) -> None:
    """Write a host's files below ``root`` and have its server running; all hosts here have the same keys."""
    _give_keys(machine, root)
    others = migration.acquaintances([_public(machine)], dict.fromkeys(addresses, _host_public(machine)))
    for path, content in others.items():
        machine.file(f"{root}{path}", content, owner="nova", mode=0o600)
    ensure_running(machine, service)


def _give_keys(machine: Machine, root: str) -> None:
    for directory in (migration.DIRECTORY, migration.AUTHORIZED_KEYS.rpartition("/")[0]):
        machine.directory(f"{root}{directory}", owner="nova", mode=0o700)
    key = machine.run(["cat", _KEY]).stdout
    for path, content in migration.own_files(f"{key.strip()}\n").items():
        machine.file(f"{root}{path}", content, owner="nova", mode=0o600)
    copy = ["install", "-o", "nova", "-g", "nova", "-m", "0600", _HOST_KEY, f"{root}{migration.HOST_KEY}"]
    machine.manifest.made("file", f"{root}{migration.HOST_KEY}")
    machine.command(copy, unless=["cmp", "-s", _HOST_KEY, f"{root}{migration.HOST_KEY}"])


def _public(machine: Machine) -> str:
    return machine.run(["ssh-keygen", "-y", "-f", _KEY]).stdout.strip()


def _host_public(machine: Machine) -> str:
    shown = machine.run(["dropbearkey", "-y", "-f", _HOST_KEY]).lines
    return next(" ".join(line.split()[:2]) for line in shown if line.startswith("ssh-ed25519 "))
