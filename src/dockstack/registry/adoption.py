# SPDX-License-Identifier: Apache-2.0
"""Images that Glance has as bytes can be pulled, too: snapshots of servers, and what ``docker save`` wrote.

Such an archive is a stranger's: it is read in a process of its own, as a host reads it before a server boots. What
comes of it is kept here as blobs for some days; it is read again when it is wanted later.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import sqlalchemy as sa

from dockstack.oci import sandbox
from dockstack.oci.distribution.forward import blobs, small
from dockstack.oci.distribution.manifests import Pushed
from dockstack.oci.documents import Descriptor, ImageRejected
from dockstack.oci.streams import ImageLimits
from dockstack.registry import database as db
from dockstack.registry.blobs import CHUNK, flush
from dockstack.registry.faults import CloudSilent, Denied, ManifestUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.oci.documents import Digest
    from dockstack.registry.blobs import BlobStore
    from dockstack.registry.configuration import Configuration
    from dockstack.registry.glance import Glance
    from dockstack.registry.identity import Caller, Identity
    from dockstack.registry.repositories import Repositories, Repository

_IMAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS = 1800
_AT_ONCE = 4  # each takes up to 256 MiB of memory and a processor


class Adoption:
    """Makes manifests of what is in Glance."""

    def __init__(
        self,
        configuration: Configuration,
        engine: Any,
        store: BlobStore,
        repositories: Repositories,
        cloud: tuple[Identity, Glance],
    ) -> None:
        """Read nothing yet."""
        self._most = configuration.max_unfinished_bytes
        self._engine, self._store, self._repositories = engine, store, repositories
        self._identity, self._glance = cloud
        self._copying: set[str] = set()  # projects
        self._lock = threading.Lock()

    def adopt(self, caller: Caller, name: str, reference: str) -> Any | None:
        """Return the manifest of what Glance has under a repository's name and a tag; None if the caller sees none.

        The repository is PROJECT/NAME, for an image named NAME, NAME-TAG or NAME:TAG, or PROJECT/ID.

        Raises:
            ManifestUnknown: what is there is no image for servers.
            CloudSilent: it has to be read, and another one of its project is being read, or too many of others.
            Denied: it has to be read, and its project has as many copies here as it may have.
        """
        image = None if ":" in reference else self._find(caller, name, reference)
        if image is None or image.get("container_format") != "docker":
            return None
        if not self._repositories.sees_image(caller, image["id"]):
            return None
        repository = self._repositories.ensure(str(image["owner"]), "", name.partition("/")[2])
        found = self._kept(repository, image["id"]) or self._copied(repository, image["id"])
        if found is not None:
            return found
        with self._turn(repository.project_id):
            return self._kept(repository, image["id"]) or self._read(caller, repository, image)

    @contextmanager
    def _turn(self, project_id: str) -> Iterator[None]:
        """Let a project have one image read at a time, so that its slow one keeps nobody else waiting.

        Nor is it waited for here: a thread that waits is one that others lack.
        """
        with self._lock:
            if project_id in self._copying:
                raise CloudSilent("Another image of the project is being copied.", "Try again in a minute.")
            if len(self._copying) >= _AT_ONCE:
                raise CloudSilent("Images of several projects are being copied.", "Try again in a minute.")
            self._copying.add(project_id)
        try:
            yield
        finally:
            with self._lock:
                self._copying.discard(project_id)

    def _find(self, caller: Caller, name: str, reference: str) -> dict[str, Any] | None:
        inner = name.partition("/")[2]
        project_id = self._repositories.project_of(caller, name)
        token = caller.token or self._identity.service_token()
        if not inner or not project_id:
            return None
        if _IMAGE_ID.fullmatch(inner):
            image = self._glance.find(token, inner)
            return image if image is not None and image["owner"] == project_id else None
        wanted = [inner] if reference == "latest" else [f"{inner}-{reference}", f"{inner}:{reference}"]
        found = (self._glance.named(token, project_id, name) for name in wanted)
        return next((image for image in found if image is not None), None)

    def _kept(self, repository: Repository, image_id: str) -> Any | None:
        chosen = (
            sa.select(db.manifest)
            .join(db.image, db.image.c.manifest_id == db.manifest.c.id)
            .where(db.manifest.c.repository_id == repository.id, db.image.c.id == image_id, ~db.image.c.pending)
        )
        with self._engine.connect() as connection:
            return connection.execute(chosen).first()

    def _copied(self, repository: Repository, image_id: str) -> Any | None:
        """Have what was pushed here under another name under this one, too; None if it was not."""
        chosen = (
            sa.select(db.manifest)
            .join(db.image, db.image.c.manifest_id == db.manifest.c.id)
            .where(db.image.c.id == image_id, ~db.image.c.pending, ~db.image.c.adopted)
        )
        with self._engine.connect() as connection:
            row = connection.execute(chosen).first()
        if row is None:
            return None
        pushed = Pushed.parse(row.content, row.media_type, row.digest.partition(":")[0])
        if pushed.manifests:
            raise ManifestUnknown("The image has several platforms.", "Pull it under the name that it was pushed to.")
        return self._note(repository, image_id, pushed)

    def _read(self, caller: Caller, repository: Repository, image: dict[str, Any]) -> Any:
        token = caller.token or self._identity.service_token()
        limits = ImageLimits()
        limits = replace(limits, max_unpacked_bytes=min(limits.max_unpacked_bytes, self._left(repository.project_id)))
        architecture = str(image.get("hw_architecture") or os.uname().machine)
        pushed = None
        try:
            with sandbox.normalise(
                self._glance.download(token, image["id"]),
                architecture=architecture,
                limits=limits,
                workspace=self._store.workspace,
                timeout=_SECONDS,
            ) as checked:
                pushed = self._take(checked.stream())
        except ImageRejected as error:
            raise ManifestUnknown(f"The image cannot be pulled. {error.brief}", error.resolution) from error
        return self._note(repository, image["id"], pushed)

    def _left(self, project_id: str) -> int:
        """Return how many bytes of further copies a project may have here.

        Raises:
            Denied: none.
        """
        copies = (
            sa.select(db.reference.c.digest)
            .join(db.image, db.image.c.manifest_id == db.reference.c.manifest_id)
            .join(db.manifest, db.manifest.c.id == db.reference.c.manifest_id)
            .join(db.repository, db.repository.c.id == db.manifest.c.repository_id)
            .where(db.image.c.adopted, db.repository.c.project_id == project_id)
        )
        size = sa.select(sa.func.coalesce(sa.func.sum(db.blob.c.size), 0)).where(db.blob.c.digest.in_(copies))
        with self._engine.connect() as connection:
            left = self._most - int(connection.execute(size).scalar())
        if left <= 0:
            raise Denied(
                "The registry has as many copies of images of this project as it keeps.",
                "Wait until they go, after a week, or download the image from Glance.",
            )
        return left

    def _take(self, stream: Iterator[bytes]) -> Pushed:
        """Keep the blobs of an archive that our own check wrote."""
        files: dict[str, bytes] = {}
        for known, _, content in blobs(stream):
            if isinstance(known, str):
                files[known] = small(content)
            else:
                self._keep(content, known)
        pointer = Descriptor.parse(json.loads(files["index.json"])["manifests"][0])
        return Pushed.parse(self._store.path(pointer.digest).read_bytes(), pointer.media_type)

    def _keep(self, content: IO[bytes], digest: Digest) -> None:
        with tempfile.NamedTemporaryFile(dir=self._store.uploads, delete=False) as file:
            while data := content.read(CHUNK):
                file.write(data)
            size = file.tell()
        flush(Path(file.name))
        with self._store.deciding():
            self._store.keep(Path(file.name), digest)
            with self._engine.begin() as connection:
                known = sa.select(db.blob.c.digest).where(db.blob.c.digest == str(digest))
                if connection.execute(known).first() is None:
                    values = {"digest": str(digest), "size": size, "created": time.time()}
                    connection.execute(db.blob.insert().values(**values))
        Path(file.name).unlink()

    def _note(self, repository: Repository, image_id: str, pushed: Pushed) -> Any:
        with suppress(sa.exc.IntegrityError):  # another request was faster
            self._insert(repository, image_id, pushed)
        return self._kept(repository, image_id)

    def _insert(self, repository: Repository, image_id: str, pushed: Pushed) -> None:
        now = time.time()
        with self._store.deciding(), self._engine.begin() as connection:
            if not all(self._store.has(blob.digest) for blob in pushed.blobs):
                raise CloudSilent("The image was removed meanwhile.", "Try again.")
            for blob in pushed.blobs:
                repository.link(connection, blob.digest)
            mine = sa.and_(db.manifest.c.repository_id == repository.id, db.manifest.c.digest == str(pushed.digest))
            manifest_id = connection.execute(sa.select(db.manifest.c.id).where(mine)).scalar()
            if manifest_id is None:
                manifest_id = repository.keep(connection, pushed)
            values = {"id": image_id, "manifest_id": manifest_id, "tag": "", "pending": False, "adopted": True}
            connection.execute(db.image.insert().values(**values, created=now))
