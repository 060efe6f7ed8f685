# SPDX-License-Identifier: Apache-2.0
"""Uploads that go on: a file each, hashed as it grows, which becomes a blob or is forgotten.

The file is what counts: a registry that was killed goes on where the file ends, and hashes it again.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dockstack.oci.documents import Digest
from dockstack.registry import database as db
from dockstack.registry.blobs import flush
from dockstack.registry.faults import (
    Denied,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    TooMany,
    UploadInvalid,
    UploadUnknown,
)

if TYPE_CHECKING:
    from dockstack.registry.blobs import BlobStore
    from dockstack.registry.configuration import Configuration
    from dockstack.registry.repositories import Repository

_REMEMBERED = 1000


class Upload:
    """One upload, while a request works on it.

    Attributes:
        id: its name.
        path: its file.
        size: how many bytes there are.
    """

    def __init__(self, upload_id: str, path: Any, most: int) -> None:
        """Find where it stands.

        Args:
            upload_id: its name.
            path: its file, which is there.
            most: how many bytes there may be.
        """
        self.id, self.path, self._most = upload_id, path, most
        self.size = path.stat().st_size
        self._hashed, self._hash = 0, hashlib.sha256()

    def allow(self, most: int) -> None:
        """Set how many bytes there may be from now on."""
        self._most = most

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            SizeInvalid: there are too many.
            UploadInvalid: it is whole; a blob has this very file.
        """
        if self.path.stat().st_nlink > 1:
            raise UploadInvalid("This upload is whole.", "Finish it, without more data.")
        if self.size + len(data) > self._most:
            raise SizeInvalid(
                "That is more than this registry, or your project, takes in one blob.",
                "Push what is half uploaded, or wait until it is forgotten; or ask for a larger quota.",
            )
        if self._hashed == self.size:
            self._hash.update(data)
            self._hashed += len(data)
        with self.path.open("ab") as file:
            file.write(data)
        self.size += len(data)

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of what is there, which is on the disk then."""
        flush(self.path)
        if algorithm == "sha256" and self._hashed == self.size == self.path.stat().st_size:
            return Digest(algorithm, self._hash.hexdigest())
        with self.path.open("rb") as file:
            return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())


class Uploads:
    """All of one registry."""

    def __init__(self, engine: Any, store: BlobStore, configuration: Configuration) -> None:
        """Know them by the database and their files."""
        self._engine, self._store, self._configuration = engine, store, configuration
        self._known: dict[str, Upload] = {}
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def start(self, repository: Repository) -> str:
        """Begin an upload to a repository and return its name.

        Raises:
            TooMany: its project has too many.
        """
        with self._engine.begin() as connection:
            count = connection.execute(
                sa.select(sa.func.count()).where(db.upload.c.project_id == repository.project_id)
            ).scalar()
            if count >= self._configuration.max_uploads:
                raise TooMany(f"The project has {count} uploads open.", "Finish or cancel some.")
            upload_id = str(uuid.uuid4())
            (self._store.uploads / upload_id).touch(mode=0o600)  # first: a row without a file is taken for a dead one
            connection.execute(
                db.upload.insert().values(id=upload_id, repository_id=repository.id, project_id=repository.project_id)
            )
        return upload_id

    def take(self, repository: Repository, upload_id: str) -> Upload:
        """Have an upload for one request alone, until ``release``.

        Raises:
            UploadUnknown: there is none of that name in the repository.
            UploadInvalid: another request works on it.
        """
        with self._engine.connect() as connection:
            known = sa.select(db.upload.c.repository_id).where(db.upload.c.id == upload_id)
            if connection.execute(known).scalar() != repository.id:
                raise _unknown()
        found = self._find(upload_id)
        with self._lock:
            if upload_id in self._busy:
                raise UploadInvalid("Another request works on this upload.", "Wait for it.")
            self._busy.add(upload_id)
        return found

    def release(self, upload: Upload) -> None:
        """Let the next request have it."""
        with self._lock:
            self._busy.discard(upload.id)

    def allow(self, repository: Repository, upload: Upload) -> None:
        """Set how much an upload may hold, by what its project has here that no manifest holds.

        Raises:
            Denied: the project may have no more.
        """
        unfinished = self.unfinished(repository.project_id) - upload.size
        left = self._configuration.max_unfinished_bytes - unfinished
        if left <= 0:
            raise Denied("Your project has too much uploaded that no manifest holds.", "Push manifests, or wait a day.")
        upload.allow(min(left, self._configuration.max_blob_bytes))

    def unfinished(self, project_id: str) -> int:
        """Return how many bytes a project has here that no image holds: what a quota of images counts is not here."""
        index, above = db.manifest.alias(), db.reference.alias()
        imaged = sa.select(db.image.c.id).where(db.image.c.manifest_id == db.manifest.c.id).correlate(db.manifest)
        through = (
            sa.select(db.image.c.id)
            .join(index, index.c.id == db.image.c.manifest_id)
            .join(above, above.c.manifest_id == index.c.id)
            .where(above.c.digest == db.manifest.c.digest, index.c.repository_id == db.manifest.c.repository_id)
            .correlate(db.manifest)
        )
        held = (
            sa.select(sa.literal(1))
            .select_from(db.reference.join(db.manifest, db.manifest.c.id == db.reference.c.manifest_id))
            .where(db.reference.c.digest == db.link.c.digest, db.manifest.c.repository_id == db.link.c.repository_id)
            .where(sa.or_(imaged.exists(), through.exists()))
            .correlate(db.link)
            .exists()
        )
        linked = (
            sa.select(sa.func.coalesce(sa.func.sum(db.blob.c.size), 0))
            .select_from(
                db.link.join(db.repository, db.repository.c.id == db.link.c.repository_id).join(
                    db.blob, db.blob.c.digest == db.link.c.digest
                )
            )
            .where(db.repository.c.project_id == project_id, ~held)
        )
        with self._engine.connect() as connection:
            total = int(connection.execute(linked).scalar())
            ids = connection.execute(sa.select(db.upload.c.id).where(db.upload.c.project_id == project_id))
            for (upload_id,) in ids:
                with suppress(FileNotFoundError):
                    total += (self._store.uploads / upload_id).stat().st_size
        return total

    def finish(self, repository: Repository, upload: Upload, wanted: Digest) -> None:
        """Make a blob of an upload, and the repository's; whatever fails meanwhile, it can be tried again.

        Raises:
            DigestInvalid: it is not what it should be; the upload is forgotten.
        """
        found = upload.digest(wanted.algorithm)
        if found != wanted:
            self.forget(upload.id)
            raise DigestInvalid("What was sent has another digest.", "Send it again.", f"{found}, not {wanted}")
        now = time.time()
        with self._store.deciding():
            self._store.keep(upload.path, wanted)
            with self._engine.begin() as connection:
                known = sa.select(db.blob.c.digest).where(db.blob.c.digest == str(wanted))
                if connection.execute(known).scalar() is None:
                    connection.execute(db.blob.insert().values(digest=str(wanted), size=upload.size, created=now))
                repository.link(connection, wanted)
        self.forget(upload.id)

    def forget(self, upload_id: str) -> None:
        """Let an upload be gone; absent is fine."""
        with self._engine.begin() as connection:
            connection.execute(db.upload.delete().where(db.upload.c.id == upload_id))
        (self._store.uploads / upload_id).unlink(missing_ok=True)
        with self._lock:
            self._known.pop(upload_id, None)

    def expired(self, before: float) -> list[str]:
        """Return which were not written to since then, those included that are but a file or a line."""
        with self._engine.connect() as connection:
            rows = set(connection.execute(sa.select(db.upload.c.id)).scalars())
        files = {path.name: path for path in self._store.uploads.iterdir()}
        gone = [upload_id for upload_id in rows if upload_id not in files]
        for name, path in files.items():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before and name not in self._busy:
                    gone.append(name)
        return sorted(gone)

    def _find(self, upload_id: str) -> Upload:
        path = self._store.uploads / upload_id
        with self._lock:
            found = self._known.get(upload_id)
            if found is None or not path.exists() or found.size != path.stat().st_size:
                if not path.exists():
                    raise _unknown()
                found = Upload(upload_id, path, self._configuration.max_blob_bytes)
                if len(self._known) >= _REMEMBERED:
                    self._known.pop(next(iter(self._known)))
                self._known[upload_id] = found
        return found


def require_start(upload: Upload, content_range: str, length: str) -> None:
    """Insist that a chunk begins where the upload ends, and is as long as it says.

    Raises:
        RangeInvalid: it does not.
    """
    if not content_range:
        return
    first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise UploadInvalid("The chunk's range is not understood.", "Write it as START-END.")
    if int(first) != upload.size:
        raise RangeInvalid(f"The upload has {upload.size} bytes.", "Go on from there.")
    if length.isdecimal() and int(last) - int(first) + 1 != int(length):
        raise UploadInvalid("The chunk is not as long as its range.", "Send it again.")


def _unknown() -> UploadUnknown:
    return UploadUnknown("There is no such upload.", "Begin it again.")
