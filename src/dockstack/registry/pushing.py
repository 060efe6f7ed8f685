# SPDX-License-Identifier: Apache-2.0
"""A pushed manifest becomes an image in Glance, and the ways back.

The order is what a crash leaves whole: the blobs are here, then the manifest's row and that of an image that nobody was
told of yet, then Glance's image, by an id that is ours, then the tag, then the answer. What a crash leaves pending is
finished or taken back by ``sweep``.
"""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dockstack.errors import DockstackError
from dockstack.oci.distribution.manifests import archive, archive_size
from dockstack.oci.documents import INDEX_TYPES, Digest
from dockstack.registry import database as db
from dockstack.registry.faults import Denied, ManifestBlobUnknown, ManifestInvalid, Unsupported
from dockstack.registry.properties import image_name, properties
from dockstack.registry.repositories import Image, Repository, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.oci.distribution.manifests import Pushed
    from dockstack.oci.documents import Descriptor
    from dockstack.registry.blobs import BlobStore
    from dockstack.registry.configuration import Configuration
    from dockstack.registry.glance import Glance
    from dockstack.registry.identity import Caller
    from dockstack.registry.repositories import Repositories
    from dockstack.registry.tokens import Tokens

LOG = logging.getLogger(__name__)
_MAX_CONFIGURATION = 4 << 20
_MAX_MANIFESTS = 64 << 20  # bytes of all that one index leads to


class Pushing:
    """Changes of what repositories have."""

    def __init__(
        self,
        configuration: Configuration,
        engine: Any,
        store: BlobStore,
        repositories: Repositories,
        cloud: tuple[Glance, Tokens],
    ) -> None:
        """Change nothing yet."""
        self._configuration, self._engine, self._store = configuration, engine, store
        self._repositories = repositories
        self._glance, self._tokens = cloud

    def push(self, caller: Caller, repository: Repository, pushed: Pushed, tag: str) -> None:
        """Have a manifest as an image of the caller's project, under a tag; "" if it is pushed by its digest.

        Raises:
            ManifestBlobUnknown: the repository does not have what it names.
            Denied: Glance does not let the caller, or the project may have no more.
        """
        row = self._repositories.manifest(repository, str(pushed.digest))
        if row is not None and self._is_there(caller, repository, row, tag):
            return
        image_id = str(uuid.uuid4())
        manifest_id = self._note(repository, pushed, image_id, tag)
        try:
            self._offer(caller, repository, pushed, image_id, tag)
        except BaseException:
            self._take_back(caller, image_id)
            raise
        former = self._finish(repository, image_id, tag)
        self._hide(caller.token, former, image_id)
        self._tidy(caller, repository, pushed, Image(image_id, manifest_id, tag, adopted=False))

    def delete(self, caller: Caller, row: Any) -> None:
        """Delete a manifest with all its tags and images.

        Raises:
            Unsupported: an index holds it, and would lead nowhere.
        """
        if self._repositories.holders(Repository(row.repository_id, "", ""), [row.digest]):
            raise Unsupported("An index of the repository holds this manifest.", "Delete the index first.")
        for image in self._repositories.images([row.id]):
            self._drop(caller, image)
        with self._engine.begin() as connection:
            forget_manifest(connection, row.id)

    def untag(self, caller: Caller, repository: Repository, tag: str) -> bool:
        """Take a tag away; the manifest stays, by its digest. Return whether there was such a tag."""
        row = self._repositories.manifest(repository, tag)
        if row is None:
            return False
        mine = sa.and_(db.tag.c.repository_id == repository.id, db.tag.c.name == tag)
        with self._engine.connect() as connection:
            image_id = connection.execute(sa.select(db.tag.c.image_id).where(mine)).scalar()
        images = self._repositories.images([row.id])
        image = next(image for image in images if image.id == image_id)
        if image.adopted or len(images) > 1:
            self._drop(caller, image)
        else:
            digest = Digest.parse(row.digest)
            self._glance.change(caller.token, image.id, name=image_name(repository.name, "", digest), os_hidden=True)
        with self._engine.begin() as connection:
            connection.execute(db.tag.delete().where(sa.and_(mine, db.tag.c.image_id == image_id)))
        return True

    def archive(self, image_id: str) -> tuple[int, Iterator[bytes | Descriptor]] | None:
        """Return the size and the parts of the archive that an image is; None if there is no such image."""
        chosen = (
            sa.select(db.manifest)
            .join(db.image, db.image.c.manifest_id == db.manifest.c.id)
            .where(db.image.c.id == image_id, ~db.image.c.adopted)
        )
        with self._engine.connect() as connection:
            row = connection.execute(chosen).first()
        if row is None:
            return None
        root = read(row)
        others = self._below(Repository(row.repository_id, "", ""), root)
        return archive_size(archive(root, others, self._store.has)), archive(root, others, self._store.has)

    def sweep(self, token: str, before: float) -> None:
        """Finish or take back what a crash has left pending since before then."""
        chosen = sa.select(db.image.c.id, db.image.c.tag, db.manifest.c.repository_id).join(
            db.manifest, db.manifest.c.id == db.image.c.manifest_id
        )
        with self._engine.connect() as connection:
            rows = connection.execute(chosen.where(db.image.c.pending, db.image.c.created < before)).all()
        for image_id, tag, repository_id in rows:
            try:
                found = self._glance.find(token, image_id)
                if found is not None and found["status"] == "active" and not self._moved(repository_id, image_id, tag):
                    self._hide(token, self._finish(Repository(repository_id, "", ""), image_id, tag), image_id)
                    LOG.info("Image %s was whole in Glance; its push is finished", image_id)
                    continue
                if found is not None:
                    self._glance.delete(token, image_id)
                self._forget(image_id)
                LOG.info("Image %s is taken back: its push was broken off", image_id)
            except DockstackError:
                LOG.exception("Image %s stays as a broken push left it", image_id)

    def _is_there(self, caller: Caller, repository: Repository, row: Any, tag: str) -> bool:
        """Whether a push that comes again has nothing to do: its image is in Glance, under this tag."""
        if tag:
            mine = sa.and_(db.tag.c.repository_id == repository.id, db.tag.c.name == tag)
            with self._engine.connect() as connection:
                tagged = connection.execute(sa.select(db.tag.c.image_id).where(mine)).scalar()
            ids = [image.id for image in self._repositories.images([row.id]) if image.id == tagged]
            return any(self._repositories.sees_image(caller, image_id) for image_id in ids)
        return self._repositories.sees(caller, repository, row)

    def _note(self, repository: Repository, pushed: Pushed, image_id: str, tag: str) -> int:
        """Keep the manifest and the image that shall be, if the repository has all that the manifest names."""
        now = time.time()
        with self._store.deciding(), self._engine.begin() as connection:
            self._require_held(connection, repository, pushed)
            mine = sa.and_(db.manifest.c.repository_id == repository.id, db.manifest.c.digest == str(pushed.digest))
            manifest_id = connection.execute(sa.select(db.manifest.c.id).where(mine)).scalar()
            if manifest_id is None:
                manifest_id = repository.keep(connection, pushed)
            connection.execute(
                db.image.insert().values(
                    id=image_id, manifest_id=manifest_id, tag=tag, pending=True, adopted=False, created=now
                )
            )
        return int(manifest_id)

    def _require_held(self, connection: Any, repository: Repository, pushed: Pushed) -> None:
        linked = sa.select(db.blob.c.digest, db.blob.c.size).join(db.link, db.link.c.digest == db.blob.c.digest)
        held = dict(
            connection.execute(linked.where(db.link.c.repository_id == repository.id, _among(db.blob, pushed))).all()
        )
        for blob in pushed.blobs:
            if str(blob.digest) not in held:
                raise ManifestBlobUnknown("The repository lacks a blob of the manifest.", "", str(blob.digest))
            if held[str(blob.digest)] != blob.size:
                raise ManifestInvalid("The manifest gives a blob another size than it has.", "", str(blob.digest))
        here = sa.select(db.manifest.c.digest).where(db.manifest.c.repository_id == repository.id)
        known = set(connection.execute(here.where(_among(db.manifest, pushed))).scalars())
        for one in pushed.manifests:
            if str(one.digest) not in known:
                raise ManifestBlobUnknown("The repository lacks a manifest of the index.", "", str(one.digest))

    def _offer(self, caller: Caller, repository: Repository, pushed: Pushed, image_id: str, tag: str) -> None:
        """Make the image in Glance, with the caller's token."""
        others = self._below(repository, pushed)
        size = archive_size(archive(pushed, others, self._store.has))
        room = self._glance.room(caller.token)
        if room is not None and size > room:
            raise Denied(
                f"The image has {size >> 20} MiB, and your project's quota of images {max(room, 0) >> 20} MiB left.",
                "Delete images, also hidden ones (openstack image list --hidden), or ask for a larger quota.",
            )
        configuration = self._configuration_of(pushed)
        named = properties(pushed, configuration, repository.name, tag, self._namespace(caller))
        self._glance.create(caller.token, {"id": image_id, **named})
        url = f"{self._configuration.archive_url}/archives/{image_id}/{self._tokens.sign(image_id)}"
        self._glance.locate(caller.token, image_id, url)

    def _namespace(self, caller: Caller) -> str:
        return caller.project.lower()

    def _configuration_of(self, pushed: Pushed) -> bytes:
        if not pushed.bootable or not pushed.blobs or pushed.blobs[0].size > _MAX_CONFIGURATION:
            return b""
        return self._store.path(pushed.blobs[0].digest).read_bytes()

    def _below(self, repository: Repository, root: Pushed) -> list[Pushed]:
        """Read all manifests that an index leads to.

        Raises:
            ManifestInvalid: they are more than memory is given for.
        """
        found: dict[str, Pushed] = {}
        size = 0
        waiting = [str(one.digest) for one in root.manifests] if root.media_type in INDEX_TYPES else []
        while waiting:
            digest = waiting.pop()
            row = None if digest in found else self._repositories.manifest(repository, digest)
            if row is not None:
                size += len(row.content)
                if size > _MAX_MANIFESTS:
                    raise ManifestInvalid("The manifests of the index are too large together.", "Push fewer of them.")
                found[digest] = read(row)
                waiting += [str(one.digest) for one in found[digest].manifests]
        return list(found.values())

    def _finish(self, repository: Repository, image_id: str, tag: str) -> str:
        """Say that an image is there, and set its tag; return the image that had the tag."""
        former = ""
        mine = sa.and_(db.tag.c.repository_id == repository.id, db.tag.c.name == tag)
        with self._store.deciding(), self._engine.begin() as connection:
            connection.execute(db.image.update().where(db.image.c.id == image_id).values(pending=False))
            if tag:
                former = connection.execute(sa.select(db.tag.c.image_id).where(mine)).scalar() or ""
                if former:
                    connection.execute(db.tag.update().where(mine).values(image_id=image_id))
                else:
                    values = {"repository_id": repository.id, "name": tag, "image_id": image_id}
                    connection.execute(db.tag.insert().values(**values))
        return former

    def _moved(self, repository_id: int, image_id: str, tag: str) -> bool:
        """Whether a tag was given to a later image since."""
        chosen = sa.select(db.image.c.created).where(db.image.c.id == image_id).scalar_subquery()
        later = (
            sa.select(db.image.c.id)
            .join(db.tag, db.tag.c.image_id == db.image.c.id)
            .where(db.tag.c.repository_id == repository_id, db.tag.c.name == tag, db.image.c.created > chosen)
        )
        with self._engine.connect() as connection:
            return connection.execute(later).first() is not None

    def _hide(self, token: str, former: str, made: str) -> None:
        """Hide the image that had a tag; what fails now, the reaper does."""
        if former and former != made:
            with suppress(DockstackError):
                self._glance.hide(token, former)

    def _tidy(self, caller: Caller, repository: Repository, pushed: Pushed, made: Image) -> None:
        """Let images go that nobody needs besides this one; the push is done, whether that succeeds or not.

        Those are images that were pushed by their digest alone: of the same manifest, and of what an index holds, which
        is seen through the index. One that ever had a tag stays: servers may have been booted from it.
        """
        rows = [self._repositories.manifest(repository, str(one.digest)) for one in pushed.manifests]
        below = [row.id for row in rows if row is not None]
        for image in self._repositories.images([made.manifest_id, *below]):
            if image.id != made.id and not image.adopted and not image.tag and not self._has_tag(image.id):
                with suppress(DockstackError):
                    self._drop(caller, image)

    def _has_tag(self, image_id: str) -> bool:
        with self._engine.connect() as connection:
            return connection.execute(sa.select(db.tag.c.name).where(db.tag.c.image_id == image_id)).first() is not None

    def _drop(self, caller: Caller, image: Image) -> None:
        if not image.adopted:
            self._glance.delete(caller.token, image.id)
        with self._engine.begin() as connection:
            connection.execute(db.tag.delete().where(db.tag.c.image_id == image.id))
            connection.execute(db.image.delete().where(db.image.c.id == image.id))

    def _take_back(self, caller: Caller, image_id: str) -> None:
        """Undo what was begun; what cannot be undone now, the sweeper does."""
        try:
            self._glance.delete(caller.token, image_id)
            self._forget(image_id)
        except (DockstackError, sa.exc.SQLAlchemyError):
            LOG.exception("Image %s is left to the sweeper", image_id)

    def _forget(self, image_id: str) -> None:
        """Forget an image that nobody was told of, and its manifest if that has no other."""
        with self._engine.begin() as connection:
            chosen = sa.select(db.image.c.manifest_id).where(db.image.c.id == image_id)
            manifest_id = connection.execute(chosen).scalar()
            connection.execute(db.image.delete().where(db.image.c.id == image_id))
            others = sa.select(db.image.c.id).where(db.image.c.manifest_id == manifest_id)
            held = (
                sa.select(db.reference.c.digest)
                .join(db.manifest, db.manifest.c.digest == db.reference.c.digest)
                .where(db.manifest.c.id == manifest_id)
            )
            if manifest_id is not None and not any(connection.execute(one).first() for one in (others, held)):
                forget_manifest(connection, manifest_id)


def forget_manifest(connection: Any, manifest_id: int) -> None:
    """Forget a manifest with all that stands for it."""
    images = sa.select(db.image.c.id).where(db.image.c.manifest_id == manifest_id)
    connection.execute(db.tag.delete().where(db.tag.c.image_id.in_(images)))
    connection.execute(db.image.delete().where(db.image.c.manifest_id == manifest_id))
    connection.execute(db.reference.delete().where(db.reference.c.manifest_id == manifest_id))
    connection.execute(db.manifest.delete().where(db.manifest.c.id == manifest_id))


def _among(table: Any, pushed: Pushed) -> Any:
    return table.c.digest.in_(sorted(pushed.references))
