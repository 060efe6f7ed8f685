# SPDX-License-Identifier: Apache-2.0
"""An image of a registry as an archive: what the check of every other image reads, too.

Only the manifests are read here, small and bounded, to know which blobs belong together. Layers and configuration pass
unread: whatever they hold is for the sandboxed check.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.oci.documents import (
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPE,
    MANIFEST_TYPES,
    Descriptor,
    Digest,
    ImageRejected,
    Index,
    Manifest,
    Platform,
    encode_json,
    go_architecture,
    json_object,
    shown,
    tar_file,
    tar_header,
)
from dockstack.oci.select import MAX_LAYERS, distance, is_attestation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.oci.remote.blobs import KeptBlobs
    from dockstack.oci.remote.repository import Repository

_MAX_DEPTH = 4
_MAX_MANIFESTS = 256


@dataclass(frozen=True)
class Pulled:
    """An image of one platform, as a registry describes it."""

    raw: bytes  # its manifest
    digest: Digest
    manifest: Manifest
    media_type: str

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What it is made of: its configuration, then its layers, lowest first, each once."""
        return tuple({part.digest: part for part in (self.manifest.config, *self.manifest.layers)}.values())

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(part.size for part in self.blobs)


def wanted_platform(text: str, architecture: str) -> Platform:
    """Read ``docker_platform``, as ``linux/arm64/v8`` or ``arm64``; the host's own if it is empty.

    Raises:
        ImageRejected: it is no platform.
    """
    system, slash, machine = text.partition("/")
    if slash and system != "linux":
        raise ImageRejected(
            f"The property docker_platform is {shown(text)}, not a platform such as linux/amd64.", "Correct it."
        )
    return Platform("linux", *go_architecture(machine if slash else text or architecture))


def find(repository: Repository, digest: Digest, wanted: Platform) -> Pulled:
    """Find the image for a platform behind a digest, which may be an index's.

    Raises:
        ImageRejected: there is none, or something on the way to it is broken.
        RegistryError: the registry does not give it.
    """
    for _ in range(_MAX_DEPTH):
        raw = repository.manifest(str(digest))
        document = json_object(raw, "manifest")
        if "manifests" not in document:
            media_type = DOCKER_MANIFEST_TYPE if document.get("mediaType") == DOCKER_MANIFEST_TYPE else MANIFEST_TYPE
            return _image(Pulled(raw, digest, Manifest.parse(raw), media_type))
        digest = _choose(Index.parse(raw), wanted)
    raise ImageRejected("The image's index is nested too deeply.", "Name the image itself, by its digest.")


def archive(repository: Repository, image: Pulled, kept: KeptBlobs) -> Iterator[bytes]:
    """Stream an image as an OCI layout; layers that are kept here are not fetched again.

    Raises:
        ImageRejected: a blob has another size than its manifest says.
        RegistryError: the registry does not give it.
    """
    pointer = Descriptor(image.media_type, image.digest, len(image.raw))
    yield from tar_file("oci-layout", encode_json({"imageLayoutVersion": "1.0.0"}))
    yield from tar_file("index.json", Index((pointer,)).encode())
    yield from tar_file(image.digest.path, image.raw)
    for blob in image.blobs:
        yield tar_header(blob.digest.path, blob.size)
        yield from kept.read(repository, blob)
        yield bytes(-blob.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _choose(index: Index, wanted: Platform) -> Digest:
    candidates = [
        descriptor
        for descriptor in index.manifests[:_MAX_MANIFESTS]
        if descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES and not is_attestation(descriptor)
    ]
    found = [
        (far, descriptor.digest)
        for descriptor in candidates
        if (far := distance(descriptor.platform or Platform(), wanted)) is not None
    ]
    if not found:
        names = ", ".join(sorted({str(candidate.platform or Platform()) for candidate in candidates})[:8])
        raise ImageRejected(
            f"The image is for {shown(names)[1:-1] or 'no platform at all'}, and {wanted} was wanted.",
            "Push one for this platform, or set docker_platform, or hw_architecture so that a host that fits is found.",
        )
    return min(found, key=lambda item: item[0])[1]


def _image(image: Pulled) -> Pulled:
    """Refuse what is no image before any of it is downloaded."""
    if image.manifest.foreign_type:
        raise ImageRejected(
            f"The reference names no container image, but {shown(image.manifest.foreign_type)}.", "Name an image."
        )
    if not 1 <= len(image.manifest.layers) <= MAX_LAYERS:
        raise ImageRejected(f"The image has {len(image.manifest.layers)} layers.", f"It needs 1 to {MAX_LAYERS}.")
    return image
