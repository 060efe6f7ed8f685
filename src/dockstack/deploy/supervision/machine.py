# SPDX-License-Identifier: Apache-2.0
"""A machine: a connected node together with the services that run on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockstack.deploy.node.connected_node import ConnectedNode
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.node.manifest import Manifest
    from dockstack.deploy.node.secrets import Secrets
    from dockstack.deploy.supervision.backends.model import Backend
    from dockstack.deploy.supervision.services import ServiceStart
    from dockstack.deploy.wanted.inventory import Node


class Machine(ConnectedNode):
    """A node's commands and files, and the supervision of its services; recipes, hypervisors and teardown work on it.

    Attributes:
        records: which services the node has, and what each was started with.
        backend: systemd or supervisor.
        services: names of those that this run looked after; any other is retired at its end.
        began: when work on this machine began, by the monotonic clock.
        starts: the services that were started since, with the time that each took.
    """

    def __init__(
        self,
        node: Node,
        secrets: Secrets,
        manifest: Manifest,
        connection: Connection,
        *,
        say: Callable[[str], None] = lambda _: None,
        records: Records | None = None,
    ) -> None:
        """Use ``connection.connect(node)`` for the connection."""
        super().__init__(node, secrets, manifest, connection, say=say)
        self.records = records or Records.here()
        self.backend: Backend = choose(self, self.attributes.text("services.backend"))
        self.services: list[str] = []
        self.began = time.monotonic()
        self.starts: list[ServiceStart] = []
