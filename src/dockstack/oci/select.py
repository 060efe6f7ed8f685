# SPDX-License-Identifier: Apache-2.0
"""Which image of an archive is meant: the only one, or the only one for this host's platform."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
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
    as_go_reads,
    go_architecture,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LAYERS = 125  # the engine's own limit (moby/layer: maxLayerDepth)
_MAX_DEPTH = 4
_MAX_MANIFESTS = 256
# What a processor runs besides its own (containerd's platforms.Only)
_ALSO = {"amd64": ("386",), "arm64": ("arm",)}
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


def is_image(archive: Archive) -> bool:
    """Whether an archive is an image's, and not a root file system's.

    A root file system may have a manifest.json, an index.json or even a whole layout of its own at its top; no image
    archive has a root file system's directories there.
    """
    if not archive.markers or len(archive.root_names) > 1:
        return False
    return not archive.root_names or _has_contents_table(archive)


def _has_contents_table(archive: Archive) -> bool:
    """Whether manifest.json or index.json name something that the archive holds."""
    with suppress(ImageRejected):
        if any(archive.has(image["Config"]) for image in _docker_images(archive)):
            return True
    with suppress(ImageRejected):
        return any(archive.has(descriptor.digest.path) for descriptor in _index(archive).manifests)
    return False


def select_image(archive: Archive, architecture: str) -> StoredImage:
    """Find the image that is meant.

    Raises:
        ImageRejected: none, several, or none for this architecture; or something on the way to it is broken.
    """
    archive.require_sound()
    wanted = Platform("linux", *go_architecture(architecture))
    image = None
    if archive.has("index.json"):
        image = _from_layout(archive, wanted)
    if image is None:
        if not archive.has("manifest.json"):
            raise ImageRejected(
                "The image archive has no manifest.",
                "Load it into Docker 1.10 or later and save it again with `docker save`.",
            )
        image = _from_docker(archive, wanted)
    count = len(image.configuration.diff_ids)
    if not count or count != len(image.layers) or count > MAX_LAYERS:
        raise ImageRejected(
            f"The image has {len(image.layers)} layers and its configuration names {count}.",
            f"They must agree, and be 1 to {MAX_LAYERS}: build the image again.",
        )
    return image


def _from_docker(archive: Archive, wanted: Platform) -> StoredImage:
    image, configuration = _choose_docker_image(archive, wanted)
    layers = image.get("Layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise ImageRejected("The image's manifest.json names no layers.", "Save the image again.")
    # What proves a layer is its digest in the configuration: its path is a path, whatever a tool made it of.
    return StoredImage(configuration, tuple(StoredLayer(archive.blob(name)) for name in layers))


def _docker_images(archive: Archive) -> list[dict[str, Any]]:
    images = archive.json("manifest.json", "manifest.json")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images) or not images:
        raise ImageRejected("The image's manifest.json is malformed.", "Save the image again with `docker save`.")
    images = [as_go_reads(image, ("Config", "Layers"), "manifest.json") for image in images]
    if not all(isinstance(image.get("Config"), str) for image in images):
        raise ImageRejected("The image's manifest.json names no configuration.", "Save the image again.")
    return images


def _choose_docker_image(archive: Archive, wanted: Platform) -> tuple[dict[str, Any], Configuration]:
    """Choose by platform among the images of manifest.json; one that it names twice, as for two tags, is one."""
    images = _docker_images(archive)
    if len(images) > _MAX_MANIFESTS:
        raise _several(len(images))
    found = {}
    for image in images:
        configuration = _docker_configuration(archive, image["Config"])
        found[configuration.digest] = (image, configuration)
    platforms = [configuration.platform for _, configuration in found.values()]
    best = _nearest(platforms, wanted)
    chosen = [item for item in found.values() if best is not None and distance(item[1].platform, wanted) == best]
    if not chosen:
        raise _no_platform(platforms, wanted)
    if len(chosen) > 1:
        raise _several(len(chosen))
    return chosen[0]


def _docker_configuration(archive: Archive, name: str) -> Configuration:
    raw = archive.small(name, "configuration")
    if match := _CONFIG_NAME.fullmatch(name):
        verify_digest(raw, Digest("sha256", match[1]), "configuration")
    return Configuration.parse(raw)


@dataclass(frozen=True)
class _Candidate:
    """An image of a layout that runs here."""

    manifest: Manifest
    platform: Platform


@dataclass
class _Survey:
    """What a layout holds.

    Attributes:
        candidates: what runs here.
        others: the images that do not, or may not be read; with their platforms.
        absent: what the archive does not hold, though it names it and it may run here.
        foreign: media types of what is no image.
        broken: why a manifest cannot be read; it may be an artifact's.
    """

    candidates: list[_Candidate] = field(default_factory=list)
    others: dict[Digest, tuple[Descriptor, Platform]] = field(default_factory=dict)
    absent: list[Descriptor] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    broken: list[ImageRejected] = field(default_factory=list)


def _from_layout(archive: Archive, wanted: Platform) -> StoredImage | None:
    """Choose an image of a layout; none if there is nothing like one, and Docker's own table names what is meant."""
    survey = _Survey()
    for descriptor in {found.digest: found for found in _manifests(archive, _index(archive), 0, survey)}.values():
        try:
            _look_at(archive, descriptor, wanted, survey)
        except ImageRejected as error:
            survey.broken.append(error)
    candidates = [candidate for candidate in survey.candidates if not candidate.manifest.refers] or survey.candidates
    best = _nearest([candidate.platform for candidate in candidates], wanted)
    chosen = [candidate for candidate in candidates if distance(candidate.platform, wanted) == best]
    if not chosen:
        _require_nothing(archive, survey, wanted)
        return None
    images = {candidate.manifest.config.digest for candidate in chosen}
    if len(images) > 1:
        raise _several(len(images))
    manifest = _choose_whole(archive, [candidate.manifest for candidate in chosen])
    configuration = _configuration(archive, manifest)
    if not _fits(configuration.platform, wanted):
        raise _no_platform([configuration.platform], wanted)
    if archive.has("manifest.json"):
        _require_agreement(archive, configuration, survey, wanted)
    layers = tuple(StoredLayer(archive.blob(layer.digest.path), layer.digest) for layer in manifest.layers)
    return StoredImage(configuration, layers)


def _require_nothing(archive: Archive, survey: _Survey, wanted: Platform) -> None:
    """Return if a layout without an image that runs here holds no sign of one, and Docker's own table is there.

    Raises:
        ImageRejected: why none of it boots.
    """
    for error in survey.broken:
        raise error
    for descriptor in survey.absent:
        if descriptor.platform is not None:
            archive.blob(descriptor.digest.path)  # says that it is missing
    if survey.others:
        raise _no_platform([platform for _, platform in survey.others.values()], wanted)
    if not archive.has("manifest.json"):
        for descriptor in survey.absent:
            archive.blob(descriptor.digest.path)
        raise _no_image(survey.foreign)


def _index(archive: Archive) -> Index:
    return Index.parse(archive.small("index.json", "index.json"))


def _manifests(archive: Archive, index: Index, depth: int, survey: _Survey) -> Iterator[Descriptor]:
    """Walk an index and those below it; attestations and other artifacts are no images."""
    if depth > _MAX_DEPTH or len(index.manifests) > _MAX_MANIFESTS:
        raise ImageRejected("The image's index is nested too deeply or too long.", "Copy one image of it alone.")
    for descriptor in index.manifests:
        if descriptor.media_type in INDEX_TYPES:
            if archive.has(descriptor.digest.path):
                below = Index.parse(_document(archive, descriptor, "index"))
                yield from _manifests(archive, below, depth + 1, survey)
            else:
                survey.absent.append(descriptor)
        elif descriptor.media_type in MANIFEST_TYPES and not is_attestation(descriptor):
            yield descriptor
        else:
            survey.foreign.append(descriptor.media_type)


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether BuildKit put it beside an image to describe it."""
    return "vnd.docker.reference.type" in descriptor.annotations or (
        descriptor.platform is not None and descriptor.platform.architecture == "unknown"
    )


def _look_at(archive: Archive, descriptor: Descriptor, wanted: Platform, survey: _Survey) -> None:
    """Tell what a manifest is; the archive may lack those of other platforms, and what refers to an image."""
    said = descriptor.platform
    if said is not None and said.architecture and not _fits(said, wanted):
        survey.others[descriptor.digest] = (descriptor, said)
    elif not archive.has(descriptor.digest.path):
        survey.absent.append(descriptor)
    else:
        manifest = _manifest(archive, descriptor)
        if manifest.foreign_type:
            survey.foreign.append(manifest.foreign_type)
            return
        known = said if said is not None and said.architecture else _configuration(archive, manifest).platform
        if _fits(known, wanted):
            survey.candidates.append(_Candidate(manifest, known))
        else:
            survey.others[descriptor.digest] = (descriptor, known)


def _choose_whole(archive: Archive, manifests: list[Manifest]) -> Manifest:
    """Choose among manifests of one image, which may be there with its layers compressed in several ways."""
    whole = (found for found in manifests if all(archive.has(layer.digest.path) for layer in found.layers))
    return next(whole, manifests[0])


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


def _require_agreement(archive: Archive, chosen: Configuration, survey: _Survey, wanted: Platform) -> None:
    """Refuse an archive whose two tables of contents speak of different images: each reader would get its own."""
    docker = _choose_docker_image(archive, wanted)[1].digest
    known = {chosen.digest, *(candidate.manifest.config.digest for candidate in survey.candidates)}
    for descriptor, _ in survey.others.values():
        if docker not in known and archive.has(descriptor.digest.path):
            known.add(_manifest(archive, descriptor).config.digest)
    if docker not in known:
        raise ImageRejected(
            "The archive's index.json and manifest.json name different images.",
            "Do not use it: it shows one image to one tool and another to the next.",
        )


def _fits(platform: Platform, wanted: Platform) -> bool:
    """Whether the platform runs here; an image that does not say is taken at its word."""
    return distance(platform, wanted) is not None


def _nearest(platforms: list[Platform], wanted: Platform) -> tuple[int, str] | None:
    """Return the distance of the platform that fits best; None if none does."""
    return min((found for platform in platforms if (found := distance(platform, wanted)) is not None), default=None)


def distance(platform: Platform, wanted: Platform) -> tuple[int, str] | None:
    """Order platforms that fit: the host's own variant, the generic one, then the others, lowest first; None: no fit.

    Last come those that the same processor runs besides.
    """
    if platform.os not in ("", wanted.os):
        return None
    if platform.architecture in _ALSO.get(wanted.architecture, ()):
        return (3, platform.variant)
    if platform.architecture not in ("", wanted.architecture):
        return None
    if platform.variant == wanted.variant:
        return (0, "")
    if wanted.architecture == "arm" and platform.variant > (wanted.variant or "v7"):
        return None
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


def _no_image(foreign: list[str]) -> ImageRejected:
    kinds = ", ".join(sorted({shown(kind)[1:-1] for kind in foreign if kind})[:3])
    return ImageRejected(
        f"The archive holds no container image{', but ' + kinds if kinds else ''}.",
        "Copy an image into it; what describes or signs one does not boot, nor does an encrypted one.",
    )
