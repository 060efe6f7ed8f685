# SPDX-License-Identifier: Apache-2.0
"""One repository of a registry, to be read: manifests and blobs, with the tokens that it takes.

Source: OCI Distribution specification 1.1; the token authentication of the Docker registry (distribution's spec/auth).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from dockstack.oci.documents import INDEX_TYPES, MANIFEST_TYPES, Digest, ImageRejected, json_object, shown
from dockstack.oci.remote.addresses import Origin, RegistryError
from dockstack.oci.remote.session import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.oci.remote.session import Answer, Session

MAX_MANIFEST = 4 << 20  # what the specification says that registries take
_MAX_TOKEN = 64 << 10
_TRIES = 4  # of one blob, each of which must bring it on
_OK, _PARTIAL, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 200, 206, 401, 403, 404
_PARAMETER = re.compile(r'([a-zA-Z]+)="([^"]*)"')
_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))


@dataclass(frozen=True)
class Credentials:
    """Who we are to a registry."""

    user: str
    secret: str = field(repr=False)
    own: bool = True  # a user's own, which nobody but the registry itself may see, wherever it says that tokens are

    @property
    def header(self) -> str:
        """The header's value."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


class Repository:
    """A repository."""

    def __init__(self, session: Session, origin: Origin, name: str, credentials: Credentials | None = None) -> None:
        """Ask for nothing yet."""
        self._session = session
        self.origin = origin
        self._name = name
        self._credentials = credentials
        self._authorization: dict[str, str] = {}

    def __str__(self) -> str:
        return f"{self.origin}/{self._name}"

    def manifest(self, reference: str) -> bytes:
        """Read a manifest or an index by its tag or digest; what a digest names is compared with it.

        Raises:
            ImageRejected: there is none, or it is not what its digest says.
            RegistryError: the registry does not give it.
        """
        found = self.find_manifest(reference)
        if found is None:
            raise ImageRejected(
                f"{shown(str(self))} has no image {shown(reference)}.", "Push it there, or correct the reference."
            )
        return found

    def find_manifest(self, reference: str) -> bytes | None:
        """Read a manifest as ``manifest``; None if there is none."""
        with self._get(f"manifests/{reference}", {"Accept": _ACCEPT}) as answer:
            if answer.status == _NOT_FOUND:
                return None
            self._require(answer, _OK)
            data = answer.small(MAX_MANIFEST, "manifest")
        if ":" in reference:
            self.verify(data, Digest.parse(reference))
        return data

    def document(self, digest: Digest, size: int, what: str) -> bytes:
        """Read a small blob whole and compare it with its digest.

        Raises:
            ImageRejected: it is not small, or not what its digest says.
            RegistryError: the registry does not give it.
        """
        if size > MAX_MANIFEST:
            raise ImageRejected(f"The image's {what} has {size} bytes.", "No real image needs that many.")
        data = b"".join(self.blob(digest, size))
        self.verify(data, digest)
        return data

    def blob(self, digest: Digest, size: int) -> Iterator[bytes]:
        """Read a blob; where a connection breaks, the next one goes on from there.

        Raises:
            ImageRejected: it has another size.
            RegistryError: the registry does not give it.
        """
        count, tries = 0, _TRIES
        while True:
            before = count
            try:
                for chunk in self._blob_from(digest, count):
                    count += len(chunk)
                    if count > size:
                        raise _other_size(digest, size)
                    yield chunk
            except Broken:
                tries = _TRIES if count > before else tries - 1
                if not tries or count >= size:
                    raise
                continue
            if count != size:
                raise _other_size(digest, size)
            return

    def has_blob(self, digest: Digest) -> bool:
        """Whether the registry would give us a blob of this repository."""
        with self._get(f"blobs/{digest}", {}, method="HEAD") as answer:
            return answer.status == _OK

    def _blob_from(self, digest: Digest, start: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._get(f"blobs/{digest}", headers) as answer:
            self._require(answer, _OK, _PARTIAL)
            skip = start
            if answer.status == _PARTIAL:
                if not answer.header("Content-Range").startswith(f"bytes {start}-"):
                    raise RegistryError("The registry sends another part than it was asked for.", "Ask who runs it.")
                skip = 0
            for chunk in answer.chunks():
                rest = chunk[skip:]
                skip -= len(chunk) - len(rest)
                if rest:
                    yield rest

    def _get(self, path: str, headers: dict[str, str], *, method: str = "GET") -> Answer:
        url = f"{self.origin}/v2/{self._name}/{path}"
        answer = self._session.get(url, headers | self._authorization, method=method)
        if answer.status != _UNAUTHORISED:
            return answer
        with answer:
            if answer.origin != self.origin:  # who the registry leads to is told nothing of us
                raise self._denied()
            self._authorization = {"Authorization": self._authorize(answer.header("WWW-Authenticate"))}
        return self._session.get(url, headers | self._authorization, method=method)

    def _authorize(self, challenge: str) -> str:
        """Answer a challenge."""
        kind = challenge.partition(" ")[0].lower()
        if kind == "basic" and self._credentials is not None:
            return self._credentials.header
        said = {name.lower(): value for name, value in _PARAMETER.findall(challenge)}
        if kind != "bearer" or not said.get("realm"):
            raise self._denied()
        realm = said["realm"]
        query = urlencode({"service": said.get("service", ""), "scope": f"repository:{self._name}:pull"})
        headers = {}
        if self._credentials is not None:
            if self._credentials.own and Origin.of(realm) != self.origin:
                raise RegistryError(
                    f"{shown(str(self.origin))} wants its users' tokens sent to {shown(realm)}.",
                    "Nobody but the cloud's own registry gets them: look at its configuration.",
                )
            headers["Authorization"] = self._credentials.header
        with self._session.get(f"{realm}{'&' if '?' in realm else '?'}{query}", headers) as answer:
            if answer.status in (_UNAUTHORISED, _FORBIDDEN):
                raise self._denied()
            self._require(answer, _OK)
            reply = json_object(answer.small(_MAX_TOKEN, "token"), "token")
        token = reply.get("token") or reply.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryError("The registry's token service gives no token.", "Ask who runs it.")
        return f"Bearer {token}"

    def _require(self, answer: Answer, *expected: int) -> None:
        if answer.status in expected:
            return
        if answer.status in (_UNAUTHORISED, _FORBIDDEN):
            raise self._denied()
        if answer.status == _NOT_FOUND:
            raise ImageRejected(f"{shown(str(self))} lacks a part of the image.", "Push it again.")
        raise RegistryError(
            f"{shown(str(self))} answers with status {answer.status}.", "Try again; if it stays so, ask who runs it."
        )

    def _denied(self) -> RegistryError:
        return RegistryError(
            f"{shown(str(self))} does not let us read it.",
            "In the cloud's own registry, the image must be yours or shared with you; for another one, this host's "
            "operator adds credentials ([docker] registry_credentials).",
        )

    @staticmethod
    def verify(data: bytes, digest: Digest) -> None:
        """Compare bytes with the digest that names them.

        Raises:
            ImageRejected: they differ.
        """
        if Digest.of(data, digest.algorithm) != digest:
            raise ImageRejected(
                f"The registry sends something else than {shown(str(digest))}.",
                "It is damaged or made to do harm: ask who runs it.",
            )


def _other_size(digest: Digest, size: int) -> ImageRejected:
    return ImageRejected(
        f"The registry sends another number of bytes for {shown(str(digest))} than the manifest's {size}.",
        "Push the image again.",
    )
