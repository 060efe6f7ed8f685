# SPDX-License-Identifier: Apache-2.0
"""OCI images as data: digests, references, manifests, configurations, and the archive that every engine loads.

Sources: the OCI image specification 1.1 (image-layout.md, manifest.md, config.md) and the archive that ``docker save``
writes (moby/image/tarexport). Nothing here touches a disk, an engine or a network.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
INDEX_TYPES = frozenset({INDEX_TYPE, DOCKER_INDEX_TYPE})
MANIFEST_TYPES = frozenset({MANIFEST_TYPE, DOCKER_MANIFEST_TYPE})
_CONFIG_TYPES = frozenset({CONFIG_TYPE, DOCKER_CONFIG_TYPE, ""})
# OCI's media-types.md, Docker's image-spec v2.2; an encrypted layer, a signature or an SBOM has another
_LAYER_TYPES = re.compile(
    r"|application/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar([+.](gzip|zstd|bzip2|xz))?"
    r"|application/vnd\.docker\.(container\.)?image\.rootfs\.(foreign\.)?diff([.+-][a-z.+-]+)?"
)

_CONFIGURATION = ("architecture", "config", "os", "rootfs", "variant")  # what is read of a configuration
_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_REFERENCE = re.compile(
    r"(?:(?P<registry>localhost(?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+|\[[0-9a-fA-F:]+\](?::\d+)?)/)?"
    r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+:[0-9a-f]+))?",
    re.ASCII,
)
# uname's, Nova's and Debian's names -> the specification's (Go's) architecture and variant
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "ppc64el": ("ppc64le", ""),
}


class ImageRejected(DockstackError):  # noqa: N818 - said of the image, as people say it
    """An image that is broken, hostile or of a kind that we do not serve; the text says which and what to do."""


def go_architecture(name: str) -> tuple[str, str]:
    """Translate a machine name to the specification's architecture and variant.

    Args:
        name: as uname, Nova, Debian or Go write it ("x86_64", "aarch64", "amd64", "arm/v7").
    """
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    architecture, _, variant = name.partition("/")
    return architecture, variant


@dataclass(frozen=True, order=True)
class Digest:
    """A content address."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Read ``sha256:...`` or ``sha512:...``.

        Raises:
            ImageRejected: anything else.
        """
        algorithm, _, value = text.partition(":") if isinstance(text, str) else ("", "", "")
        if len(value) != _HEX_LENGTH.get(algorithm, -1) or not re.fullmatch("[0-9a-f]+", value):
            raise ImageRejected(
                f"The image names {shown(text)} where a digest belongs.",
                "Write the archive again with the tool that made it.",
            )
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of bytes in memory."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def path(self) -> str:
        """Where an image layout keeps the blob."""
        return f"blobs/{self.algorithm}/{self.hex}"


def shown(value: object) -> str:
    """Quote a stranger's value for a message: short, printable, on one line."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004


@dataclass(frozen=True)
class Reference:
    """An image's name in a registry."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``[registry/]repository[:tag][@digest]``; without a registry it is Docker Hub's, as Docker reads it.

        Raises:
            ImageRejected: it is no reference.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ImageRejected(
                f"{shown(text)} is no image reference.", "Write it as registry/name:tag, in lower case."
            )
        registry = match["registry"] or "docker.io"
        repository = match["repository"]
        if registry == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        digest = Digest.parse(match["digest"]) if match["digest"] else None
        tag = match["tag"] or (None if digest else "latest")
        return cls(registry, repository, tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


@dataclass(frozen=True)
class Platform:
    """What a manifest was built for."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Platform:
        """Read the platform keys of a descriptor's "platform" or of a configuration, whoever's names they have."""
        system, machine, variant = (_text(document.get(key)).lower() for key in ("os", "architecture", "variant"))
        architecture, implied = go_architecture(machine)
        return cls(system, architecture, variant or implied)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part) or "unknown"


@dataclass(frozen=True)
class Descriptor:
    """A pointer to a blob."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: object) -> Descriptor:
        """Read a descriptor.

        Raises:
            ImageRejected: a member is missing or of the wrong type.
        """
        if not isinstance(document, dict):
            raise _malformed("descriptor")
        size, platform, annotations = document.get("size"), document.get("platform"), document.get("annotations")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise _malformed("descriptor's size")
        return cls(
            _text(document.get("mediaType")),
            Digest.parse(document.get("digest")),
            size,
            Platform.of(platform) if isinstance(platform, dict) else None,
            {str(k): str(v) for k, v in annotations.items()} if isinstance(annotations, dict) else {},
        )

    def document(self) -> dict[str, Any]:
        """Return it as the specification writes it."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform is not None:
            platform = {"architecture": self.platform.architecture, "os": self.platform.os}
            document["platform"] = platform | ({"variant": self.platform.variant} if self.platform.variant else {})
        return document


@dataclass(frozen=True)
class Index:
    """Several manifests under one name: one a platform, or nested indexes."""

    manifests: tuple[Descriptor, ...]

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an index (also a layout's index.json, also Docker's manifest list)."""
        return cls(tuple(Descriptor.parse(item) for item in _list(json_object(data, "index"), "manifests")))

    def encode(self) -> bytes:
        """Write it, always the same bytes for the same content."""
        manifests = [manifest.document() for manifest in self.manifests]
        return encode_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})


@dataclass(frozen=True)
class Manifest:
    """One image of one platform: its configuration and its layers, lowest first; or an artifact in the same form.

    Attributes:
        refers: it says something of another manifest (its "subject"), as signatures and SBOMs do.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    refers: bool = False

    @property
    def foreign_type(self) -> str:
        """The media type that tells that it is no image; empty for an image."""
        if self.config.media_type not in _CONFIG_TYPES:
            return self.config.media_type
        kinds = (layer.media_type for layer in self.layers)
        return next((kind for kind in kinds if not _LAYER_TYPES.fullmatch(kind)), "")

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest (OCI or Docker schema 2)."""
        document = json_object(data, "manifest")
        config = Descriptor.parse(document.get("config"))
        listed = _list(document, "layers") if config.media_type in _CONFIG_TYPES else document.get("layers") or ()
        return cls(config, tuple(map(Descriptor.parse, listed)), refers=bool(document.get("subject")))

    def encode(self) -> bytes:
        """Write it, always the same bytes for the same content."""
        layers = [layer.document() for layer in self.layers]
        config = self.config.document()
        return encode_json({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers})


@dataclass(frozen=True)
class Configuration:
    """An image's configuration; its digest is the image's id in the engine.

    Attributes:
        raw: the very bytes that the id is computed from.
        diff_ids: the digests of the uncompressed layers, lowest first.
        process: the "config" member: Env, Cmd, Entrypoint, User, ...
    """

    raw: bytes
    platform: Platform
    diff_ids: tuple[Digest, ...]
    process: dict[str, Any]

    @classmethod
    def parse(cls, raw: bytes) -> Configuration:
        """Read a configuration.

        Raises:
            ImageRejected: it is not the configuration of a container image.
        """
        document = as_go_reads(json_object(raw, "configuration"), _CONFIGURATION, "configuration")
        system, rootfs = _text(document.get("os")), document.get("rootfs")
        if system != system.lower():  # an engine looks for such a one's own storage, and breaks down
            raise ImageRejected(
                f"The image's configuration is for a system {shown(system)}.", "Build it again for 'linux'."
            )
        if not isinstance(rootfs, dict):
            raise ImageRejected(
                "The archive holds something that is no container image: its configuration names no root file system.",
                "Give an image that `docker run` starts.",
            )
        process = document.get("config")
        diff_ids = tuple(map(Digest.parse, _list(as_go_reads(rootfs, ("diff_ids",), "rootfs"), "diff_ids")))
        return cls(raw, Platform.of(document), diff_ids, process if isinstance(process, dict) else {})

    @classmethod
    def build(
        cls, platform: Platform, diff_ids: Sequence[Digest], process: dict[str, Any], comment: str
    ) -> Configuration:
        """Make a configuration that depends on its arguments alone: no clock, no host name."""
        created = "1970-01-01T00:00:00Z"
        document = {
            "created": created,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]},
            "history": [{"created": created, "created_by": comment} for _ in diff_ids],
        }
        if platform.variant:
            document["variant"] = platform.variant
        return cls.parse(encode_json(document))

    @property
    def digest(self) -> Digest:
        """The engine's id of the image."""
        return Digest.of(self.raw)


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer to be written into an archive.

    Attributes:
        diff_id: the digest of its bytes.
        size: their number.
        open: starts reading from the first byte; called once for each archive written.
    """

    diff_id: Digest
    size: int
    open: Callable[[], Iterable[bytes]] = field(compare=False)


def hybrid_archive(configuration: Configuration, layers: Sequence[Layer]) -> Generator[bytes]:
    """Stream an archive that is an OCI layout and what ``docker load`` reads, at once.

    The same image gives the same bytes anywhere. It carries no name (RepoTags is null), so loading it cannot take a
    tag over. A layer that occurs twice is written once.

    Raises:
        ImageRejected: a layer's stream is not as long as it was said to be.
    """
    for part, _ in hybrid_parts(configuration, layers):
        if isinstance(part, bytes):
            yield part
            continue
        written = 0
        for chunk in part.open():
            written += len(chunk)
            yield chunk
        if written != part.size:
            raise ImageRejected(f"Layer {part.diff_id} changed while it was read.", "Try again.")


def hybrid_parts(
    configuration: Configuration, layers: Sequence[Layer]
) -> Iterator[tuple[bytes | Layer, Digest | None]]:
    """Describe that archive: what is written between the layers, and each layer where its bytes go.

    Beside each part stands the layer whose file it belongs to, so that a file can be left out whole; None: no layer's.
    """
    descriptors = tuple(Descriptor(LAYER_TYPE, layer.diff_id, layer.size) for layer in layers)
    config = Descriptor(CONFIG_TYPE, configuration.digest, len(configuration.raw))
    manifest = Manifest(config, descriptors).encode()
    pointer = Descriptor(MANIFEST_TYPE, Digest.of(manifest), len(manifest), configuration.platform)
    docker = [{"Config": config.digest.path, "RepoTags": None, "Layers": [layer.diff_id.path for layer in layers]}]
    for name, data in (
        ("oci-layout", encode_json({"imageLayoutVersion": "1.0.0"})),
        ("index.json", Index((pointer,)).encode()),
        ("manifest.json", encode_json(docker)),
        (config.digest.path, configuration.raw),
        (pointer.digest.path, manifest),
    ):
        yield b"".join(tar_file(name, data)), None
    for layer in {layer.diff_id: layer for layer in layers}.values():
        yield tar_header(layer.diff_id.path, layer.size), layer.diff_id
        yield layer, layer.diff_id
        yield bytes(-layer.size % tarfile.BLOCKSIZE), layer.diff_id
    yield bytes(2 * tarfile.BLOCKSIZE), None


def tar_header(name: str, size: int) -> bytes:
    """Build a regular file's header: owner root, epoch, mode 0644."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def tar_file(name: str, data: bytes) -> Iterator[bytes]:
    """Build a regular file with its padding."""
    yield tar_header(name, len(data))
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)


def encode_json(document: object) -> bytes:
    """Write JSON, always the same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object that a stranger wrote.

    Raises:
        ImageRejected: it is no JSON, too deeply nested, or no object.
    """
    document = json_value(data, what)
    if not isinstance(document, dict):
        raise _malformed(what)
    return document


def json_value(data: bytes, what: str) -> Any:
    """Read any JSON value that a stranger wrote, if each reader takes it for the same: UTF-8, no name twice.

    Raises:
        ImageRejected: it is no JSON, too deeply nested, or says something twice.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=lambda pairs: _each_once(pairs, what))
    except (ValueError, RecursionError) as error:
        raise _malformed(what) from error


def as_go_reads(document: dict[str, Any], names: Iterable[str], what: str) -> dict[str, Any]:
    """Return an object with these names in their right case.

    The engine, in Go, takes them in any, and merges what is there twice: by another case, or the same name again, an
    image could have it do what nobody has looked at (encoding/json: "preferring exact matches but also accepting ...").

    Args:
        document: the object.
        names: as they should be written.
        what: the object's name, for a refusal.

    Raises:
        ImageRejected: one of them is there in two cases.
    """
    right = {name.casefold(): name for name in names}
    return _each_once([(right.get(name.casefold(), name), value) for name, value in document.items()], what)


def _each_once(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ImageRejected(
                f"The image's {what} says {shown(name)} twice.",
                "Do not use it: it shows one thing to one tool and another to the next.",
            )
        found[name] = value
    return found


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise _malformed(key)
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _malformed(what: str) -> ImageRejected:
    return ImageRejected(
        f"The image's {what} is malformed.",
        "The archive is damaged: write it again with `docker save` or `skopeo copy`.",
    )
