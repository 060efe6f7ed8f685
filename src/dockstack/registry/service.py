# SPDX-License-Identifier: Apache-2.0
"""The parts of a registry, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.registry import database
from dockstack.registry.adoption import Adoption
from dockstack.registry.blobs import BlobStore
from dockstack.registry.glance import Glance
from dockstack.registry.identity import Identity
from dockstack.registry.pushing import Pushing
from dockstack.registry.reaper import Reaper
from dockstack.registry.repositories import Repositories
from dockstack.registry.tokens import Tokens
from dockstack.registry.uploads import Uploads

if TYPE_CHECKING:
    from dockstack.registry.configuration import Configuration


class Service:
    """One registry."""

    def __init__(self, configuration: Configuration) -> None:
        """Open the database and the directories.

        Raises:
            DockstackError: the database is another version's.
        """
        self.configuration = configuration
        self.engine = database.connect(configuration.database)
        self.store = BlobStore(configuration.directory)
        self.tokens = Tokens(configuration.secret)
        self.identity = Identity(configuration)
        self.glance = Glance(configuration.image_url, configuration.authority)
        self.repositories = Repositories(self.engine, self.identity, self.glance)
        self.uploads = Uploads(self.engine, self.store, configuration)
        parts = (self.engine, self.store, self.repositories)
        self.pushing = Pushing(configuration, *parts, (self.glance, self.tokens))
        self.adoption = Adoption(configuration, *parts, (self.identity, self.glance))
        cloud = (self.identity, self.glance, self.pushing)
        self.reaper = Reaper(configuration, self.engine, self.store, self.uploads, cloud)
