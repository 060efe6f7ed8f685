# SPDX-License-Identifier: Apache-2.0
"""The registries that this host's servers may boot from: which, as whom, and whose signatures count."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError
from dockstack.oci.distribution.protocol import TOKEN_USER
from dockstack.oci.documents import Digest, ImageRejected, Reference, shown
from dockstack.oci.remote import cosign, pull
from dockstack.oci.remote.addresses import Allowed, Origin, RegistryError
from dockstack.oci.remote.blobs import KeptBlobs
from dockstack.oci.remote.repository import Credentials, Repository
from dockstack.oci.remote.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oslo_config import cfg

    from dockstack.compute.model import Source
    from dockstack.oci.remote.pull import Pulled

LOG = logging.getLogger(__name__)

ALWAYS, MISSING = POLICIES = ("always", "missing")  # docker_pull_policy
_LAYERS = "layers"  # below the state directory
_LEARNED = 1000  # tags
_DOCKER_HUB, _DOCKER_HUB_API = "docker.io", "registry-1.docker.io"
_ASK_SECONDS = 60  # for what a tag means
_PROGRESS_SECONDS = 10
_SECRET = 0o027  # what nobody but the owner and its group may do with a file of secrets


class CannotPull(DockstackError):  # noqa: N818 - said of the host
    """This host does not pull from there; another one may."""


class Registries:
    """The registries, as this host's [docker] options say."""

    def __init__(self, options: cfg.GroupAttr) -> None:
        """Read them."""
        listed = (*options.allowed_registries, *((options.cloud_registry,) if options.cloud_registry else ()))
        self._origins = dict(_origin(entry) for entry in listed)
        self._own = _origin(options.cloud_registry)[0] if options.cloud_registry else ""
        self._allowed = Allowed(frozenset(self._origins.values()), options.registry_ca_file or None)
        self._credentials_file = options.registry_credentials
        self._signature_keys = tuple(options.signature_keys)
        self.kept = KeptBlobs(Path(options.state_directory) / _LAYERS, options.registry_cache_mb << 20)
        self._learned: dict[Reference, Digest] = {}

    def parse(self, text: str) -> Reference:
        """Read what a dockerref image says.

        Raises:
            ImageRejected: it is no reference.
            CannotPull: this host does not pull from there.
        """
        reference = Reference.parse(text)
        reference = replace(reference, registry=reference.registry.lower())
        if reference.registry not in self._origins:
            allowed = ", ".join(self._origins) or "none"
            raise CannotPull(
                f"This host does not pull from {shown(reference.registry)}, but from: {allowed}.",
                "Push the image to one of these; the operator adds others to [docker] allowed_registries.",
            )
        return reference

    def is_own(self, registry: str) -> bool:
        """Whether a registry is the cloud's own, which knows what each user may read."""
        return registry == self._own

    def resolve(self, reference: Reference, token: str | None, policy: str = ALWAYS) -> Digest:
        """Ask what a tag means now; by the policy ``missing``, not again what this process has heard already.

        Raises:
            ImageRejected: there is no such image.
            RegistryError: the registry does not say.
        """
        if policy == MISSING and not self.is_own(reference.registry) and reference in self._learned:
            return self._learned[reference]
        repository = self._open(reference.registry, reference.repository, token, _ASK_SECONDS)
        digest = Digest.of(repository.manifest(str(reference.digest or reference.tag)))
        if len(self._learned) >= _LEARNED:
            self._learned.clear()
        self._learned[reference] = digest
        return digest

    def pull(self, source: Source, architecture: str, most: int, seconds: float) -> Iterator[bytes]:
        """Stream an image as an archive, verified as far as signatures go; unpacked by nobody yet.

        Args:
            source: which.
            architecture: the host's.
            most: bytes that it may have.
            seconds: until when all of it must be here.

        Raises:
            ImageRejected: there is no such image, or not for this host, or nobody has signed it who counts here.
            RegistryError: the registry does not give it.
        """
        repository = self._open(source.registry, source.repository, source.token, seconds)
        digest = Digest.parse(source.digest)
        if keys := self._keys(source):
            cosign.verify(repository, digest, [key for key, _ in keys])
        image = pull.find(repository, digest, pull.wanted_platform(source.platform, architecture))
        if image.size > most:
            raise ImageRejected(
                f"The image has {image.size >> 20} MiB to download; this host takes {most >> 20}.", "Make it smaller."
            )
        return _told(pull.archive(repository, image, self.kept), source, image)

    def trust(self, source: Source) -> str:
        """Return by whose keys an image has to be signed: one that came before the keys did is not taken for it."""
        return "\n".join(sorted(pem for _, pem in self._keys(source)))

    def _open(self, registry: str, name: str, token: str | None, seconds: float) -> Repository:
        session = Session(self._allowed, seconds)
        return Repository(session, self._origins[registry], name, self._credentials(registry, token))

    def _credentials(self, registry: str, token: str | None) -> Credentials | None:
        if self.is_own(registry):
            return Credentials(TOKEN_USER, token) if token else None
        if not self._credentials_file:
            return None
        entry = _read_secrets(Path(self._credentials_file)).get(registry) or {}
        try:
            user, _, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except KeyError:
            return None
        except (TypeError, ValueError, binascii.Error) as error:
            raise _bad_secrets(self._credentials_file, f"what it says of {registry} is malformed") from error
        return Credentials(user, secret, own=False)

    def _keys(self, source: Source) -> list[tuple[cosign.PublicKey, str]]:
        """Read the keys that count for an image: those without a name, and those for its repository or one above it.

        Raises:
            CannotPull: a key is for a registry that this host does not know; taken for none, it would let all pass.
        """
        name = f"{source.registry}/{source.repository}/"
        found = []
        for entry in self._signature_keys:
            prefix, _, path = entry.rpartition("=")
            host, slash, repository = prefix.rpartition("://")[2].rstrip("/").partition("/")
            if prefix and host.lower() not in self._origins:
                raise CannotPull(
                    f"A key in [docker] signature_keys is for {prefix}, where this host does not pull from.",
                    "The operator writes it as in [docker] allowed_registries: HOST[:PORT], or HOST[:PORT]/REPOSITORY.",
                )
            if not prefix or name.startswith(f"{host.lower()}{slash}{repository}/"):
                found.append(_read_key(path))
        return found


def _origin(entry: str) -> tuple[str, Origin]:
    """Read an entry of the list: ``HOST[:PORT]``, or ``http://HOST[:PORT]`` for one without TLS."""
    text = entry.rstrip("/")
    scheme, _, name = text.lower().rpartition("://")
    host = _DOCKER_HUB_API if name == _DOCKER_HUB else name
    return name, Origin.of(f"{scheme or 'https'}://{host}")


def _read_secrets(path: Path) -> dict[str, Any]:
    """Read credentials, as ``docker login`` and ``podman login`` write them: {"auths": {HOST: {"auth": BASE64}}}."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in (0, os.geteuid()) or stat.S_IMODE(found.st_mode) & _SECRET:
                raise _bad_secrets(str(path), "others may read or write it")
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise _bad_secrets(str(path), str(error)) from error
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict) or not all(isinstance(entry, dict) for entry in auths.values()):
        raise _bad_secrets(str(path), 'it has no "auths"')
    return auths


def _bad_secrets(path: str, details: str) -> RegistryError:
    return RegistryError(
        f"This host's credentials for registries cannot be used ({details}).",
        f"The operator mends {path}: mode 0600, of root or of nova-compute's user, as `docker login` writes it.",
    )


def _read_key(path: str) -> tuple[cosign.PublicKey, str]:
    try:
        pem = Path(path).read_bytes()
        return cosign.load_key(pem), pem.decode()
    except (OSError, ValueError) as error:
        raise CannotPull(
            "This host's keys for images' signatures cannot be used.",
            "The operator corrects [docker] signature_keys there.",
            f"{path}: {error}",
        ) from error


def _told(chunks: Iterable[bytes], source: Source, image: Pulled) -> Iterator[bytes]:
    """Pass an archive on, and tell the log how far it is."""
    name, megabytes = f"{source.registry}/{source.repository}@{source.digest}", image.size / 1e6
    LOG.info("Pulling %s: %.1f MB in %d layers", name, megabytes, len(image.manifest.layers))
    count, begun = 0, time.monotonic()
    told = begun
    for chunk in chunks:
        count += len(chunk)
        yield chunk
        if (now := time.monotonic()) - told >= _PROGRESS_SECONDS:
            told = now
            LOG.info("Pulling %s: %.1f of %.1f MB", name, min(count / 1e6, megabytes), megabytes)
    LOG.info("Pulled %s in %.1f s", name, time.monotonic() - begun)
