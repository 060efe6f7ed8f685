# SPDX-License-Identifier: Apache-2.0
"""Nodes of one cloud let each other in, so that servers can move: each makes keys, and whose they are is told here.

A private key never leaves its node. What a node says of itself is taken for nothing but a public key: it is written
into files of all others.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.configuration import migration
from dockstack.deploy.join import look
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.output import limited
from dockstack.deploy.node.shell import patience
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.wanted.inventory import Node

DIRECTORY = f"{paths.STATE_DIRECTORY}/peers"
LIMIT = 60  # seconds for one file
_PUBLIC = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{40,200}={0,2}")
# By nova, whose directory it is: root would follow where a link of nova's leads.
_WRITE = "umask 077 && cat >{place}.new && mv -f {place}.new {place}"


@dataclass(frozen=True)
class Peer:
    """How one node is known to the others.

    Attributes:
        address: where its SSH server listens.
        client: the public key with which it logs in.
        host: the public key of its SSH server.
    """

    address: str
    client: str
    host: str


class Peers:
    """The nodes that were added from here, by their names; a file each, which goes with the node."""

    def __init__(self, directory: str | Path = DIRECTORY) -> None:
        """Keep them in this directory."""
        self._directory = Path(directory)

    def note(self, name: str, peer: Peer) -> None:
        """Remember a node."""
        write_atomically(self._path(name), json.dumps(asdict(peer)) + "\n")

    def forget(self, name: str) -> None:
        """Let nobody know a node any more who is told from now on."""
        self._path(name).unlink(missing_ok=True)

    def knows(self, name: str) -> bool:
        """Tell whether a node is one of them."""
        return self._path(name).exists()

    def introduce_to(self, node: Node) -> None:
        """Have a node know all of them, and nobody else any more.

        Raises:
            DockstackError: it could not be told.
        """
        introduce(connect(node), self.all())

    def all(self) -> tuple[Peer, ...]:
        """Return them; one whose address another has by now is the other."""
        found = (Peer(**json.loads(path.read_text())) for path in sorted(self._directory.glob("*.json")))
        return tuple({peer.address: peer for peer in found}.values())

    def _path(self, name: str) -> Path:
        return self._directory / f"{quote(name, safe='')}.json"


def ask(connection: Connection, address: str) -> Peer:
    """Ask a node that has joined for its keys; where it listens is known from its commission.

    Raises:
        DockstackError: it has none.
    """
    line = f"cut -d' ' -f1,2 {migration.CLIENT_PUBLIC} {migration.HOST_PUBLIC} 2>/dev/null; :"
    said = look.ask(connection, line).lines
    if len(said) != 2 or not all(_PUBLIC.fullmatch(key) for key in said):  # noqa: PLR2004 - a key each
        raise DockstackError(
            f"{connection.node.name} does not tell its keys for migrations.",
            f"See {migration.KEYS} there; running the command again asks again.",
        )
    return Peer(address, *said)


def introduce(connection: Connection, peers: Iterable[Peer]) -> None:
    """Have a node know exactly these, itself among them.

    Raises:
        DockstackError: it did not take that.
    """
    others = tuple(peers)
    files = migration.acquaintances([peer.client for peer in others], {peer.address: peer.host for peer in others})
    for path, content in files.items():
        line = shlex.join(["runuser", "-u", "nova", "--", "sh", "-c", _WRITE.format(place=path)])
        if not connection.run(limited(line, LIMIT), content, patience(LIMIT)).ok:
            raise DockstackError(
                f"{connection.node.name} does not learn of other nodes: servers cannot move there.",
                f"Can nova write {path} there? Then run the command again.",
            )
