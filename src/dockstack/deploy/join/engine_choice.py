# SPDX-License-Identifier: Apache-2.0
"""Which engine a node's servers run in where nobody has said so: the machine's, or one of our own; it changes nothing.

One that is somebody else's is upgraded, restarted and set by him, so ours is beside it. What a node was told once
holds, as its servers are in that engine.
"""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy.hypervisors import daemon_json
from dockstack.deploy.hypervisors.engine import DAEMON_JSON, MACHINES_DATA_ROOT, PIDFILE
from dockstack.deploy.join import look
from dockstack.deploy.wanted.attributes import DEFAULT
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node

OWN, SOCKET = "docker.own", "docker.socket"  # who names a socket has chosen an engine
KOLLA_LABEL = "kolla_version"  # on each container of Kolla's images
CONTAINER = f'{{{{.Names}}}} {{{{.Label "{names.UUID_LABEL}"}}}}/{{{{.Label "{KOLLA_LABEL}"}}}}'
ANSWERED = "answered"  # the engine has told of all
IN_SWARM = ("active", "locked", "pending", "error")
NAMED = 3  # containers, at most


@dataclass(frozen=True)
class Engines:
    """What the machine tells before it is asked all else.

    Attributes:
        told: whether the node that it is already was told to have an engine of our own; None if it is none yet.
        others: names of containers in the machine's engine that are no servers.
        kolla: whether some of these are Kolla's.
        swarm: whether that engine is in one.
        file: its daemon.json, if there is one.
        silent: whether it did not answer, while it runs or has containers: whose it is, nobody knows then.
    """

    told: bool | None = None
    others: tuple[str, ...] = ()
    kolla: bool = False
    swarm: bool = False
    file: str | None = None
    silent: bool = False


def questions(node: Node) -> dict[str, str]:
    """Return what to ask of a machine, each a line of shell."""
    client = ["timeout", "10", "docker", "-H", f"unix://{node.attributes.text(SOCKET)}"]
    return {
        "told": look.TOLD,
        "containers": f"{shlex.join([*client, 'ps', '-a', '--format', CONTAINER])} && {{ echo; echo {ANSWERED}; }}",
        "client": "command -v docker",
        "running": f"grep -x dockerd /proc/$(cat {PIDFILE})/comm",
        "kept": f"ls {MACHINES_DATA_ROOT}/containers",
        "swarm": shlex.join([*client, "info", "--format", "{{.Swarm.LocalNodeState}}"]),
        "file": f"test -f {DAEMON_JSON} && base64 -w0 {DAEMON_JSON}; echo",
    }


def ask(connection: Connection) -> Engines:
    """Ask a machine.

    Raises:
        DockstackError: it does not answer.
    """
    return parse(look.answers_of(look.ask(connection, look.rendered(questions(connection.node))).stdout))


def parse(answers: Mapping[str, list[str]]) -> Engines:
    """Return what the answers say; pure."""
    file = "".join(answers["file"])
    runs = answers["running"] and answers["client"]  # without a client, it could not answer
    others = [line.partition(" ") for line in answers["containers"] if " /" in line]
    return Engines(
        told=look.told(answers["told"]),
        others=tuple(name for name, _, _ in others),
        kolla=any(label != "/" for _, _, label in others),
        swarm="".join(answers["swarm"]) in IN_SWARM,
        file=base64.b64decode(file).decode(errors="replace") if file else None,
        silent=ANSWERED not in answers["containers"] and bool(runs or answers["kept"]),
    )


def settled(node: Node, engines: Engines, cloud: CloudDocument) -> Node:
    """Return the node with an engine of our own where nobody has chosen and the machine's is somebody else's.

    Raises:
        DockstackError: the machine's may be somebody else's, and does not tell.
    """
    if engines.told is not None:
        return as_told(node, engines)
    if _is_set(node, OWN, SOCKET):
        return node
    why = whose(engines, cloud.text("deployer"))
    if not why and engines.silent:
        raise DockstackError(
            f"The Docker engine of {node.name} does not answer, so whose it is cannot be told.",
            f"Have it run (`docker ps` there says what is wrong), or choose: {OWN}: true gives servers an engine of "
            "dockstack's own, and false the machine's, which is then set for them and restarted.",
        )
    return _own(node, why) if why else node


def as_told(node: Node, engines: Engines) -> Node:
    """Return the node with the engine that it has, where nobody says otherwise."""
    return _own(node, "it was added with one") if engines.told and not _is_set(node, OWN) else node


def whose(engines: Engines, deployer: str) -> str:
    """Return why the machine's engine is somebody else's, as half a sentence; "" if nothing says so."""
    if deployer:
        return f"{deployer} looks after this cloud's machines and their engines"
    if engines.kolla:
        return f"the machine's runs Kolla's containers: {_some(engines.others)}"
    if engines.others:
        return f"the machine's runs containers of others: {_some(engines.others)}"
    if engines.swarm:
        return "the machine's is in a swarm"
    return f"{DAEMON_JSON} is somebody else's" if _written_by_others(engines.file) else ""


def _some(others: tuple[str, ...]) -> str:
    return ", ".join(others[:NAMED]) + (" ..." if len(others) > NAMED else "")


def _written_by_others(file: str | None) -> bool:
    try:
        return bool(daemon_json.parse(file, DAEMON_JSON))
    except DockstackError:
        return True


def _is_set(node: Node, *names: str) -> bool:
    return any(node.attributes.setting(name).source != DEFAULT for name in names)


def _own(node: Node, why: str) -> Node:
    return replace(node, attributes=node.attributes.with_value(OWN, value=True, source=why))
