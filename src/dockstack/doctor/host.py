# SPDX-License-Identifier: Apache-2.0
"""What one compute host on a machine holds: the machine itself, or a further one (`up --hosts N`)."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE
from dockstack.deploy.join import look
from dockstack.names import NAME_PREFIX, NAMESPACES, UUID_LABEL, enter_host
from dockstack.verify.host import NAME_LINE, NOVA_CONF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.node.connection import Connection

SERVER = re.compile(rf"{NAME_PREFIX}([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})")
ANSWERED = "answered"
LINE = f"{CONTAINER_LINE} {{{{.State}}}}"
WORDS = 4
UUID = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True)
class Container:
    """A container with a server's label; ``state`` is the engine's word."""

    id: str
    name: str
    server: str
    state: str = "running"

    @property
    def own(self) -> bool:
        """Whether it is the server's, and not one that somebody runs from an image of it."""
        return self.name == f"{NAME_PREFIX}{self.server}"


@dataclass(frozen=True)
class Interface:
    """A port of the switch.

    Attributes:
        server: whose it is, "" for none's.
        error: why the switch cannot use its device.
    """

    name: str
    server: str = ""
    error: str = ""


@dataclass(frozen=True)
class HostFacts:
    """A host.

    Attributes:
        key: the further host's; "" for the machine.
        nova: what nova.conf calls it.
        engine: whether its engine answered; if not, nobody knows of its containers.
        namespaces: servers that have one.
        switch: whether Open vSwitch answers.
        settings: its external-ids.
        ovn: what ovn-controller says of its connection to the southbound database.
        mtus: the MTU of each address's device.
    """

    key: str = ""
    nova: str = ""
    engine: bool = False
    containers: tuple[Container, ...] = ()
    namespaces: tuple[str, ...] = ()
    switch: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    bridges: tuple[str, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    ovn: str = ""
    mtus: Mapping[str, int] = field(default_factory=dict)
    patches: tuple[str, ...] = ()


def ask(key: str, connection: Connection, socket: str) -> HostFacts:
    """Ask one of a machine's hosts."""
    client = ["timeout", "20", "docker", "-H", f"unix://{socket}"]
    listed = [*client, "ps", "-a", "--no-trunc", "--filter", f"label={UUID_LABEL}", "--format", LINE]
    switch = "ovs-vsctl --timeout=10 --format=json --columns"
    script = look.rendered({
        "nova": f"sed -n {shlex.quote(NAME_LINE)} {NOVA_CONF}",
        "patches": f"ls {paths.PATCH_DIRECTORY}",
        "namespaces": f"ls {NAMESPACES}",
        "settings": f"{switch}=external_ids list Open_vSwitch",
        "bridges": "ovs-vsctl --timeout=10 list-br",
        "interfaces": f"{switch}=name,external_ids,error list Interface",
        "ovn": "timeout 10 ovn-appctl -t ovn-controller connection-status",
        "addresses": "ip -json address",
        # Last: whose patch, namespace or port was seen is among them.
        "containers": f"{shlex.join(listed)} && echo {ANSWERED}",
    })  # fmt: skip
    inside = shlex.join([*enter_host(key), "sh", "-c", script]) + "; :" if key else script
    return host_of(key, look.answers_of(look.ask(connection, inside).stdout))


def host_of(key: str, answers: Mapping[str, list[str]]) -> HostFacts:
    """Return what a host told; pure."""
    lines = {name: answers.get(name, []) for name in ("nova", "containers", "namespaces", "bridges", "ovn", "patches")}
    engine = lines["containers"][-1:] == [ANSWERED]
    settings = list(_rows(answers.get("settings", [])))
    spaces = (SERVER.fullmatch(name) for name in lines["namespaces"])
    return HostFacts(
        key=key,
        nova=first(lines["nova"]),
        engine=engine,
        containers=tuple(Container(*words) for words in map(str.split, lines["containers"]) if len(words) == WORDS),
        namespaces=tuple(match[1] for match in spaces if match),
        switch=bool(settings),
        settings=_map(settings[0]["external_ids"]) if settings else {},
        bridges=tuple(lines["bridges"]),
        interfaces=tuple(_interface(row) for row in _rows(answers.get("interfaces", []))),
        ovn=first(lines["ovn"]),
        mtus=dict(_mtus(answers.get("addresses", []))),
        patches=tuple(lines["patches"]),
    )


def _rows(lines: list[str]) -> Iterable[dict[str, Any]]:
    """Return the rows of ovs-vsctl's JSON (RFC 7047, 5.1)."""
    table = json_object("\n".join(lines))
    for row in table.get("data", ()):
        yield dict(zip(table.get("headings", ()), row, strict=False))


def _map(value: Any) -> dict[str, str]:
    return {str(key): str(each) for key, each in value[1]} if isinstance(value, list) and value[0] == "map" else {}


def _interface(row: Mapping[str, Any]) -> Interface:
    server = _map(row.get("external_ids")).get("vm-uuid", "")
    error = row.get("error")
    return Interface(
        str(row.get("name", "")), server if UUID.fullmatch(server) else "", error if isinstance(error, str) else ""
    )


def _mtus(lines: list[str]) -> Iterable[tuple[str, int]]:
    try:
        links = json.loads("\n".join(lines) or "[]")
    except ValueError:
        return
    for link in links:
        for address in link.get("addr_info", ()):
            if address.get("local"):
                yield str(address["local"]), int(link.get("mtu", 0))


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object; empty if the text is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def first(lines: list[str]) -> str:
    """Return the first line, or nothing."""
    return lines[0].strip() if lines else ""
