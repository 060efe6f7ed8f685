# SPDX-License-Identifier: Apache-2.0
"""Which nodes a command of ``dockstack node`` is about: of the environment file, and of the command line."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.join.journal import Entry
    from dockstack.deploy.wanted.inventory import Inventory, Node

_HOST = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<address>\[[0-9a-fA-F:.]+\]|[^@:\s\[\]]+)(?::(?P<port>\d+))?")


def described(hosts: Iterable[str], login: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """Return hosts of a command line, ``[USER@]HOST[:PORT]``, as an environment file would describe them.

    Args:
        hosts: as they were written.
        login: user, key, jump and known_hosts for all of them; None leaves one to its default.

    Raises:
        DockstackError: one is no host.
    """
    found: dict[str, dict[str, Any]] = {}
    for host in hosts:
        match = _HOST.fullmatch(host)
        if match is None:
            raise DockstackError(f"{host!r} is no host.", "Write [USER@]HOST[:PORT]; an IPv6 address in brackets.")
        raw = {"connector": "@ssh", "roles": [Role.COMPUTE.value]}
        raw |= {name: value for name, value in login.items() if value}
        raw |= {"user": match["user"]} if match["user"] else {}
        found[match["address"].strip("[]")] = raw | ({"port": int(match["port"])} if match["port"] else {})
    return found


def noted(entries: Iterable[Entry], login: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """Return nodes that were added from here as an environment file would describe them, by how they were reached.

    Args:
        entries: what is noted of them.
        login: key, jump and known_hosts for those of which none is noted; None leaves one to its default.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        user, _, place = entry.login.rpartition("@")
        address, _, port = place.rpartition(":")
        raw = {"connector": "@ssh", "roles": [Role.COMPUTE.value]}
        way = {"key": entry.key, "jump": entry.jump, "known_hosts": entry.known_hosts}
        raw |= {name: value for name, value in (*login.items(), *way.items()) if value}
        found[entry.node] = raw | {"user": user, "address": address, "port": int(port)}
    return found


def chosen(inventory: Inventory, hosts: Iterable[str], limits: Iterable[str]) -> tuple[Node, ...]:
    """Return the nodes that are meant: the named ones, or all compute nodes reached over SSH; within the limits.

    Args:
        inventory: with the hosts of the command line among its nodes.
        hosts: their names; none means all.
        limits: patterns, as in ``rack1-*``; none means no limit.

    Raises:
        DockstackError: there is none.
    """
    named, patterns = set(hosts), tuple(limits)
    remote = [
        node
        for node in inventory.nodes
        if (node.name in named if named else node.connector == "@ssh" and node.has(Role.COMPUTE))
    ]
    found = tuple(
        node for node in remote if not patterns or any(fnmatchcase(node.name, pattern) for pattern in patterns)
    )
    if not found:
        names = ", ".join(node.name for node in remote) or "none"
        raise DockstackError("No node is meant.", f"Name hosts, or nodes of the environment file; there are: {names}.")
    local = [node.name for node in found if node.connector != "@ssh"]
    if local:
        raise DockstackError(
            f"{', '.join(local)} is not reached over SSH.", "Give it connector: '@ssh', or use `dockstack up` there."
        )
    return found
