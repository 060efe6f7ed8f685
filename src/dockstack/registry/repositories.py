# SPDX-License-Identifier: Apache-2.0
"""Repositories: which project's, which blobs they have, which manifests, which of them who may see."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dockstack.oci.distribution.manifests import Pushed
from dockstack.oci.documents import encode_json
from dockstack.registry import database as db
from dockstack.registry.faults import Denied, NameInvalid, NameUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dockstack.oci.documents import Digest
    from dockstack.registry.blobs import BlobStore
    from dockstack.registry.glance import Glance
    from dockstack.registry.identity import Caller, Identity

_PROJECT_ID = re.compile("[0-9a-f]{32}")
_DEPTH = 3  # indexes in indexes through which a manifest is found
_IMAGES = 50  # of which one has to let a caller see a blob
_MAX_REFERRERS = 4 << 20  # bytes of what one list says of them


@dataclass(frozen=True)
class Repository:
    """A repository that exists.

    Attributes:
        id: its number here.
        project_id: whose it is.
        name: its name within the project.
    """

    id: int
    project_id: str
    name: str

    def link(self, connection: Any, digest: Digest) -> None:
        """Note that it has a blob, or has it again."""
        values = {"repository_id": self.id, "digest": str(digest)}
        mine = sa.and_(db.link.c.repository_id == self.id, db.link.c.digest == str(digest))
        if connection.execute(db.link.update().where(mine).values(created=time.time())).rowcount == 0:
            connection.execute(db.link.insert().values(**values, created=time.time()))

    def keep(self, connection: Any, pushed: Pushed) -> int:
        """Note a manifest that it does not have, and return its number."""
        values = {
            "repository_id": self.id,
            "digest": str(pushed.digest),
            "media_type": pushed.media_type,
            "content": pushed.content,
            "subject": pushed.subject,
            "created": time.time(),
        }
        manifest_id = int(connection.execute(db.manifest.insert().values(**values)).inserted_primary_key[0])
        for digest in pushed.references:
            connection.execute(db.reference.insert().values(manifest_id=manifest_id, digest=digest))
        return manifest_id


@dataclass(frozen=True)
class Image:
    """One image of Glance that stands for a manifest."""

    id: str
    manifest_id: int
    tag: str
    adopted: bool


class Repositories:
    """All of one registry, as callers see them."""

    def __init__(self, engine: Any, identity: Identity, glance: Glance) -> None:
        """Know them by the database."""
        self._engine, self._identity, self._glance = engine, identity, glance

    def project_of(self, caller: Caller, name: str) -> str:
        """Return the id of the project that a repository's first word means; "" if none is known by it."""
        namespace = name.partition("/")[0]
        if caller.calls_its_own(namespace):
            return caller.project_id
        if _PROJECT_ID.fullmatch(namespace):
            return namespace
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(db.project.c.id).where(db.project.c.name == namespace)).scalars().all()
        return str(found[0]) if len(found) == 1 else ""

    def find(self, caller: Caller, name: str) -> Repository | None:
        """Find a repository by its whole name, PROJECT/NAME."""
        project_id, inner = self.project_of(caller, name), name.partition("/")[2]
        with self._engine.connect() as connection:
            where = sa.and_(db.repository.c.project_id == project_id, db.repository.c.name == inner)
            found = connection.execute(sa.select(db.repository.c.id).where(where)).scalar()
        return None if found is None else Repository(found, project_id, inner)

    def known(self, caller: Caller, name: str) -> Repository:
        """Find a repository.

        Raises:
            NameUnknown: there is none.
        """
        found = self.find(caller, name)
        if found is None:
            raise NameUnknown("There is no such repository, or you may not see it.", "Log in, or look at its name.")
        return found

    def own(self, caller: Caller, name: str) -> Repository:
        """Find a repository of the caller's project; made now if there is none.

        Raises:
            Denied: the name begins with another project.
            NameInvalid: it is the project alone.
        """
        namespace, _, inner = name.partition("/")
        if not caller.calls_its_own(namespace):
            raise Denied("You push to your own project only.", f"Push to {caller.project.lower()}/NAME.")
        if not inner:
            raise NameInvalid("A name has two parts at least.", f"Push to {namespace}/NAME.")
        return self.ensure(caller.project_id, caller.project, inner)

    def ensure(self, project_id: str, project: str, inner: str) -> Repository:
        """Return a project's repository, made now if there is none; and remember the project's name."""
        found = self._get(project_id, inner)
        while found is None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(db.repository.insert().values(project_id=project_id, name=inner))
            except sa.exc.IntegrityError:
                pass  # another request was faster
            found = self._get(project_id, inner)
        if project:
            self._remember(project_id, project.lower())
        return found

    def names(self, caller: Caller) -> list[str]:
        """List the caller's project's repositories."""
        with self._engine.connect() as connection:
            chosen = sa.select(db.repository.c.name).where(db.repository.c.project_id == caller.project_id)
            return sorted(f"{caller.project.lower()}/{name}" for name in connection.execute(chosen).scalars())

    def manifest(self, repository: Repository, reference: str) -> Any | None:
        """Find a manifest's row by its digest or a tag; None if there is none."""
        chosen = sa.select(db.manifest).where(db.manifest.c.repository_id == repository.id)
        if ":" in reference:
            chosen = chosen.where(db.manifest.c.digest == reference)
        else:
            tagged = (
                sa.select(db.image.c.manifest_id)
                .join(db.tag, db.tag.c.image_id == db.image.c.id)
                .where(db.tag.c.repository_id == repository.id, db.tag.c.name == reference)
            )
            chosen = chosen.where(db.manifest.c.id.in_(tagged))
        with self._engine.connect() as connection:
            return connection.execute(chosen).first()

    def images(self, manifest_ids: Iterable[int]) -> list[Image]:
        """List the images that stand for manifests, the newest first."""
        chosen = (
            sa.select(db.image.c.id, db.image.c.manifest_id, db.image.c.tag, db.image.c.adopted)
            .where(db.image.c.manifest_id.in_(list(manifest_ids)), ~db.image.c.pending)
            .order_by(db.image.c.created.desc())
        )
        with self._engine.connect() as connection:
            return [Image(*row) for row in connection.execute(chosen)]

    def holders(self, repository: Repository, digests: Sequence[str]) -> list[Any]:
        """List the manifests of a repository that hold one of some blobs or manifests."""
        chosen = (
            sa.select(db.manifest.c.id, db.manifest.c.digest)
            .join(db.reference, db.reference.c.manifest_id == db.manifest.c.id)
            .where(db.manifest.c.repository_id == repository.id, db.reference.c.digest.in_(digests))
        )
        with self._engine.connect() as connection:
            return list(connection.execute(chosen))

    def sees(self, caller: Caller, repository: Repository, row: Any) -> bool:
        """Whether Glance lets the caller see one of the images that stand for a manifest, or for an index of it."""
        level, ids = [row.digest], [row.id]
        denied = None
        for _ in range(_DEPTH):
            for image in self.images(ids)[:_IMAGES]:
                try:
                    if self.sees_image(caller, image.id):
                        return True
                except Denied as error:
                    denied = error
            if denied is not None:
                raise denied
            rows = self.holders(repository, level)
            if not rows:
                return False
            level, ids = [found.digest for found in rows], [found.id for found in rows]
        return False

    def sees_image(self, caller: Caller, image_id: str) -> bool:
        """Whether an image is there for the caller, with its data.

        Raises:
            Denied: it is there, and deactivated.
        """
        image = self._glance.find(caller.token or self._identity.service_token(), image_id)
        if image is None or (not caller.token and image["visibility"] != "public"):
            return False
        if image["status"] == "deactivated":
            raise Denied("The image is deactivated.", "Its owner, or an administrator, can reactivate it.")
        return bool(image["status"] == "active")

    def sees_blob(self, caller: Caller, repository: Repository, digest: str) -> bool:
        """Whether the caller may read a blob of a repository: as a part of what they see, or as what they sent."""
        with self._engine.connect() as connection:
            mine = sa.and_(db.link.c.repository_id == repository.id, db.link.c.digest == digest)
            linked = connection.execute(sa.select(db.link.c.created).where(mine)).scalar() is not None
        own = linked and caller.writes and caller.project_id == repository.project_id
        denied = None
        for row in self.holders(repository, [digest])[-_IMAGES:]:
            try:
                if self.sees(caller, repository, row):
                    return True
            except Denied as error:
                denied = error
        if denied is not None and not own:
            raise denied
        return own and denied is None  # who sends it again need not be told that it is a deactivated image's

    def has_blob(self, caller: Caller, digest: str) -> bool:
        """Whether the caller may read a blob in any repository of their project."""
        chosen = (
            sa.select(db.repository.c.id, db.repository.c.project_id, db.repository.c.name)
            .join(db.link, db.link.c.repository_id == db.repository.c.id)
            .where(db.repository.c.project_id == caller.project_id, db.link.c.digest == digest)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(chosen).all()
        return any(self.sees_blob(caller, Repository(*row), digest) for row in rows)

    def gain(self, store: BlobStore, repository: Repository, digest: Digest) -> bool:
        """Have a repository get a blob that is here; return whether it is."""
        with store.deciding(), self._engine.begin() as connection:
            known = sa.select(db.blob.c.digest).where(db.blob.c.digest == str(digest))
            if connection.execute(known).scalar() is None:
                return False
            repository.link(connection, digest)
        return True

    def lose(self, repository: Repository, digest: Digest) -> bool:
        """Have a repository lose a blob; return whether it had it."""
        mine = sa.and_(db.link.c.repository_id == repository.id, db.link.c.digest == str(digest))
        with self._engine.begin() as connection:
            return bool(connection.execute(db.link.delete().where(mine)).rowcount)

    def tags(self, caller: Caller, repository: Repository) -> list[str]:
        """List the tags whose images the caller's lists show."""
        with self._engine.connect() as connection:
            chosen = sa.select(db.tag.c.name, db.tag.c.image_id).where(db.tag.c.repository_id == repository.id)
            found = connection.execute(chosen).all()
        if not caller.token:
            return sorted(name for name, image_id in found if self.sees_image(caller, image_id))
        seen = self._glance.listed(caller.token, [image_id for _, image_id in found])
        return sorted(name for name, image_id in found if image_id in seen)

    def referrers(self, caller: Caller, repository: Repository, subject: str) -> list[dict[str, Any]]:
        """Describe the manifests that say something of another one, as far as the caller sees them and room is."""
        mine = sa.and_(db.manifest.c.repository_id == repository.id, db.manifest.c.subject == subject)
        chosen = sa.select(db.manifest.c.id, db.manifest.c.digest).where(mine).order_by(db.manifest.c.id)
        with self._engine.connect() as connection:
            rows = connection.execute(chosen).all()
        found, size = [], 0
        for row in rows:
            whole = self.manifest(repository, row.digest) if self.sees(caller, repository, row) else None
            if whole is None:
                continue
            described = read(whole).descriptor()
            size += len(encode_json(described))
            if size > _MAX_REFERRERS:
                break
            found.append(described)
        return found

    def _get(self, project_id: str, inner: str) -> Repository | None:
        with self._engine.connect() as connection:
            where = sa.and_(db.repository.c.project_id == project_id, db.repository.c.name == inner)
            found = connection.execute(sa.select(db.repository.c.id).where(where)).scalar()
        return None if found is None else Repository(found, project_id, inner)

    def _remember(self, project_id: str, project: str) -> None:
        mine = db.project.c.id == project_id
        with self._engine.connect() as connection:
            if connection.execute(sa.select(db.project.c.name).where(mine)).scalar() == project:
                return
        try:
            with self._engine.begin() as connection:
                connection.execute(db.project.delete().where(mine))
                connection.execute(db.project.insert().values(id=project_id, name=project))
        except sa.exc.IntegrityError:
            pass  # another request was faster


def read(row: Any) -> Pushed:
    """Read a manifest that was kept."""
    return Pushed.parse(row.content, row.media_type, row.digest.partition(":")[0])
