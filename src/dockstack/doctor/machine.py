# SPDX-License-Identifier: Apache-2.0
"""Look at a machine: what `node plan` asks it, and what else a doctor wants to know; nothing is changed."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dockstack.deploy import distributions, paths
from dockstack.deploy.configuration.compute_node import ANYWHERE
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join import engine_choice, look
from dockstack.deploy.join.endpoints import endpoints
from dockstack.deploy.join.look import Questions
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.output import limited
from dockstack.deploy.node.shell import patience
from dockstack.deploy.recipes import packages
from dockstack.deploy.run import preflight
from dockstack.deploy.run.preflight import Problem
from dockstack.doctor import host
from dockstack.doctor.host import HostFacts
from dockstack.errors import DockstackError
from dockstack.names import EXTRA_HOSTS, enter_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.join.look import NodeFacts
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.run.preflight import MachineFacts
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node
    from dockstack.doctor.cloud import Server

MEND_LIMIT = 60  # seconds
SECRET_FILES = (
    paths.SECRETS_FILE,
    paths.CLOUD_DOCUMENT.replace(".yaml", "-secrets.yaml"),
    paths.COMMISSION,
    paths.OPENRC,
    paths.CLOUDS_YAML,
    "/etc/nova/nova.conf",
    "/etc/neutron/neutron.conf",
)
DATABASE_SOCKET = f"{paths.RUN}/mariadb/mariadb.sock"
DATABASE = ("mariadb", "--no-defaults", f"--socket={DATABASE_SOCKET}", "--batch", "--skip-column-names", "--execute")
SERVICES = (
    "SELECT 'service', host, `binary`, version FROM nova.services WHERE deleted = 0;"
    " SELECT 'mapped', host FROM nova_api.host_mappings"
)
_HOST_KEY = re.compile(r"host[0-9]+")
UNSYNCHRONISED = """\
import ctypes
# adjtimex(2) returns TIME_ERROR where nobody keeps the clock; the buffer is larger than any struct timex.
print("drifts" if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)) == 5 else "kept")
"""


@dataclass(frozen=True)
class Disk:
    """A file system."""

    point: str
    used: int  # per cent
    free_mb: int
    inodes: int = 0  # per cent


@dataclass(frozen=True)
class Subject:
    """A machine that was looked at.

    Attributes:
        node: as an inventory has it.
        facts: what `node plan` would ask of it.
        local: it is this one.
        machine: what `up` would ask of it.
        hosts: on it, itself first.
        cgroup: the type of the control groups' file system.
        socket: of the engine: owner and group, and its mode.
        database: of Nova, on a controller: ("service", host, binary, version) and ("mapped", host).
        secret_modes: of files with secrets that are there.
        status: what `dockstack status --json` says there; empty if there is no cloud.
        door: what `dockstack driver check` says there that is wrong.
        known: servers that Nova knows; None where nobody could ask.
        servers: as Nova has them.
        largest_mtu: of the networks that are tunnelled; 0 where nobody could ask.
    """

    node: Node
    facts: NodeFacts
    machine: MachineFacts
    local: bool = True
    hosts: tuple[HostFacts, ...] = (HostFacts(),)
    cgroup: str = "cgroup2fs"
    controllers: frozenset[str] = frozenset()
    kernel: str = ""
    socket: tuple[str, int] = ("root:docker", 0o660)
    database: tuple[tuple[str, ...], ...] = ()
    secret_modes: Mapping[str, int] = field(default_factory=dict)
    disks: tuple[Disk, ...] = ()
    clock_kept: bool = True
    status: Mapping[str, Any] = field(default_factory=dict)
    door: str = ""
    connection: Connection | None = None
    document: CloudDocument | None = None
    known: frozenset[str] | None = None
    servers: tuple[Server, ...] = ()
    largest_mtu: int = 0

    @property
    def ours(self) -> bool:
        """Whether dockstack runs services here."""
        return self.facts.ours or self.facts.controller

    def run(self, line: str, key: str = "") -> None:
        """Run a line that mends, in one of its hosts.

        Raises:
            DockstackError: it failed, with what it said.
        """
        if self.connection is None:
            raise DockstackError(f"{self.node.name} cannot be reached any more.", "Try again.")
        inside = shlex.join([*(enter_host(key) if key else ()), "sh", "-c", line])
        done = self.connection.run(limited(inside, MEND_LIMIT), None, patience(MEND_LIMIT))
        if not done.ok:
            raise DockstackError(f"It failed: {line}", "See what it said.", done.stderr or done.stdout)


def examine(node: Node, document: CloudDocument | None) -> Subject:
    """Look at a machine.

    Raises:
        DockstackError: it cannot be reached, or does not answer.
    """
    connection = connect(node)
    node = engine_choice.as_told(node, engine_choice.ask(connection))
    local = node.connector != "@ssh"
    questions = _questions(node, document, look.os_release(connection))
    facts = look.gather(connection, questions)
    answers = look.answers_of(look.ask(connection, look.rendered(_further(questions, local=local))).stdout)
    keys = ["", *(name for name in answers["hosts"] if _HOST_KEY.fullmatch(name))]
    hosts = tuple(host.ask(key, connection, questions.socket) for key in keys)
    modes = (line.split(" ", 1) for line in answers["secrets"])
    owner, _, mode = host.first(answers["socket"]).partition(" ")
    return Subject(
        node=node,
        facts=facts,
        machine=_machine(node, facts, local=local),
        local=local,
        hosts=hosts,
        cgroup=host.first(answers["cgroup"]),
        controllers=frozenset(" ".join(answers["controllers"]).split()),
        kernel=host.first(answers["kernel"]),
        socket=(owner, int(mode or "0", 8)),
        secret_modes={path: int(text, 8) for text, path in modes},
        database=tuple(tuple(line.split("\t")) for line in answers["database"]),
        disks=tuple(_disks(answers["disks"], answers["inodes"])),
        clock_kept=host.first(answers["synchronised"]) != "drifts",
        status=host.json_object("\n".join(answers["status"])),
        door="\n".join(answers["door"]),
        connection=connection,
        document=document,
    )


def _questions(node: Node, document: CloudDocument | None, os_release: str) -> Questions:
    try:
        distribution: Distribution | Problem = distributions.choose(node.attributes.text("distribution"), os_release)
    except DockstackError as error:
        distribution = Problem(error.brief, error.resolution)
    engine = engine_of(node.attributes)
    return Questions(
        distribution=distribution,
        packages=look.or_debian(distribution).packages_of("dockerd", "docker", "lxcfs", *packages.wanted(node)),
        services=tuple(sorted(ANYWHERE)),
        endpoints=endpoints(document) if document else (),
        socket=engine.socket,
        data_root=engine.data_root,
    )


def _machine(node: Node, facts: NodeFacts, *, local: bool) -> MachineFacts:
    """Return what `up` would ask: of this machine, all of it."""
    found = preflight.gather(node) if local else facts.machine
    return replace(found, engine=facts.machine.engine, root=True)


def _further(questions: Questions, *, local: bool) -> dict[str, str]:
    python = shlex.quote(sys.executable if local else f"{paths.CLI_VENV}/bin/python")
    program, nova = f"{python} -m dockstack.cli", f"{paths.OPENSTACK_VENV}/bin/python"
    distribution = look.or_debian(questions.distribution)
    places = shlex.join(["/", "/var/lib", "/var/log", "/opt", questions.data_root])
    # Private keys below our directory, whoever put them there, that everybody may read.
    keys = f"find {paths.ETC} -type f -perm /007 -exec grep -qs 'PRIVATE KEY' {{}} ';' -printf '%m %p\\n'"
    kept = f"test -e {paths.LOCK_MARKER} && ! {program} driver check --no-load --python {nova} 2>&1 >/dev/null"
    return {
        "hosts": f"ls {EXTRA_HOSTS} | sed -n 's/[.]mnt$//p'",
        "kernel": "uname -r",
        "cgroup": "stat -fc %T /sys/fs/cgroup",
        "controllers": "cat /sys/fs/cgroup/cgroup.controllers || awk '$4 == 1 { print $1 }' /proc/cgroups",
        "socket": f"stat -L -c '%U:%G %a' {shlex.quote(questions.socket)}",
        "secrets": f"stat -L -c '%a %n' {shlex.join(SECRET_FILES)}; {keys}",
        "disks": f"df -Pm {places} | awk 'NR > 1 {{ print $6, $5, $4 }}' | sort -u",
        "inodes": f"df -Pi {places} | awk 'NR > 1 {{ print $6, $5 }}' | sort -u",
        "synchronised": shlex.join([distribution.python, "-c", UNSYNCHRONISED]),
        "database": f"test -S {DATABASE_SOCKET} && {shlex.join(['timeout', '20', *DATABASE, SERVICES])}",
        # Only where there is a cloud of ours: without, each would take seconds to say so.
        "status": f"ls {paths.STATE_DIRECTORY}/services/*.json >&2 && {program} status --json",
        "door": kept,
    }


def _disks(sizes: list[str], inodes: list[str]) -> Iterable[Disk]:
    used = {words[0]: _per_cent(words[1]) for words in map(str.split, inodes) if len(words) > 1}
    for words in map(str.split, sizes):
        if len(words) > 2:  # noqa: PLR2004
            yield Disk(words[0], _per_cent(words[1]), int(words[2]), used.get(words[0], 0))


def _per_cent(text: str) -> int:
    number = text.removesuffix("%")
    return int(number) if number.isdecimal() else 0
