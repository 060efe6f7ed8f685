# SPDX-License-Identifier: Apache-2.0
"""Manifests and indexes as they are pushed: what they hold, what they are, and how they become an archive; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockstack.oci.documents import (
    INDEX_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Digest,
    ImageRejected,
    Index,
    Manifest,
    encode_json,
    json_object,
    tar_file,
    tar_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES = 4 << 20  # what the specification has every registry take
MAX_REFERENCES = 10_000
_BLOCK = 512


@dataclass(frozen=True)
class Pushed:
    """A manifest or an index, read.

    Attributes:
        digest: its digest.
        media_type: its own.
        content: the very bytes that were pushed.
        blobs: what it needs of its repository; layers that may not be distributed are not.
        manifests: what it points to.
        subject: the digest of what it says something of; "" for none.
        artifact_type: what a list of referrers says of it.
        annotations: its own.
    """

    digest: Digest
    media_type: str
    content: bytes = field(repr=False)
    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    bootable: bool = False  # an image's manifest, or an index of some

    @classmethod
    def parse(cls, content: bytes, media_type: str, algorithm: str = "sha256") -> Pushed:
        """Read what was pushed.

        Args:
            content: the bytes.
            media_type: what the request says that it is; "" if it says nothing.
            algorithm: of the digest that it shall have.

        Raises:
            ImageRejected: it is no manifest, or not the one that the request says.
        """
        document = json_object(content, "manifest")
        declared = document.get("mediaType") or media_type
        media_type = media_type or declared
        if declared != media_type:
            raise _invalid(f"The manifest says that it is {declared!r}, and the request {media_type!r}.")
        subject = document.get("subject")
        common: dict[str, Any] = {
            "digest": Digest.of(content, algorithm),
            "media_type": media_type,
            "content": content,
            "subject": str(Descriptor.parse(subject).digest) if subject else "",
            "annotations": _texts(document.get("annotations")),
        }
        artifact = document.get("artifactType")
        artifact = artifact if isinstance(artifact, str) else ""
        if media_type in MANIFEST_TYPES:
            return _manifest(document, artifact, common)
        if media_type in INDEX_TYPES:
            found = Index.parse(content).manifests
            _few(found)
            bootable = not artifact and not subject
            return cls(**common, manifests=found, artifact_type=artifact, bootable=bootable)
        raise _invalid(f"Manifests of the type {media_type[:100]!r} are not known.")

    @property
    def references(self) -> frozenset[str]:
        """The digests of all that it holds."""
        return frozenset(str(held.digest) for held in (*self.blobs, *self.manifests))

    def descriptor(self) -> dict[str, Any]:
        """Return what a list of referrers says of it."""
        described: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": len(self.content),
        }
        if self.artifact_type:
            described["artifactType"] = self.artifact_type
        if self.annotations:
            described["annotations"] = self.annotations
        return described


def archive(root: Pushed, others: Iterable[Pushed], has: Any) -> Iterator[bytes | Descriptor]:
    """Describe the archive of an image: an OCI layout and, of a single image, what ``docker load`` reads.

    The same image gives the same bytes at any time, and carries no name.

    Args:
        root: the image's manifest or index.
        others: the manifests that it leads to.
        has: tells whether a blob is kept here; a layer that may not be distributed is not.

    Yields:
        Bytes as they are, and blobs where their bytes go.
    """
    held = {pushed.digest: pushed for pushed in (root, *others)}
    blobs = {blob.digest: blob for pushed in held.values() for blob in pushed.blobs}
    kept = {digest: blob for digest, blob in sorted(blobs.items()) if has(digest)}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [root.descriptor()]}
    yield from tar_file("oci-layout", encode_json({"imageLayoutVersion": "1.0.0"}))
    yield from tar_file("index.json", encode_json(index))
    if root.bootable and root.blobs and all(blob.digest in kept for blob in root.blobs):
        config, *layers = root.blobs
        docker = {"Config": config.digest.path, "RepoTags": None, "Layers": [layer.digest.path for layer in layers]}
        yield from tar_file("manifest.json", encode_json([docker]))
    for digest, pushed in sorted(held.items()):
        yield from tar_file(digest.path, pushed.content)
    for digest, blob in kept.items():
        yield tar_header(digest.path, blob.size)
        yield blob
        yield bytes(-blob.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def archive_size(parts: Iterable[bytes | Descriptor]) -> int:
    """Return how many bytes an archive has."""
    return sum(part.size if isinstance(part, Descriptor) else len(part) for part in parts)


def _manifest(document: dict[str, Any], artifact: str, common: dict[str, Any]) -> Pushed:
    parsed = Manifest.parse(common["content"])
    if parsed.refers is not bool(common["subject"]):
        raise _invalid("The manifest's subject is no descriptor.")
    listed = document.get("layers") or ()
    needed = [layer for layer, said in zip(parsed.layers, listed, strict=True) if not _elsewhere(layer, said)]
    _few(needed)
    bootable = not parsed.foreign_type and not parsed.refers and not artifact and len(needed) == len(parsed.layers)
    return Pushed(
        **common,
        blobs=(parsed.config, *needed),
        artifact_type=artifact or parsed.config.media_type,
        bootable=bootable,
    )


def _elsewhere(layer: Descriptor, said: dict[str, Any]) -> bool:
    """Whether a layer may not be distributed, so that only its addresses are known here."""
    return ".nondistributable." in layer.media_type or (".foreign." in layer.media_type and bool(said.get("urls")))


def _few(listed: object) -> None:
    if len(listed) > MAX_REFERENCES:  # type: ignore[arg-type]
        raise _invalid(f"The manifest names more than {MAX_REFERENCES} others.")


def _texts(said: object) -> dict[str, str]:
    return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}


def _invalid(brief: str) -> ImageRejected:
    return ImageRejected(brief, "Push what `docker push` or `skopeo copy` make of an image.")
