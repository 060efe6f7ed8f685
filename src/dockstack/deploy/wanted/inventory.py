# SPDX-License-Identifier: Apache-2.0
"""The nodes of a cloud, their roles, and the environment file that names them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.wanted import document
from dockstack.deploy.wanted.attributes import MAX_PORT, Attributes, SourceValues, command_line_values, flatten, resolve
from dockstack.deploy.wanted.catalogue import CATALOGUE
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECTIONS = ("attributes", "roles", "nodes")
CONNECTORS = ("@local", "@ssh")
EARLIER_NAME = "asked.yaml"  # of the file of saved options
NODE_KEYS = ("connector", "address", "user", "port", "key", "jump", "known_hosts", "roles", "attributes")


class Role(StrEnum):
    """What a node does."""

    CONTROLLER = "controller"  # database, message bus, APIs, schedulers
    NETWORK = "network"  # gateway chassis and external bridge
    COMPUTE = "compute"  # servers


ALL_ROLES = frozenset(Role)


@dataclass(frozen=True)
class Node:
    """One machine of the cloud, as the environment file describes it.

    Attributes:
        name: as in the environment file; this machine is "local".
        connector: "@local", "@ssh" or, in tests, "@fake".
        attributes: resolved for this node.
        address: where SSH finds it; empty: by its name.
        user: who logs in; anybody but root needs sudo without a password.
        key: the file of the private key; None: what ~/.ssh/config says, ssh-agent has, or is in ~/.ssh.
        jump: the hosts on the way, as ProxyJump takes them: user@host:port, several with commas.
        known_hosts: the file with the host keys; None: those of the person and of the system.
    """

    name: str
    attributes: Attributes
    connector: str = "@local"
    address: str = ""
    user: str = "root"
    port: int = 22
    key: str | None = None
    jump: str = ""
    known_hosts: str | None = None
    roles: frozenset[Role] = ALL_ROLES

    def has(self, role: Role) -> bool:
        """Tell whether the node plays a role."""
        return role in self.roles


@dataclass(frozen=True)
class Inventory:
    """All nodes of a cloud; the first with the controller role leads."""

    nodes: tuple[Node, ...]

    @property
    def local(self) -> Node:
        """The node that is this machine.

        Raises:
            DockstackError: no node is.
        """
        for node in self.nodes:
            if node.connector in {"@local", "@fake"}:
                return node
        raise DockstackError("No node of the environment file is this machine.", "Give one node connector: '@local'.")


def load(
    environment_file: str | Path | None,
    assignments: Iterable[str] = (),
    *,
    required: bool = False,
    saved_options: str | Path | None = None,
    further: Mapping[str, Mapping[str, Any]] | None = None,
) -> Inventory:
    """Read the environment file and resolve every node's attributes.

    Args:
        environment_file: YAML with ``attributes:``, ``roles:`` and ``nodes:``; absent is an empty one.
        assignments: ``name=value`` of the command line; they win over all.
        required: whether the file must be there (a person named it).
        saved_options: where ``remember`` keeps options of earlier runs; the environment file wins over it.
        further: nodes of the command line, as the file would have them; the file's own of that name wins.

    Raises:
        DockstackError: the file cannot be read, or holds something that is not known.
    """
    tree = _read(Path(environment_file), required=required) if environment_file else {}
    source = str(environment_file)
    _refuse_unknown(tree, SECTIONS, source)
    last = command_line_values(assignments)
    saved = SourceValues(f"an earlier run ({saved_options})", _saved(Path(saved_options)) if saved_options else {})
    nodes = tree.get("nodes") or {"local": {}}
    if not isinstance(nodes, dict):
        raise DockstackError(f"nodes: in {source} is no mapping.", "Write nodes as names with their keys below.")
    named = {**(further or {}), **{str(name): raw or {} for name, raw in nodes.items()}}
    return Inventory(tuple(_node(name, raw, tree, source, (saved, last)) for name, raw in named.items()))


def remember(saved_options: str | Path, options: Mapping[str, Any]) -> None:
    """Save options of a command line, so that a later one need not repeat them; what that one says wins.

    An option of None is not remembered any more.
    """
    path = Path(saved_options)
    before = _saved(path)
    after = {name: value for name, value in {**before, **options}.items() if value is not None}
    if after != before or (after and not path.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, yaml.safe_dump(after))
        path.chmod(0o644)
    path.with_name(EARLIER_NAME).unlink(missing_ok=True)


def _saved(path: Path) -> dict[str, Any]:
    """Return what was saved; a cloud of an earlier version has it under another name until its next ``up``."""
    return _read(path if path.exists() else path.with_name(EARLIER_NAME), required=False)


def _node(
    name: str, raw: Mapping[str, Any], tree: Mapping[str, Any], source: str, outer: tuple[SourceValues, SourceValues]
) -> Node:
    saved, last = outer
    _refuse_unknown(raw, NODE_KEYS, f"{source}, node {name}")
    roles = _roles(raw.get("roles"), source, name)
    connector = _connector(raw.get("connector", "@local"), name, source)
    sources = [saved] if connector == "@local" else []
    sources += [
        SourceValues(f"role {role} in {source}", flatten(values or {}, source))
        for role, values in (tree.get("roles") or {}).items()
        if _role(role, source) in roles
    ]
    sources.append(SourceValues(source, flatten(tree.get("attributes") or {}, source)))
    sources.append(SourceValues(f"node {name} in {source}", flatten(raw.get("attributes") or {}, source)))
    sources.append(last)
    return Node(
        name=name,
        attributes=resolve(CATALOGUE, sources),
        connector=connector,
        address=str(raw.get("address", "")),
        user=str(raw.get("user", "root")),
        port=_ssh_port(raw.get("port", 22), name, source),
        key=raw.get("key"),
        jump=str(raw.get("jump", "")),
        known_hosts=raw.get("known_hosts"),
        roles=roles,
    )


def _connector(value: Any, node: str, source: str) -> str:
    if value not in CONNECTORS:
        raise DockstackError(
            f"Node {node} in {source} has connector {value!r}.", f"Use one of {', '.join(CONNECTORS)}, in quotes."
        )
    return str(value)


def _ssh_port(value: Any, node: str, source: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_PORT:
        raise DockstackError(f"Node {node} in {source} has port {value!r}.", "Write a number, as in port: 22.")
    return value


def _roles(names: Any, source: str, node: str) -> frozenset[Role]:
    if names is None:
        return ALL_ROLES
    if not isinstance(names, list):
        raise DockstackError(f"roles of node {node} in {source} is no list.", "Write roles: [controller, compute].")
    return frozenset(_role(name, source) for name in names)


def _role(name: Any, source: str) -> Role:
    try:
        return Role(str(name))
    except ValueError as error:
        near = difflib.get_close_matches(str(name), list(Role), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DockstackError(
            f"There is no role {name!r} (in {source}).{hint}", f"Roles are {', '.join(Role)}."
        ) from error


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        content = document.parse(path.read_text())
    except FileNotFoundError:
        if required:
            raise DockstackError(
                f"There is no environment file {path}.", "Check the path after --environment."
            ) from None
        return {}
    except OSError as error:
        raise DockstackError(f"{path} cannot be read: {error.strerror}.", "Run as root, or check its mode.") from error
    except yaml.YAMLError as error:
        raise DockstackError(f"{path} is no YAML.", "Correct the place that is named above.", str(error)) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DockstackError(f"{path} does not hold a mapping.", f"Use the sections {', '.join(SECTIONS)}.")
    return content


def _refuse_unknown(tree: Mapping[str, Any], known: tuple[str, ...], source: str) -> None:
    if not isinstance(tree, dict):
        raise DockstackError(f"{source} does not hold a mapping.", f"Its keys are {', '.join(known)}.")
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
            raise DockstackError(f"{key!r} is not known in {source}.", hint)
