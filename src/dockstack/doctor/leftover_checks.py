# SPDX-License-Identifier: Apache-2.0
"""Checks for servers that Nova says run and do not, and for what is left of those that it no longer knows; pure.

nova-compute removes what Nova says it has deleted, within a minute. What a doctor finds is what stayed: of servers of
another cloud, of a database that was restored, or while nova-compute did not run.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.doctor.model import Finding, Mend
from dockstack.names import NAME_PREFIX, UUID_LABEL, namespace_name
from dockstack.verify.host import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.doctor.host import HostFacts
    from dockstack.doctor.machine import Subject

CONTAINER = re.compile(r"[0-9a-f]{64}\b")
SETTLED = 120.0  # seconds after which what Nova says and what runs agree
WAIT = "nova-compute removes what Nova has deleted within a minute; what stays, its log names."


def containers(subject: Subject) -> Iterator[Finding]:
    """Containers; they hold files, so they are never removed by a doctor."""
    for host in _seen(subject):
        for each in host.containers:
            if each.name.startswith(f"{NAME_PREFIX}{each.server}") and _gone(subject, each.server):
                yield Finding(
                    f"Nova knows no server {each.server}, and there is a container of it{_on(host)}.",
                    f"{WAIT} It may be another cloud's. If nobody needs it: docker rm -f {shlex.quote(each.name)}",
                )


def networks(subject: Subject) -> Iterator[Finding]:
    """Namespaces and ports of the switch of servers that have no container either."""
    for host in _seen(subject):
        here = {each.server for each in host.containers}
        for server in host.namespaces:
            if server not in here and _gone(subject, server):
                name = namespace_name(server)
                yield _leftover(subject, host, server, "a network namespace", f"ip netns delete {name}")
        for port in host.interfaces:
            if port.server and port.server not in here and _gone(subject, port.server):
                line = f"ovs-vsctl --timeout=10 --if-exists del-port {BRIDGE} {shlex.quote(port.name)}"
                line += f"; ip link delete {shlex.quote(port.name)} 2>/dev/null; true"
                yield _leftover(subject, host, port.server, f"a port of the switch, {port.name}", line)


def patches(subject: Subject) -> Iterator[Finding]:
    """Notes to the runtime about containers that are no more."""
    for host in _seen(subject):
        there = {each.id for each in host.containers}
        left = [name for name in host.patches if CONTAINER.match(name) and name.partition(".")[0] not in there]
        if left:
            files = [f"{paths.PATCH_DIRECTORY}/{name}" for name in left]
            line = f"rm -f {shlex.join(files)}"
            yield Finding(
                f"{len(left)} notes to the runtime are about containers that are no more{_on(host)}.",
                f"They do no harm; remove them below {paths.PATCH_DIRECTORY}.",
                note=True,
                mend=Mend(f"remove them{_on(host)}", lambda host=host, line=line: subject.run(line, host.key)),  # type: ignore[misc]
            )


def lost(subject: Subject) -> Iterator[Finding]:
    """Servers that run, as Nova says, and do not."""
    for host in _seen(subject):
        running = {each.server for each in host.containers if each.own and each.state == "running"}
        for each in subject.servers:
            idle = each.idle > SETTLED and not each.task
            if host.nova and each.host == host.nova and each.status == "ACTIVE" and idle and each.id not in running:
                yield Finding(
                    f"Server {each.id} is ACTIVE on {host.nova}, and no container of it runs there.",
                    f"nova-compute's log says what became of it; openstack server reboot --hard {shlex.quote(each.id)}",
                )


def _leftover(subject: Subject, host: HostFacts, server: str, what: str, line: str) -> Finding:
    """Return a finding whose mend looks once more whether the server has a container by now, or a process there."""
    client = f"docker -H unix://{shlex.quote(engine_of(subject.node.attributes).socket)}"
    guarded = f'test -z "$({client} ps -aq --filter label={UUID_LABEL}={server} || echo unknown)"'
    guarded += f' && test -z "$(ip netns pids {namespace_name(server)} 2>/dev/null)" && {{ {line}; }}'
    return Finding(
        f"Nova knows no server {server}, and there is {what} of it{_on(host)}.",
        f"{WAIT} By hand: {line}",
        mend=Mend(f"remove {what} of {server}{_on(host)}", lambda: subject.run(guarded, host.key)),
    )


def _seen(subject: Subject) -> Iterator[HostFacts]:
    """Yield the hosts whose engines answered: of others, nobody knows which containers there are."""
    return (host for host in subject.hosts if host.engine)


def _gone(subject: Subject, server: str) -> bool:
    return subject.known is not None and server not in subject.known


def _on(host: HostFacts) -> str:
    return f" on {host.nova or host.key}" if host.key else ""
