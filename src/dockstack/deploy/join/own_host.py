# SPDX-License-Identifier: Apache-2.0
"""This machine's own compute host among the nodes of its cloud: the scheduler sends servers there, too."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.administration import api
from dockstack.deploy.configuration import migration
from dockstack.deploy.join import peers
from dockstack.deploy.node.connection import connect
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted import inventory

if TYPE_CHECKING:
    from dockstack.deploy.join.peers import Peers
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node

NAME = "@local"  # which no node over SSH can have


def noted(known: Peers, cloud: CloudDocument) -> tuple[Node, ...]:
    """Note this machine among the peers if servers of that cloud move to it and from it, and return it as a node.

    It is forgotten when it has no such SSH server any more. Whose cloud it has, clouds.yaml tells, and that may be
    another one than last time: who is among them stays, or nodes would be told to let it in no more.

    Raises:
        DockstackError: it does not tell its keys.
    """
    address = _listens_at()
    if not address:
        known.forget(NAME)
    if not address or not (known.knows(NAME) or api.is_ours(cloud.text("identity.auth_url"))):
        return ()
    node = replace(inventory.load(None).local, name=platform.node())
    known.note(NAME, peers.ask(connect(node), address))
    return (node,)


def _listens_at() -> str:
    """Return where its SSH server for servers listens; "" if it has none for nodes."""
    servers = [service for service in Records.here().services() if service.name == migration.SERVICE]
    if not servers or not Path(paths.SECRETS_FILE).exists() or not Path(migration.CLIENT_PUBLIC).exists():
        return ""
    return servers[0].check.target.rpartition(":")[0] if servers[0].check else ""
