# SPDX-License-Identifier: Apache-2.0
"""Whether a compute node is as it should be: its machine, what stands on it, and what its cloud has of it.

Nothing is changed. Each finding says what is wrong and what to do.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dockstack.deploy.administration import agents, hosts, providers
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE, our_containers
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join import look
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.survey import survey
from dockstack.deploy.node.connection import connect
from dockstack.names import UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.hypervisors.engine import Engine
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node

RESOURCES = ("VCPU", "MEMORY_MB", "DISK_GB")
MEMORY_APART = 0.02
HAVE_CONTAINERS = frozenset({"ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "RESCUE", "VERIFY_RESIZE", "REBOOT"})
NAMED_OTHERWISE = "Does its name in OVN, or the host in its agent's neutron.conf, equal its hostname?"
AGAIN = "dockstack node add (it makes a node what it is to be)"


class Level(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    subject: str
    text: str
    cure: str = ""
    level: Level = Level.WRONG


@dataclass(frozen=True)
class Checked:
    """What was found on a node; nothing, if all is well."""

    hostname: str
    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is wrong; warnings do not count."""
        return all(found.level is Level.WARNING for found in self.findings)


@dataclass(frozen=True)
class Seen:
    """What a node's machine tells of what stands on it.

    Attributes:
        current: whether it has the running dockstack.
        unhealthy: services that are not healthy, and why; None if its dockstack does not tell.
        processors: how many it has.
        memory_mb: how much.
        containers: server of each container of ours, by the container's name; None if the engine does not answer.
    """

    current: bool = True
    unhealthy: Mapping[str, str] | None = field(default_factory=dict)
    processors: int = 0
    memory_mb: int = 0
    containers: Mapping[str, str] | None = field(default_factory=dict)


def check(
    node: Node, document: CloudDocument, cloud: Cloud | None, look_at: Callable[[Node, CloudDocument], Survey] = survey
) -> Checked:
    """Look at a node and at what its cloud has of it.

    Args:
        node: it.
        document: what it must know of its cloud.
        cloud: with an administrator's account; without one, the cloud is not asked.
        look_at: looks at the machine.

    Raises:
        DockstackError: it cannot be reached, or somebody does not answer.
    """
    looked = look_at(node, document)
    seen = see(connect(node), engine_of(looked.told.node().attributes))
    host = looked.plan.hostname
    found = [*on_machine(looked.plan, seen)]
    if cloud is None:
        text = "No administrator's credentials are given, so the cloud was not asked."
        found.append(Finding("cloud", text, "--os-cloud NAME", Level.WARNING))
    else:
        found += [*in_nova(cloud, host), *in_placement(cloud, host, seen), *in_neutron(cloud, host)]
        found += containers(cloud, host, seen)
    return Checked(host, tuple(found))


# -- the machine ------------------------------------------------------------------------------------------------------


def see(connection: Connection, engine: Engine, command_line: CommandLine | None = None) -> Seen:
    """Ask a node's machine, in two commands that change nothing.

    Args:
        connection: to it.
        engine: in which its servers are.
        command_line: the running dockstack.
    """
    command_line = command_line or CommandLine()
    client = shlex.join(["docker", "-H", f"unix://{engine.socket}"])
    listed = shlex.join(["ps", "-a", "--no-trunc", "--filter", f"label={UUID_LABEL}", "--format", CONTAINER_LINE])
    status = f"timeout 30 {command_line.python} -m dockstack.cli status --json 2>/dev/null"
    line = (
        'echo "processors $(nproc)"; awk \'/^MemTotal:/ { print "memory", int($2 / 1024) }\' /proc/meminfo;'
        f" told=$(timeout 20 {client} {listed} 2>/dev/null) && echo engine && echo \"$told\" | sed 's/^/container /';"
        f" echo \"status $({status} | tr -d '\\n')\"; :"
    )
    told: dict[str, list[str]] = {}
    for text in look.ask(connection, line).lines:
        key, _, rest = text.partition(" ")
        told.setdefault(key, []).append(rest)
    return Seen(
        current=command_line.is_on(connection),
        unhealthy=_unhealthy("".join(told.get("status", ()))),
        processors=int("".join(told.get("processors", ())) or 0),
        memory_mb=int("".join(told.get("memory", ())) or 0),
        containers=dict(_ours(told.get("container", ()))) if "engine" in told else None,
    )


def _ours(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        identifier, _, named = line.partition(" ")
        if our_containers([line]) == [identifier]:
            name, server = named.split()
            yield name, server


def _unhealthy(text: str) -> dict[str, str] | None:
    try:
        services = json.loads(text)["services"]
        return {each["name"]: str(each["problem"] or each["state"]) for each in services if not each["healthy"]}
    except (ValueError, KeyError, TypeError):
        return None


def on_machine(plan: NodePlan, seen: Seen) -> Iterator[Finding]:
    """Yield what is wrong on the machine; pure."""
    for problem in plan.problems:
        yield Finding("machine", problem.brief, problem.cure, Level.WARNING if problem.warning else Level.WRONG)
    if plan.packages:
        yield Finding("packages", f"missing: {' '.join(plan.packages)}", AGAIN)
    for text in plan.environments:
        yield Finding("version", f"not installed: {text}", "dockstack node upgrade")
    for change in plan.files:
        yield Finding("configuration", f"{change.path} is not as it was written: {change.what}", AGAIN)
    if not seen.current:
        yield Finding("version", "its dockstack is another one", "dockstack node upgrade", Level.WARNING)
    if seen.unhealthy is None:
        yield Finding("services", "its dockstack does not tell how its services are", AGAIN)
    if seen.containers is None:
        yield Finding("engine", "it does not answer", "`dockstack status` and `dockstack logs docker` there")
    for name, why in (seen.unhealthy or {}).items():
        yield Finding("services", f"{name}: {why}", f"`dockstack logs {shlex.quote(name)}` there, then {AGAIN}")


# -- the cloud --------------------------------------------------------------------------------------------------------


def in_nova(cloud: Cloud, host: str) -> Iterator[Finding]:
    """Yield what is wrong with a host's compute service."""
    service = hosts.service(cloud, host)
    if service is None:
        yield Finding("nova", "the cloud knows no compute service of it", AGAIN)
        return
    if service.forced_down:
        cure = f"openstack compute service set --up {shlex.quote(host)} nova-compute"
        yield Finding("nova", "its compute service is forced down", cure)
    elif not service.up:
        yield Finding("nova", "its compute service is down", "`dockstack logs nova-compute` there")
    if not service.enabled:
        text = f"its compute service is disabled: {service.reason or 'no reason is noted'}"
        yield Finding("nova", text, "dockstack node undrain", Level.WARNING)
    if not hosts.is_mapped(cloud, host):
        cure = "nova-manage cell_v2 discover_hosts, on a controller"
        yield Finding("nova", "it is not mapped to a cell, and gets no servers", cure)


def in_placement(cloud: Cloud, host: str, seen: Seen) -> Iterator[Finding]:
    """Yield what is wrong with what a host offers."""
    provider = providers.provider(cloud, host)
    if provider is None:
        yield Finding("placement", "there is no resource provider of it", "`dockstack logs nova-compute` there")
        return
    offered = providers.offers(cloud, provider)
    missing = [name for name in RESOURCES if not offered.get(name)]
    # Processors that servers have for themselves are counted apart.
    if "VCPU" in missing and offered.get("PCPU"):
        missing.remove("VCPU")
    if missing:
        yield Finding("placement", f"it offers no {', '.join(missing)}", "`dockstack logs nova-compute` there")
    processors, memory = offered.get("VCPU", 0) + offered.get("PCPU", 0), offered.get("MEMORY_MB", 0)
    if seen.processors and processors > seen.processors:
        text = f"it offers {processors} processors and has {seen.processors}"
        yield Finding("placement", text, "See compute.* in `dockstack config`.", Level.WARNING)
    if seen.memory_mb and memory and abs(memory - seen.memory_mb) > MEMORY_APART * seen.memory_mb:
        text = f"it offers {memory} MiB of memory and has {seen.memory_mb}"
        yield Finding("placement", text, "`dockstack logs nova-compute` there", Level.WARNING)


def in_neutron(cloud: Cloud, host: str) -> Iterator[Finding]:
    """Yield what is wrong with a host's agents."""
    found = agents.agents(cloud, host)
    if not found:
        yield Finding("neutron", "the cloud knows no network agents of it", NAMED_OTHERWISE)
    for agent in found:
        if not agent.alive:
            yield Finding("neutron", f"its {agent.kind} does not report", "`dockstack status` there")


def containers(cloud: Cloud, host: str, seen: Seen) -> Iterator[Finding]:
    """Yield containers without their servers, and servers without their containers."""
    if seen.containers is None:
        return
    here = {each.id: each for each in hosts.servers(cloud, host)}
    moving = {each.server for each in hosts.moves(cloud, host)}
    for name, server_id in sorted(seen.containers.items()):
        if server_id in here or server_id in moving:
            continue
        server = hosts.server(cloud, server_id)
        what = f"a server that is on {server.host}" if server and server.host else "no server that Nova has here"
        line = f"docker rm -f {shlex.quote(name)}"
        cure = f"nova-compute removes what Nova says it deleted; else save what you need of it, {line}"
        yield Finding("containers", f"{name} belongs to {what}", cure, Level.WARNING)
    for server_id, server in here.items():
        if server_id not in seen.containers.values() and server.status in HAVE_CONTAINERS and not server.task:
            cure = "openstack server reboot --hard, or rebuild"
            yield Finding("containers", f"{server.label} is {server.status} and has no container", cure)
