# SPDX-License-Identifier: Apache-2.0
"""Which image of an archive is meant: the only one, or the only one for this host's platform."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.oci.archive import Archive, Blob, verify_digest, wrong_digest
from dockstack.oci.documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Configuration,
    Descriptor,
    Digest,
    ImageRejected,
    Index,
    Manifest,
    Platform,
    go_architecture,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LAYERS = 125  # the engine's own limit (moby/layer: maxLayerDepth)
_MAX_DEPTH = 4
_MAX_MANIFESTS = 256
_CONFIG_NAME = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True)
class StoredLayer:
    """A layer as the archive holds it."""

    blob: Blob
    digest: Digest | None = None  # of the blob as stored; None if nothing names it


@dataclass(frozen=True)
class StoredImage:
    """The chosen image."""

    configuration: Configuration
    layers: tuple[StoredLayer, ...]


def select_image(archive: Archive, architecture: str) -> StoredImage:
    """Find the image that is meant.

    Raises:
        ImageRejected: none, several, or none for this architecture; or something on the way to it is broken.
    """
    archive.require_sound()
    wanted = Platform("linux", *go_architecture(architecture))
    if archive.has("index.json"):
        image = _from_layout(archive, wanted)
    elif archive.has("manifest.json"):
        image = _from_docker(archive, wanted)
    else:
        raise ImageRejected(
            "The image archive has no manifest.",
            "Load it into Docker 1.10 or later and save it again with `docker save`.",
        )
    count = len(image.configuration.diff_ids)
    if not count or count != len(image.layers) or count > MAX_LAYERS:
        raise ImageRejected(
            f"The image has {len(image.layers)} layers and its configuration names {count}.",
            f"They must agree, and be 1 to {MAX_LAYERS}: build the image again.",
        )
    return image


def _from_docker(archive: Archive, wanted: Platform) -> StoredImage:
    image = _single_docker_image(archive)
    configuration = _docker_configuration(archive, image)
    if not _fits(configuration.platform, wanted):
        raise _no_platform([configuration.platform], wanted)
    layers = image.get("Layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise ImageRejected("The image's manifest.json names no layers.", "Save the image again.")
    return StoredImage(configuration, tuple(StoredLayer(archive.blob(name), _digest_in(name)) for name in layers))


def _single_docker_image(archive: Archive) -> dict[str, Any]:
    images = archive.json("manifest.json", "manifest.json")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images) or not images:
        raise ImageRejected("The image's manifest.json is malformed.", "Save the image again with `docker save`.")
    if len(images) > 1:
        raise _several(len(images))
    image: dict[str, Any] = images[0]
    return image


def _docker_configuration(archive: Archive, image: dict[str, Any]) -> Configuration:
    name = image.get("Config")
    if not isinstance(name, str):
        raise ImageRejected("The image's manifest.json names no configuration.", "Save the image again.")
    raw = archive.small(name, "configuration")
    if match := _CONFIG_NAME.fullmatch(name):
        verify_digest(raw, Digest("sha256", match[1]), "configuration")
    return Configuration.parse(raw)


def _digest_in(name: str) -> Digest | None:
    """Read the digest out of a blob's path, if it is one."""
    prefix, _, value = name.rpartition("/")
    return Digest.parse(f"sha256:{value}") if prefix == "blobs/sha256" else None


def _from_layout(archive: Archive, wanted: Platform) -> StoredImage:
    index = Index.parse(archive.small("index.json", "index.json"))
    descriptors = {descriptor.digest: descriptor for descriptor in _manifests(archive, index, 0)}
    platforms = {digest: _platform(archive, descriptor) for digest, descriptor in descriptors.items()}
    fitting = [digest for digest, platform in platforms.items() if _fits(platform, wanted)]
    if not fitting:
        raise _no_platform(list(platforms.values()), wanted)
    best = min(_distance(platforms[digest], wanted) for digest in fitting)
    chosen = [digest for digest in fitting if _distance(platforms[digest], wanted) == best]
    if len(chosen) > 1:
        raise _several(len(chosen))
    manifest = _manifest(archive, descriptors[chosen[0]])
    configuration = _configuration(archive, manifest)
    if not _fits(configuration.platform, wanted):
        raise _no_platform([configuration.platform], wanted)
    if archive.has("manifest.json"):
        _require_agreement(archive, configuration, [descriptors[digest] for digest in descriptors])
    layers = tuple(StoredLayer(archive.blob(layer.digest.path), layer.digest) for layer in manifest.layers)
    return StoredImage(configuration, layers)


def _manifests(archive: Archive, index: Index, depth: int) -> Iterator[Descriptor]:
    """Walk an index and those below it; attestations and other artifacts are no images."""
    if depth > _MAX_DEPTH or len(index.manifests) > _MAX_MANIFESTS:
        raise ImageRejected("The image's index is nested too deeply or too long.", "Copy one image of it alone.")
    for descriptor in index.manifests:
        if descriptor.media_type in INDEX_TYPES:
            if archive.has(descriptor.digest.path):
                yield from _manifests(archive, Index.parse(_document(archive, descriptor, "index")), depth + 1)
        elif descriptor.media_type in MANIFEST_TYPES and not _is_attestation(descriptor):
            yield descriptor


def _is_attestation(descriptor: Descriptor) -> bool:
    """Whether BuildKit put it beside an image to describe it."""
    return "vnd.docker.reference.type" in descriptor.annotations or (
        descriptor.platform is not None and descriptor.platform.architecture == "unknown"
    )


def _platform(archive: Archive, descriptor: Descriptor) -> Platform:
    """Say what a manifest is for; the archive may lack the blobs of other platforms."""
    if descriptor.platform is not None and descriptor.platform.architecture:
        return descriptor.platform
    return _configuration(archive, _manifest(archive, descriptor)).platform


def _manifest(archive: Archive, descriptor: Descriptor) -> Manifest:
    return Manifest.parse(_document(archive, descriptor, "manifest"))


def _configuration(archive: Archive, manifest: Manifest) -> Configuration:
    return Configuration.parse(_document(archive, manifest.config, "configuration"))


def _document(archive: Archive, descriptor: Descriptor, what: str) -> bytes:
    data = archive.small(descriptor.digest.path, what)
    if len(data) != descriptor.size:
        raise wrong_digest(what, descriptor.digest)
    verify_digest(data, descriptor.digest, what)
    return data


def _require_agreement(archive: Archive, chosen: Configuration, descriptors: list[Descriptor]) -> None:
    """Refuse an archive whose two tables of contents speak of different images: each reader would get its own."""
    docker = _docker_configuration(archive, _single_docker_image(archive)).digest
    known = {chosen.digest}
    for descriptor in descriptors:
        if docker not in known and archive.has(descriptor.digest.path):
            known.add(_manifest(archive, descriptor).config.digest)
    if docker not in known:
        raise ImageRejected(
            "The archive's index.json and manifest.json name different images.",
            "Do not use it: it shows one image to one tool and another to the next.",
        )


def _fits(platform: Platform, wanted: Platform) -> bool:
    """Whether the platform runs here; an image that does not say is taken at its word."""
    if platform.os not in ("", wanted.os) or platform.architecture not in ("", wanted.architecture):
        return False
    return not (wanted.architecture == "arm" and platform.variant > (wanted.variant or "v7"))


def _distance(platform: Platform, wanted: Platform) -> tuple[int, str]:
    """Order platforms that fit: the host's own variant, the generic one, then the others, lowest first."""
    if platform.variant == wanted.variant:
        return (0, "")
    return (1, "") if not platform.variant else (2, platform.variant)


def _no_platform(found: list[Platform], wanted: Platform) -> ImageRejected:
    names = ", ".join(sorted({shown(str(platform))[1:-1] for platform in found})) or "no platform at all"
    return ImageRejected(
        f"The image is for {names}; this host runs {wanted}.",
        "Upload an image for this platform, or set hw_architecture so that the scheduler finds a host that fits.",
    )


def _several(count: int) -> ImageRejected:
    return ImageRejected(
        f"The archive holds {count} images and a server boots from one.", "Save one image: `docker save NAME`."
    )
