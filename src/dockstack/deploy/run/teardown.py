# SPDX-License-Identifier: Apache-2.0
"""``down`` and ``clean``: stop in reverse order; remove what the manifest says we made, and nothing else."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.hypervisors import chosen, storage
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dockstack.deploy.node.manifest import Made
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service

ENGINE_SERVICES = {"docker"}  # stopped by the hypervisor's own verb, after nova-compute
SWITCH_SERVICES = {"ovsdb", "ovs-vswitchd"}
NEEDED_TO_CLEAN = ENGINE_SERVICES | SWITCH_SERVICES


def down(machine: Machine) -> None:
    """Stop all services, nova-compute before the hypervisor; servers and data stay."""
    _stop(machine, [service for service in machine.records.services() if service.name not in ENGINE_SERVICES])
    plugin = chosen(machine.node)
    if plugin is not None:
        plugin.stop(machine)
    machine.backend.finish()


def _stop(machine: Machine, services: Sequence[Service]) -> None:
    machine.backend.stop_all(services, lambda service: machine.say(f"Stopped {service.name}"))


def clean(machine: Machine, *, packages: bool) -> list[str]:
    """Remove all that we made on a node; return what was left on purpose, for the person to know."""
    entries = machine.manifest.entries()
    _wake(machine)
    plugin = chosen(machine.node)
    if plugin is not None:
        plugin.refuse_hung(machine)
    for key in hosts.keys_of(service.name for service in machine.records.services() if service.inside):
        host_removal.remove_host(machine, key)
    # First those that would answer what is removed by making it anew: OVN its bridge, Nova its servers.
    _stop(machine, [service for service in machine.records.services() if service.name not in NEEDED_TO_CLEAN])
    if plugin is not None:
        plugin.cleanup(machine)
    _remove(machine, entries, _WHILE_RUNNING)
    _stop(machine, [service for service in machine.records.services() if service.name in SWITCH_SERVICES])
    if plugin is not None:
        plugin.stop(machine)
    for service in reversed(machine.records.services()):
        machine.backend.remove(service)
        machine.records.forget(service.name)
        machine.absent(service.log_path)
    machine.backend.finish()
    machine.backend.leave()
    _remove(machine, entries, _AFTERWARDS)
    left = [entry.name for entry in entries if entry.kind == "package"]
    if packages and left:
        _remove_packages(machine, left)
        left = []
    machine.absent(paths.LOG)
    machine.absent(paths.RUN)
    machine.absent(paths.VAR)
    machine.absent(paths.OPT)
    machine.absent(paths.ETC)
    return left


def _wake(machine: Machine) -> None:
    """Have what knows of our servers and bridges running: after `down`, they could not be removed otherwise."""
    try:
        for service in machine.records.services():
            if service.name in NEEDED_TO_CLEAN and not machine.backend.look(service).running:
                machine.backend.wake()
                ensure_running(machine, service)
    except (DockstackError, OSError) as error:
        machine.say(f"Going on without the engine or the switch, which do not start: {error}")


def _remove_packages(machine: Machine, names: Sequence[str]) -> None:
    """Purge packages; an engine is only removed: purging it would take containers and images of others along."""
    machine.say("Removing packages")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    engine = machine.attributes.text("docker.package")
    purged = [name for name in names if name != engine]
    for verb, chosen_names in (("purge", purged), ("remove", [name for name in names if name == engine])):
        if chosen_names:
            machine.command(["apt-get", "-qy", verb, *chosen_names], environment=environment)
    machine.command(["apt-get", "-qy", "autoremove"], environment=environment)


def retire(machine: Machine, wanted: Collection[str]) -> list[str]:
    """Stop and forget services that the attributes do not ask for any more; an engine goes on for its servers' sake."""
    retired = []
    for service in reversed(machine.records.services()):
        if service.name not in wanted and service.name not in ENGINE_SERVICES:
            machine.say(f"Removing {service.name}, which is not wanted any more")
            machine.backend.remove(service)
            machine.records.forget(service.name)
            retired.append(service.name)
    return retired


def _remove(machine: Machine, entries: Sequence[Made], verbs: dict[str, Callable[[Machine, Made], None]]) -> None:
    for entry in reversed(entries):
        verb = verbs.get(entry.kind)
        if verb is not None:
            verb(machine, entry)


def _bridge(machine: Machine, entry: Made) -> None:
    machine.run(["ovs-vsctl", "--timeout=10", "--if-exists", "del-br", entry.name], check=False)


def _masquerade(machine: Machine, entry: Made) -> None:
    """Take out every firewall rule that carries our comment."""
    del entry
    for table in ("nat", "filter", "mangle"):
        for line in machine.run(["iptables", "-t", table, "-S"], check=False).lines:
            if line.startswith("-A ") and " --comment dockstack " in f"{line} ":
                machine.run(["iptables", "-w", "-t", table, "-D", *shlex.split(line)[1:]], check=False)


def _link(machine: Machine, entry: Made) -> None:
    machine.run(["ip", "link", "delete", entry.name], check=False)


def _host(machine: Machine, entry: Made) -> None:
    host_removal.remove_namespaces(machine, entry.name)


def _metadata_namespaces(machine: Machine, entry: Made) -> None:
    """End Neutron's metadata proxies, which outlive their agent, and remove their namespaces."""
    del entry
    machine.run(
        "for space in $(ip netns list | sed -n 's/^\\(ovnmeta-[^ ]*\\).*/\\1/p'); do"
        ' ip netns pids "$space" | xargs -r kill; ip netns delete "$space"; done',
        check=False,
    )


def _file(machine: Machine, entry: Made) -> None:
    if entry.name.startswith(paths.OPT):
        return  # goes with the directory, last: the running command line may live there
    machine.absent(entry.name)
    if entry.backup:
        machine.run(
            f"test -e {shlex.quote(entry.backup)} && mv {shlex.quote(entry.backup)} {shlex.quote(entry.name)}",
            check=False,
        )


def _directory(machine: Machine, entry: Made) -> None:
    if not entry.name.startswith((paths.OPT, paths.VAR, paths.ETC)):
        machine.absent(entry.name)


def _user(machine: Machine, entry: Made) -> None:
    """Remove a user by force: a process in somebody's container may run under the same number."""
    machine.run(["userdel", "--force", entry.name], check=False)


def _group(machine: Machine, entry: Made) -> None:
    machine.run(["groupdel", entry.name], check=False)


def _membership(machine: Machine, entry: Made) -> None:
    user, _, groups = entry.name.partition(":")
    for group in groups.split(","):
        machine.run(["gpasswd", "-d", user, group], check=False)


_WHILE_RUNNING: dict[str, Callable[[Machine, Made], None]] = {"bridge": _bridge, "masquerade": _masquerade}
_AFTERWARDS: dict[str, Callable[[Machine, Made], None]] = {
    "link": _link,
    distribution_units.HELD: distribution_units.release,
    storage.MADE: storage.release,
    "metadata-namespaces": _metadata_namespaces,
    "host": _host,
    "file": _file,
    "directory": _directory,
    "membership": _membership,
    "user": _user,
    "group": _group,
}
