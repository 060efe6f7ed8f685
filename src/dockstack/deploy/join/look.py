# SPDX-License-Identifier: Apache-2.0
"""What a machine is like that is to become a compute node: asked in one command, which changes nothing."""

from __future__ import annotations

import base64
import json
import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockstack import names
from dockstack.deploy import paths
from dockstack.deploy.configuration.ini import WRITTEN_BY_US
from dockstack.deploy.distributions import DEBIAN_12, OS_RELEASE, Distribution, choose
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE, our_containers
from dockstack.deploy.hypervisors.engine import DAEMON_JSON, MACHINES_DATA_ROOT, MACHINES_SOCKET, PIDFILE
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts, parse_flags
from dockstack.deploy.node.output import Output, limited
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.preflight import FOREIGN_FILES, MachineFacts, Problem
from dockstack.deploy.supervision.backends import BOOTED_WITH_SYSTEMD
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.inventory import Node

LIMIT = 60  # seconds for all questions together
MARK = "@@"
KNOCK_LIMIT = 5
# In the background, so that all together take no longer than one.
KNOCK = (
    f'{{ timeout {KNOCK_LIMIT} bash -c \'exec 3<>"/dev/tcp/$0/$1"\' "${{each%%/*}}" "${{each##*/}}"'
    ' || echo "$each"; } &'
)
# Which of its addresses a machine would send from; nothing is sent, and no program is needed that it may lack.
SOURCE = """\
import socket, sys
family, kind, _, _, address = socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_DGRAM)[0]
with socket.socket(family, kind) as out:
    out.connect(address)
    print(out.getsockname()[0])
"""
FOREIGN = f'test -e "$each" && ! grep -qF {shlex.quote(WRITTEN_BY_US)} "$each" && echo "$each"'
OWN_ENGINE = "grep -qF '\"docker.own\": true'"  # as a commission is written
TOLD = f"test -f {paths.COMMISSION} && {{ {OWN_ENGINE} {paths.COMMISSION} && echo own || echo shared; }}"
ACTIVE = 'systemctl -q is-active "dockstack-$each" && echo "$each"'


IDENTITY = "ovs-vsctl --timeout=5 --if-exists get Open_vSwitch . external-ids:"


@dataclass(frozen=True)
class Questions:
    """What depends on the machine's distribution, on the cloud and on the node's attributes.

    Attributes:
        distribution: the machine's, or why it is none of ours.
        packages: whose versions are wanted.
        services: whose state is wanted.
        endpoints: host and port of what the node must reach.
        socket: the engine's.
        data_root: where the machine's engine keeps what it has.
        foreign: files that only another deployer's services would have.
    """

    distribution: Distribution | Problem = DEBIAN_12
    packages: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    endpoints: tuple[tuple[str, int], ...] = ()
    socket: str = MACHINES_SOCKET
    data_root: str = MACHINES_DATA_ROOT
    foreign: tuple[str, ...] = FOREIGN_FILES


@dataclass(frozen=True)
class PresentFile:
    """A file as it is."""

    content: str
    owner: str
    group: str
    mode: int


@dataclass(frozen=True)
class NodeFacts:
    """What the machine is like.

    Attributes:
        machine: what is asked of every machine.
        hostname: what Nova, Neutron and OVN call it.
        datapath: of Open vSwitch, "system" or "netdev".
        source: its address on the way to the cloud.
        clock: seconds that it is ahead of this machine.
        systemd: whether that is PID 1.
        packages: installed version by name.
        active: services of ours that run.
        ours: whether it has been made a compute node by us, so that its servers are known.
        engine: whether there is a container engine.
        client: whether there is a client for it.
        servers: containers of Docker servers on it.
        nova_compute: whether somebody's nova-compute runs.
        controller: whether it holds a cloud that `up` made.
        chassis: OVN's name of it, "" if it has none.
        chassis_id: by which OVN tells its chassis from others, "" if it has none.
        lock: what our environment was installed from.
        silent: endpoints that do not answer.
    """

    machine: MachineFacts = field(default_factory=MachineFacts)
    hostname: str = "node"
    datapath: str = "system"
    source: str = ""
    clock: float = 0.0
    systemd: bool = True
    packages: Mapping[str, str] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    ours: bool = False
    engine: bool = False
    client: bool = False
    servers: int = 0
    nova_compute: bool = False
    controller: bool = False
    chassis: str = ""
    chassis_id: str = ""
    lock: str = ""
    silent: tuple[str, ...] = ()


def gather(connection: Connection, questions: Questions) -> NodeFacts:
    """Ask a machine all of it.

    Raises:
        DockstackError: it does not answer.
    """
    began = time.time()
    answer = ask(connection, script(questions))
    return parse(answer.stdout, questions.distribution, began, time.time())


def os_release(connection: Connection) -> str:
    """Ask a machine what it is, on which further questions depend."""
    return ask(connection, f"cat {OS_RELEASE} 2>/dev/null; :").stdout


def hostname(connection: Connection) -> str:
    """Ask a machine what it calls itself, as which Nova knows it."""
    return ask(connection, "uname -n").stdout.strip()


def distribution_of(node: Node, os_release: str) -> Distribution | Problem:
    """Return a machine's distribution, or why it is none of ours."""
    try:
        return choose(node.attributes.text("distribution"), os_release)
    except DockstackError as error:
        return Problem(error.brief, error.resolution)


def or_debian(found: Distribution | Problem) -> Distribution:
    """Return a distribution; one that is none of ours is asked as Debian is, and nothing of it is shown."""
    return found if isinstance(found, Distribution) else DEBIAN_12


def ask(connection: Connection, line: str) -> Output:
    """Ask a machine something in a line of shell whose last command always succeeds.

    Raises:
        DockstackError: it does not end in its time.
    """
    try:
        answer = connection.run(limited(line, LIMIT), None, patience(LIMIT))
    except TimeoutError:
        answer = Output(ok=False, stdout="", stderr="")
    if not answer.ok:
        raise DockstackError(
            f"{connection.node.name} does not answer all questions within {LIMIT} s.",
            "See what hangs there: a file system, the engine, or the switch.",
            answer.stderr,
        )
    return answer


def script(questions: Questions) -> str:
    """Return the questions as one shell script."""
    known = or_debian(questions.distribution)
    towards = questions.endpoints[0][0] if questions.endpoints else "127.0.0.1"
    client = ["timeout", "10", "docker", "-H", f"unix://{questions.socket}"]
    servers = [*client, "ps", "-a", "--no-trunc", "--filter", f"label={names.UUID_LABEL}", "--format", CONTAINER_LINE]
    asked = {
        "clock": "date +%s.%N",
        "hostname": "uname -n",
        "manager": f"command -v {known.manager.program}",
        "python": f"{known.python} -c 'import sys; print(*sys.version_info[:2])'",
        "memory": "awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo",
        "disk": "for place in /opt /var/lib; do df -Pm $place | awk -v p=$place 'NR == 2 { print p, $4 }'; done",
        "namespaces": "ls /proc/self/ns/net",
        "tun": "ls -d /dev/net/tun /sys/module/openvswitch",
        "datapath": "{ test -d /sys/module/openvswitch || modprobe -n -q openvswitch; } && echo system",
        "source": shlex.join([known.python, "-c", SOURCE, towards]),
        "systemd": f"ls -d {BOOTED_WITH_SYSTEMD}",
        "packages": shlex.join([*known.manager.versions, *dict.fromkeys((*questions.packages, *known.openstack))]),
        "active": _each(questions.services, ACTIVE),
        "ours": f"ls {paths.STATE_DIRECTORY}/services/nova-compute.json",
        "told": TOLD,
        "engine": "command -v dockerd",
        "client": "command -v docker",
        "engine-info": shlex.join([*client, "info", "--format", "{{json .}}"]),
        "engine-flags": f"tr '\\0' '\\n' < /proc/$(cat {PIDFILE})/cmdline",
        "engine-file": f"test -f {DAEMON_JSON} && base64 -w0 {DAEMON_JSON}; echo",
        "engine-swarm": shlex.join(["ls", f"{questions.data_root}/swarm/docker-state.json"]),
        "servers": shlex.join(servers),
        "nova-compute": "grep -lx nova-compute /proc/[0-9]*/comm",
        "controller": f"ls {paths.SECRETS_FILE}",
        "chassis": _of_switch("hostname"),
        "chassis-id": _of_switch("system-id"),
        "lock": f"cat {paths.LOCK_MARKER}",
        "foreign": _each(questions.foreign, FOREIGN),
        "silent": f"{_each(_words(questions.endpoints), KNOCK)}; wait",
    }
    return rendered(asked)


def rendered(asked: Mapping[str, str]) -> str:
    """Return lines of shell as one script; each answer stands below a line with its name."""
    return (
        "\n".join(f"echo; echo '{MARK}{name}'; {{ {line}; }} </dev/null 2>/dev/null" for name, line in asked.items())
        + "\n:"
    )


def answers_of(text: str) -> dict[str, list[str]]:
    """Return what such a script printed: the lines that are not empty, by the names of the questions."""
    answers: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(MARK):
            lines = answers.setdefault(line.removeprefix(MARK), [])
        elif line:
            lines.append(line)
    return answers


def _of_switch(name: str) -> str:
    """Return the question for what a switch says of itself; Kolla-Ansible's is in a container."""
    return f"{IDENTITY}{name} || timeout 10 docker exec openvswitch_vswitchd {IDENTITY}{name}"


def _words(endpoints: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{host}/{port}" for host, port in endpoints)


def _each(items: Iterable[str], line: str) -> str:
    return f"for each in {shlex.join(items)}; do\n{line}\ndone"


def parse(text: str, distribution: Distribution | Problem, began: float, ended: float) -> NodeFacts:
    """Return the facts of the script's output; pure.

    Args:
        text: what the script printed.
        distribution: the machine's, or why it is none of ours.
        began: when it was sent, by this machine's clock.
        ended: when its answer was there.
    """
    answers = answers_of(text)
    installed = dict(_installed(answers["packages"]))
    return NodeFacts(
        machine=_machine(answers, distribution, installed),
        hostname=_first(answers["hostname"]),
        datapath=_first(answers["datapath"]) or "netdev",
        source=_first(answers["source"]),
        clock=_apart(float(_first(answers["clock"]) or began), began, ended),
        systemd=bool(answers["systemd"]),
        packages=installed,
        active=frozenset(answers["active"]),
        ours=bool(answers["ours"]),
        engine=bool(answers["engine"]),
        client=bool(answers["client"]),
        servers=len(our_containers(answers["servers"])),
        nova_compute=bool(answers["nova-compute"]),
        controller=bool(answers["controller"]),
        chassis=_first(answers["chassis"]).strip('"'),
        chassis_id=_first(answers["chassis-id"]).strip('"'),
        lock=_first(answers["lock"]),
        silent=tuple(sorted(":".join(line.rsplit("/", 1)) for line in answers["silent"])),
    )


def _machine(
    answers: Mapping[str, list[str]], distribution: Distribution | Problem, installed: Mapping[str, str]
) -> MachineFacts:
    major, minor = (_first(answers["python"]) or "0 0").split()
    openstack = distribution.openstack if isinstance(distribution, Distribution) else ()
    return MachineFacts(
        root=True,  # by now, commands run as root
        distribution=distribution,
        package_manager=bool(answers["manager"]),
        python=(int(major), int(minor)),
        memory_mb=int(_first(answers["memory"]) or 0),
        disk_mb={place: int(free) for place, free in (line.split() for line in answers["disk"])},
        network_namespaces=bool(answers["namespaces"]),
        tun=bool(answers["tun"]),
        foreign_openstack=(*answers["foreign"], *(name for name in openstack if name in installed)),
        installed=bool(answers["lock"]),
        engine=_engine(answers),
    )


def _engine(answers: Mapping[str, list[str]]) -> EngineFacts:
    info = _object(_first(answers["engine-info"]))
    info = info if info.get("ServerVersion") else {}  # without, the client speaks of itself
    file = _first(answers["engine-file"])
    return EngineFacts(
        info=info,
        flags=parse_flags(answers["engine-flags"]) if info else {},
        file=base64.b64decode(file).decode(errors="replace") if file else None,
        swarm=bool(answers["engine-swarm"]),
        by_flags=not answers["systemd"],
        own=told(answers["told"]),
    )


def told(lines: list[str]) -> bool | None:
    """Return whether a node was told to have an engine of our own; None: it is no node yet."""
    return {"own": True, "shared": False}.get(_first(lines))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _installed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, _, told = line.partition(" ")
        status, _, version = told.partition(" ")
        if status == "installed":
            yield name, version


def _first(lines: list[str]) -> str:
    return lines[0].strip() if lines else ""


def _apart(told: float, began: float, ended: float) -> float:
    """Return how far a clock is ahead at least, as it was read at some time between these two."""
    return round(max(0.0, told - ended) + min(0.0, told - began), 1)


def read(connection: Connection, wanted: Iterable[str]) -> dict[str, PresentFile]:
    """Return the files that are there, by their paths."""
    tell = 'printf "%s %s %s\\n" "$(stat -c "%U %G %a" "$each")" "$(base64 -w0 "$each")" "$each"'
    line = _each(wanted, f'test -f "$each" && {tell}')
    found = {}
    for told in ask(connection, f"{line}; :").lines:
        owner, group, mode, content, path = told.split(" ", 4)
        found[path] = PresentFile(base64.b64decode(content).decode(errors="replace"), owner, group, int(mode, 8))
    return found
