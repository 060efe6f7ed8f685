# SPDX-License-Identifier: Apache-2.0
"""What a machine is like that is to become a compute node: asked in one command, which changes nothing."""

from __future__ import annotations

import base64
import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy import paths
from dockstack.deploy.configuration.ini import WRITTEN_BY_US
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE, our_containers
from dockstack.deploy.node.output import Output, limited
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.preflight import FOREIGN_FILES, FOREIGN_PACKAGES, MachineFacts
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.node.connection import Connection

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
ACTIVE = 'systemctl -q is-active "dockstack-$each" && echo "$each"'


@dataclass(frozen=True)
class Questions:
    """What depends on the cloud and on the node's attributes.

    Attributes:
        packages: whose versions are wanted.
        services: whose state is wanted.
        endpoints: host and port of what the node must reach.
        socket: the engine's.
    """

    packages: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    endpoints: tuple[tuple[str, int], ...] = ()
    socket: str = "/run/docker.sock"


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
        engine: whether there is a container engine.
        servers: containers of Docker servers on it.
        nova_compute: whether somebody's nova-compute runs.
        controller: whether it holds a cloud that `up` made.
        chassis: OVN's name of it, "" if it has none.
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
    engine: bool = False
    servers: int = 0
    nova_compute: bool = False
    controller: bool = False
    chassis: str = ""
    lock: str = ""
    silent: tuple[str, ...] = ()


def gather(connection: Connection, questions: Questions) -> NodeFacts:
    """Ask a machine all of it.

    Raises:
        DockstackError: it does not answer.
    """
    began = time.time()
    answer = ask(connection, script(questions))
    return parse(answer.stdout, began, time.time())


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
    """Return the questions as one shell script; each answer stands below a line with its name."""
    packages = shlex.join(dict.fromkeys((*questions.packages, *FOREIGN_PACKAGES)))
    towards = questions.endpoints[0][0] if questions.endpoints else "127.0.0.1"
    client = ["timeout", "10", "docker", "-H", f"unix://{questions.socket}"]
    servers = [*client, "ps", "-a", "--no-trunc", "--filter", f"label={names.UUID_LABEL}", "--format", CONTAINER_LINE]
    asked = {
        "clock": "date +%s.%N",
        "os": "cat /etc/os-release",
        "hostname": "uname -n",
        "apt": "command -v apt-get",
        "python": "/usr/bin/python3 -c 'import sys; print(*sys.version_info[:2])'",
        "memory": "awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo",
        "disk": "for place in /opt /var/lib; do df -Pm $place | awk -v p=$place 'NR == 2 { print p, $4 }'; done",
        "namespaces": "ls /proc/self/ns/net",
        "tun": "ls -d /dev/net/tun /sys/module/openvswitch",
        "datapath": "{ test -d /sys/module/openvswitch || modprobe -n -q openvswitch; } && echo system",
        "source": shlex.join(["/usr/bin/python3", "-c", SOURCE, towards]),
        "systemd": "ls -d /run/systemd/system",
        "packages": f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}} ${{Version}}\\n' {packages}",
        "active": _each(questions.services, ACTIVE),
        "engine": "command -v dockerd",
        "servers": shlex.join(servers),
        "nova-compute": "grep -lx nova-compute /proc/[0-9]*/comm",
        "controller": f"ls {paths.SECRETS_FILE}",
        "chassis": "ovs-vsctl --timeout=5 --if-exists get Open_vSwitch . external-ids:hostname",
        "lock": f"cat {paths.LOCK_MARKER}",
        "foreign": _each(FOREIGN_FILES, FOREIGN),
        "silent": f"{_each(_words(questions.endpoints), KNOCK)}; wait",
    }
    return (
        "\n".join(f"echo '{MARK}{name}'; {{ {line}; }} </dev/null 2>/dev/null" for name, line in asked.items()) + "\n:"
    )


def _words(endpoints: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{host}/{port}" for host, port in endpoints)


def _each(items: Iterable[str], line: str) -> str:
    return f"for each in {shlex.join(items)}; do\n{line}\ndone"


def parse(text: str, began: float, ended: float) -> NodeFacts:
    """Return the facts of the script's output; pure.

    Args:
        text: what the script printed.
        began: when it was sent, by this machine's clock.
        ended: when its answer was there.
    """
    answers: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(MARK):
            lines = answers.setdefault(line.removeprefix(MARK), [])
        else:
            lines.append(line)
    installed = dict(_installed(answers["packages"]))
    return NodeFacts(
        machine=_machine(answers, installed),
        hostname=_first(answers["hostname"]),
        datapath=_first(answers["datapath"]) or "netdev",
        source=_first(answers["source"]),
        clock=_apart(float(_first(answers["clock"]) or began), began, ended),
        systemd=bool(answers["systemd"]),
        packages=installed,
        active=frozenset(answers["active"]),
        engine=bool(answers["engine"]),
        servers=len(our_containers(answers["servers"])),
        nova_compute=bool(answers["nova-compute"]),
        controller=bool(answers["controller"]),
        chassis=_first(answers["chassis"]).strip('"'),
        lock=_first(answers["lock"]),
        silent=tuple(sorted(":".join(line.rsplit("/", 1)) for line in answers["silent"])),
    )


def _machine(answers: Mapping[str, list[str]], installed: Mapping[str, str]) -> MachineFacts:
    release = dict(line.split("=", 1) for line in answers["os"] if "=" in line)
    major, minor = (_first(answers["python"]) or "0 0").split()
    return MachineFacts(
        root=True,  # by now, commands run as root
        system=release.get("ID", "unknown").strip('"'),
        like=release.get("ID_LIKE", "").strip('"'),
        version=release.get("VERSION_ID", "").strip('"'),
        apt=bool(answers["apt"]),
        python=(int(major), int(minor)),
        memory_mb=int(_first(answers["memory"]) or 0),
        disk_mb={place: int(free) for place, free in (line.split() for line in answers["disk"])},
        network_namespaces=bool(answers["namespaces"]),
        tun=bool(answers["tun"]),
        foreign_openstack=(*answers["foreign"], *(name for name in FOREIGN_PACKAGES if name in installed)),
        installed=bool(answers["lock"]),
    )


def _installed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, status, version = line.split(" ", 2)
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
