# SPDX-License-Identifier: Apache-2.0
"""``down`` and ``clean``: stop in reverse order; remove what the manifest says we made, and nothing else."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import neutron
from dockstack.deploy.hypervisors import chosen, storage
from dockstack.deploy.hypervisors.docker import engine_packages
from dockstack.deploy.recipes import cinder, host_removal, mounts
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
METADATA_NAMESPACE = re.compile(r"ovnmeta-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
    mounts.end()
    cinder.detach(machine)
    if any(entry.kind == "metadata-namespaces" for entry in entries):
        _metadata_namespaces(machine)
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
    _unmount_ours(machine)
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


def _unmount_ours(machine: Machine) -> None:
    """Take away what a killed LXCFS of ours has left mounted; its storage and its hosts have unmounted theirs."""
    for mount in machine.mounts_below(paths.VAR):
        if mount.kind == "fuse.lxcfs":
            machine.run(["umount", "--lazy", mount.point], check=False)


def _remove_packages(machine: Machine, names: Sequence[str]) -> None:
    """Purge packages; an engine is only removed: purging it would take containers and images of others along."""
    machine.say("Removing packages")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    manager, engine = machine.distribution.manager, engine_packages(machine)
    purged, removed = [name for name in names if name not in engine], [name for name in names if name in engine]
    superfluous = _superfluous(machine)
    for verb, chosen_names in ((manager.purge, purged), (manager.remove, removed)):
        if chosen_names:
            machine.command([*verb, *chosen_names], environment=environment)
    # What came along with ours; what nobody needed before stays, for it is not ours.
    along = sorted(_superfluous(machine) - superfluous)
    if along:
        machine.command([*manager.purge, *along], environment=environment)


def _superfluous(machine: Machine) -> set[str]:
    """Return the packages that were installed for others only, which are gone."""
    question = machine.distribution.manager.superfluous
    lines = machine.run(question, check=False).lines if question else []
    return {line.split()[1] for line in lines if line.startswith("Remv ")}


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


def _metadata_namespaces(machine: Machine) -> None:
    """End our agent's metadata proxies, which outlive it, and remove their namespaces; those of others stay.

    Ours are those whose network our agent has a proxy's configuration for, or whose cable ends on our switch. So the
    switch must still run.
    """
    names = [line.split()[0] for line in machine.run(["ip", "netns", "list"], check=False).lines if line.strip()]
    found = [name for name in names if METADATA_NAMESPACE.fullmatch(name)]
    ports = (
        set(machine.run(["ovs-vsctl", "--timeout=10", "list-ports", "br-int"], check=False).lines) if found else set()
    )
    for name in found:
        network = name.removeprefix("ovnmeta-")
        configured = machine.exists(f"{neutron.STATE_DIRECTORY}/ovn-metadata-proxy/{network}.conf")
        # neutron/agent/ovn/metadata/agent.py:get_veth_name
        if configured or f"tap{network[:10]}0" in ports:
            machine.run(f"ip netns pids {name} | xargs -r kill; ip netns delete {name}", check=False)
        else:
            machine.say(f"Leaving the network namespace {name}, which no agent of ours has made")


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
    cinder.VOLUME_POOL: lambda machine, entry: storage.remove(machine, entry.name),
    "host": _host,
    "file": _file,
    "directory": _directory,
    "membership": _membership,
    "user": _user,
    "group": _group,
}
