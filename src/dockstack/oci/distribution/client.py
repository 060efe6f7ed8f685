# SPDX-License-Identifier: Apache-2.0
"""A small client of the registry, for people who have no Docker: archives go up, and come down."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
from keystoneauth1.exceptions import CatalogException
from requests.utils import get_environ_proxies

from dockstack.oci.distribution.forward import blobs, small
from dockstack.oci.distribution.manifests import Pushed, archive
from dockstack.oci.distribution.protocol import SERVICE, SERVICE_TYPE, TOKEN_USER, scope
from dockstack.oci.documents import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPE,
    Descriptor,
    Digest,
    ImageRejected,
    Index,
    Platform,
    go_architecture,
)
from dockstack.oci.remote.addresses import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 300  # until Glance has taken an image
_CHUNK = 1 << 20
_ACCEPTED = f"{MANIFEST_TYPE}, {DOCKER_MANIFEST_TYPE}, {INDEX_TYPE}, {DOCKER_INDEX_TYPE}"


@dataclass(frozen=True)
class Account:
    """Where the registry is, and who asks.

    Attributes:
        url: its address.
        token: Keystone's.
        authority: whom to trust, as requests has it: a file, or True for whom this system trusts.
    """

    url: str
    token: str
    authority: str | bool = True

    @classmethod
    def of(cls, session: Any) -> Account | None:
        """Return the one of a session of keystoneauth; None if its catalogue names no registry."""
        url = find_registry(session)
        return cls(url, session.get_token(), session.verify) if url else None


def find_registry(session: Any) -> str | None:
    """Return the address of the registry that the catalogue of keystoneauth's session names, None if it names none."""
    try:
        url = session.get_endpoint(service_type=SERVICE_TYPE)
    except CatalogException:
        return None
    return str(url) if url else None


class Client:
    """One repository, as one user sees it."""

    def __init__(self, account: Account, name: str) -> None:
        """Log in.

        Args:
            account: where and who.
            name: the repository, PROJECT/NAME.

        Raises:
            RegistryError: the registry does not let them.
        """
        self._base = account.url.rstrip("/")
        self._name = name
        self._session = requests.Session()
        self._session.trust_env = False  # else a password of ~/.netrc would stand in the token's place
        self._session.proxies.update(get_environ_proxies(self._base))  # as the cloud's other APIs are reached
        self._session.verify = account.authority
        asked = {"service": SERVICE, "scope": scope(name, "pull", "push")}
        answer = self._ask("GET", f"{self._base}/token", params=asked, auth=(TOKEN_USER, account.token))
        self._session.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def push(self, stream: Iterator[bytes], tag: str) -> Digest:
        """Push an archive that our own check wrote, and return its manifest's digest."""
        files: dict[str, bytes] = {}
        sent: dict[Digest, bytes] = {}
        for known, size, content in blobs(stream):
            if isinstance(known, str):
                files[known] = small(content)
            elif size < _CHUNK:
                sent[known] = content.read()  # one of these is the manifest, and which is told at the end or before
            else:
                self._send(known, iter(partial(content.read, _CHUNK), b""))
        pointer = Descriptor.parse(json.loads(files["index.json"])["manifests"][0])
        manifest = sent.pop(pointer.digest)
        for digest, data in sent.items():
            self._send(digest, data)
        headers = {"Content-Type": pointer.media_type}
        self._ask("PUT", self._url(f"manifests/{tag}"), data=manifest, headers=headers)
        return pointer.digest

    def pull(self, reference: str, architecture: str, output: IO[bytes]) -> Digest:
        """Write an image as an archive, and return its manifest's digest.

        Args:
            reference: a tag or a digest.
            architecture: whose image of several to take, as this machine calls it.
            output: where it is written.

        Raises:
            RegistryError: there is no such image, or it is not what it should be.
        """
        pushed = self._manifest(reference)
        if pushed.media_type in INDEX_TYPES:
            wanted = Platform("linux", *go_architecture(architecture))
            fitting = [one for one in Index.parse(pushed.content).manifests if _fits(one, wanted)]
            if not fitting:
                raise RegistryError(f"The image has none for {architecture}.", "Name another with --architecture.")
            pushed = self._manifest(str(fitting[0].digest))
        for part in archive(pushed, (), lambda _: True):
            if isinstance(part, Descriptor):
                self._receive(part, output)
            else:
                output.write(part)
        return pushed.digest

    def _manifest(self, reference: str) -> Pushed:
        answer = self._ask("GET", self._url(f"manifests/{reference}"), headers={"Accept": _ACCEPTED})
        algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
        try:
            pushed = Pushed.parse(answer.content, answer.headers.get("Content-Type", ""), algorithm)
        except ImageRejected as error:
            raise RegistryError("The registry sent no manifest that is known.", "", str(error)) from error
        if ":" in reference and str(pushed.digest) != reference:
            raise RegistryError("The registry sent another manifest than was asked for.", "Try again.")
        return pushed

    def _receive(self, blob: Descriptor, output: IO[bytes]) -> None:
        state, size = hashlib.new(blob.digest.algorithm), 0
        with self._ask("GET", self._url(f"blobs/{blob.digest}"), stream=True) as answer:
            for chunk in answer.iter_content(_CHUNK):
                state.update(chunk)
                size += len(chunk)
                output.write(chunk)
        if (state.hexdigest(), size) != (blob.digest.hex, blob.size):
            raise RegistryError("A blob is not what its digest says.", "Try again.", str(blob.digest))

    def _send(self, digest: Digest, content: Any) -> None:
        """Send a blob that the registry lacks; of one that it has, nothing is read."""
        if self._session.head(self._url(f"blobs/{digest}"), timeout=_SECONDS).ok:
            return
        place = self._ask("POST", self._url("blobs/uploads/")).headers["Location"]
        headers = {"Content-Type": "application/octet-stream"}
        put = urljoin(f"{self._base}/", place)
        self._ask("PUT", put, params={"digest": str(digest)}, data=content, headers=headers)

    def _url(self, path: str) -> str:
        return f"{self._base}/v2/{self._name}/{path}"

    def _ask(self, method: str, url: str, **more: Any) -> requests.Response:
        try:
            answer = self._session.request(method, url, timeout=_SECONDS, **more)
        except requests.RequestException as error:
            raise RegistryError("The registry does not answer.", "Look at `dockstack status`.", str(error)) from error
        if not answer.ok:
            raise RegistryError(*_said(answer))
        return answer


def _said(answer: requests.Response) -> tuple[str, str, str]:
    """Return what the registry says of a refusal."""
    try:
        first = answer.json()["errors"][0]
        return str(first["message"])[:1000], "", str(first.get("detail") or "")[:1000]
    except (ValueError, LookupError, TypeError):
        return f"The registry answers {answer.status_code}.", "Look at its log.", answer.text[:500]


def _fits(one: Descriptor, wanted: Platform) -> bool:
    have = one.platform
    return have is not None and (have.os, have.architecture) == (wanted.os, wanted.architecture)
