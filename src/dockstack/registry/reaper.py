# SPDX-License-Identifier: Apache-2.0
"""What nobody holds any more is removed, after a grace period; the same walk tells beforehand what it would remove.

Glance says which images are there: one that was deleted there lets its manifest go, that its links, those their blobs.
Each step takes what the one before let go in an earlier round, so that a mistake of Glance's costs nothing at once.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dockstack.errors import DockstackError
from dockstack.registry import database as db
from dockstack.registry.pushing import forget_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.registry.blobs import BlobStore
    from dockstack.registry.configuration import Configuration
    from dockstack.registry.glance import Glance
    from dockstack.registry.identity import Identity
    from dockstack.registry.pushing import Pushing
    from dockstack.registry.uploads import Uploads

LOG = logging.getLogger(__name__)
_BROKEN_OFF = 900  # seconds after which no push is at work any more
_COPIES = 7  # grace periods that a copy of what Glance has is kept


class Reaper:
    """Removes what nobody holds."""

    def __init__(
        self,
        configuration: Configuration,
        engine: Any,
        store: BlobStore,
        uploads: Uploads,
        cloud: tuple[Identity, Glance, Pushing],
    ) -> None:
        """Remove nothing yet."""
        self._grace = configuration.grace_seconds
        self._engine, self._store, self._uploads = engine, store, uploads
        self._identity, self._glance, self._pushing = cloud
        self._started = time.time()  # what was pending before is a dead process's

    def reap(self, *, dry_run: bool = False) -> Iterator[str]:
        """Go once through everything; say what goes, line by line.

        Raises:
            DockstackError: Keystone or Glance does not answer.
        """
        now = time.time()
        before = now - self._grace
        token = self._identity.service_token()
        if not dry_run:
            self._pushing.sweep(token, max(self._started, now - _BROKEN_OFF))
        yield from self._blobs(before, dry_run)
        yield from self._links(before, dry_run)
        yield from self._manifests(before, dry_run)
        yield from self._images(token, now, dry_run)
        yield from self._expired(before, dry_run)

    def _images(self, token: str, now: float, dry_run: bool) -> Iterator[str]:
        if not self._identity.is_administrator():
            LOG.error("The registry's account is no administrator: it cannot tell which images are gone")
            return
        tagged = sa.select(db.tag.c.name).where(db.tag.c.image_id == db.image.c.id).exists()
        chosen = (
            sa.select(
                db.image.c.id,
                db.image.c.manifest_id,
                db.image.c.adopted,
                db.image.c.created,
                sa.and_(~db.image.c.adopted, db.image.c.tag != "", ~tagged).label("former"),
                db.repository.c.name,
                db.repository.c.project_id,
            )
            .join(db.manifest, db.manifest.c.id == db.image.c.manifest_id)
            .join(db.repository, db.repository.c.id == db.manifest.c.repository_id)
            .where(~db.image.c.pending)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(chosen).all()
        for row in rows:
            stale = row.adopted and row.created < now - _COPIES * self._grace
            found = None if stale else self._glance.find(token, row.id)
            if found is not None:
                if row.former and not found.get("os_hidden") and not dry_run:
                    self._hide(token, row.id)
                continue
            why = "a copy of long ago" if stale else "deleted in Glance"
            yield f"image {row.id} of {row.project_id}/{row.name}: {why}"
            if not dry_run:
                with self._engine.begin() as connection:
                    connection.execute(db.tag.delete().where(db.tag.c.image_id == row.id))
                    mine = sa.and_(db.image.c.id == row.id, db.image.c.manifest_id == row.manifest_id)
                    connection.execute(db.image.delete().where(mine))
                    connection.execute(
                        db.manifest.update().where(db.manifest.c.id == row.manifest_id).values(created=now)
                    )

    def _hide(self, token: str, image_id: str) -> None:
        """Hide an image whose tag has moved on, where the push that moved it could not."""
        try:
            self._glance.change(token, image_id, os_hidden=True)
        except DockstackError:
            LOG.exception("Image %s, whose tag has moved on, stays visible", image_id)

    def _manifests(self, before: float, dry_run: bool) -> Iterator[str]:
        """Let manifests go for which no image stands, and that no index holds."""
        index = db.manifest.alias()
        held = (
            sa.select(sa.literal(1))
            .select_from(db.reference.join(index, index.c.id == db.reference.c.manifest_id))
            .where(index.c.repository_id == db.manifest.c.repository_id, db.reference.c.digest == db.manifest.c.digest)
            .correlate(db.manifest)
            .exists()
        )
        imaged = sa.select(db.image.c.id).where(db.image.c.manifest_id == db.manifest.c.id).exists()
        chosen = (
            sa.select(db.manifest.c.id, db.manifest.c.digest, db.repository.c.name, db.repository.c.project_id)
            .join(db.repository, db.repository.c.id == db.manifest.c.repository_id)
            .where(~imaged, ~held, db.manifest.c.created < before)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(chosen).all()
        for row in rows:
            yield f"manifest {row.digest} of {row.project_id}/{row.name}: no image stands for it"
            if not dry_run:
                with self._store.deciding(), self._engine.begin() as connection:
                    if connection.execute(chosen.where(db.manifest.c.id == row.id)).first():
                        forget_manifest(connection, row.id)

    def _links(self, before: float, dry_run: bool) -> Iterator[str]:
        held = (
            sa.select(sa.literal(1))
            .select_from(db.reference.join(db.manifest, db.manifest.c.id == db.reference.c.manifest_id))
            .where(db.manifest.c.repository_id == db.link.c.repository_id, db.reference.c.digest == db.link.c.digest)
            .correlate(db.link)
            .exists()
        )
        chosen = (
            sa.select(db.link.c.repository_id, db.link.c.digest, db.repository.c.name, db.repository.c.project_id)
            .join(db.repository, db.repository.c.id == db.link.c.repository_id)
            .where(~held, db.link.c.created < before)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(chosen).all()
        for row in rows:
            yield f"blob {row.digest} of {row.project_id}/{row.name}: no manifest holds it"
            if not dry_run:
                mine = sa.and_(db.link.c.repository_id == row.repository_id, db.link.c.digest == row.digest)
                with self._store.deciding(), self._engine.begin() as connection:
                    if connection.execute(chosen.where(mine)).first():
                        connection.execute(db.link.delete().where(mine))

    def _blobs(self, before: float, dry_run: bool) -> Iterator[str]:
        """Remove the files of blobs that no repository has, also of those that the database does not know."""
        for digest, found in self._store.all():
            if found.st_mtime >= before:
                continue
            with self._store.deciding(), self._engine.begin() as connection:
                linked = sa.select(db.link.c.digest).where(db.link.c.digest == str(digest))
                if connection.execute(linked).first() or self._store.path(digest).stat().st_mtime >= before:
                    continue
                if not dry_run:
                    connection.execute(db.blob.delete().where(db.blob.c.digest == str(digest)))
                    self._store.remove(digest)
            yield f"blob {digest}, {found.st_size} bytes: no repository has it"

    def _expired(self, before: float, dry_run: bool) -> Iterator[str]:
        for upload_id in self._uploads.expired(before):
            yield f"upload {upload_id}: it did not go on"
            if not dry_run:
                self._uploads.forget(upload_id)
