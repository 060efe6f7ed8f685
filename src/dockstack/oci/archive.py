# SPDX-License-Identifier: Apache-2.0
"""An image archive in the workspace: spooled without its outer compression, indexed, never extracted.

The spool is a file without a name, so that not even a kill leaves anything of it.
"""

from __future__ import annotations

import errno
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from dockstack.errors import DockstackError
from dockstack.oci.documents import Digest, ImageRejected, json_value, shown
from dockstack.oci.streams import ImageLimits, TarStream, decoded, file_chunks, require_inside, tar_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_MARKERS = frozenset({"manifest.json", "index.json", "oci-layout", "repositories"})
_INITS = frozenset({("sbin", "init"), ("usr", "sbin", "init"), ("init",), ("bin", "init")})
_LINKS = 8  # symbolic links followed in a row, as many as any writer nests
_NOT_A_TAR = (
    "Give what `docker save` or `skopeo copy ... oci-archive:` writes, or a tar of a root file system;"
    " gzip, bzip2, xz and zstd are understood."
)


class WorkspaceFull(DockstackError):  # noqa: N818 - said of the workspace, as people say it
    """The host has no room to check the image; no fault of the image."""


@dataclass(frozen=True)
class Blob:
    """A file of the archive: a slice of the spool."""

    offset: int
    size: int


@dataclass
class _Contents:
    """What a walk over the archive's entries found."""

    blobs: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)  # first parts of the paths
    inits: dict[str, str] = field(default_factory=dict)
    refused: ImageRejected | None = None  # a fault of an image archive that a root file system may have
    count: int = 0


class Archive:
    """The spooled archive: its blobs by name, its layers by content."""

    def __init__(self, file: BinaryIO, size: int, limits: ImageLimits) -> None:
        """Index ``size`` bytes of ``file``.

        Raises:
            ImageRejected: it is no sound tar.
        """
        self._file = file
        self._limits = limits
        self.size = size
        self._contents = _walk(TarStream(file_chunks(file, 0, size)), limits)

    @property
    def roots(self) -> frozenset[str]:
        """The names at the archive's top."""
        return frozenset(self._contents.roots)

    @property
    def is_image(self) -> bool:
        """Whether it has what an image archive has at its top; otherwise it may be a root file system."""
        return bool(self._contents.roots & _MARKERS)

    @property
    def whole(self) -> Blob:
        """The archive itself."""
        return Blob(0, self.size)

    def require_sound(self) -> None:
        """Insist on what only an image archive has to keep: unique names, files and links alone, not too many."""
        if self._contents.refused is not None:
            raise self._contents.refused

    def has(self, name: str) -> bool:
        """Whether the archive has a file of that name."""
        return self._find(name) is not None

    @property
    def inits(self) -> dict[str, str]:
        """The programs that may be a root file system's first: path -> where it links to, or ""."""
        return self._contents.inits

    def blob(self, name: str) -> Blob:
        """Find a file.

        Raises:
            ImageRejected: it is missing.
        """
        blob = self._find(name)
        if blob is None:
            raise ImageRejected(
                f"The image is incomplete: {shown(name)} is missing from the archive.",
                "Save or copy the whole image again, with the layers of this platform.",
            )
        return blob

    def json(self, name: str, what: str) -> Any:
        """Read a JSON document by its file's name."""
        return json_value(self.small(name, what), what)

    def small(self, name: str, what: str) -> bytes:
        """Read a small file whole.

        Raises:
            ImageRejected: it is missing or not small.
        """
        blob = self.blob(name)
        if blob.size > self._limits.max_json_bytes:
            raise ImageRejected(
                f"The image's {what} has {blob.size} bytes; more than {self._limits.max_json_bytes} are not read.",
                "No real image needs that many: build it again.",
            )
        return b"".join(self.chunks(blob))

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Read a blob as it is stored."""
        return file_chunks(self._file, blob.offset, blob.size)

    def unpacked(self, blob: Blob) -> Iterator[bytes]:
        """Read a layer without its compression."""
        return decoded(self.chunks(blob), self._limits.max_ratio)

    def _find(self, name: str) -> Blob | None:
        path = "/".join(require_inside(name))
        for _ in range(_LINKS):
            if path not in self._contents.links:
                break
            path = self._contents.links[path]
        return self._contents.blobs.get(path)


def verify_digest(data: bytes, digest: Digest, what: str) -> None:
    """Compare bytes with the digest that names them.

    Raises:
        ImageRejected: they differ.
    """
    if Digest.of(data, digest.algorithm) != digest:
        raise wrong_digest(what, digest)


def wrong_digest(what: str, digest: Digest) -> ImageRejected:
    """Say that content is not what its name promises."""
    return ImageRejected(
        f"The image's {what} is not what its digest {shown(str(digest))} says.",
        "The archive was damaged or tampered with: get it again from where it was built.",
    )


def spool(chunks: Iterable[bytes], file: BinaryIO, limits: ImageLimits) -> int:
    """Write the archive to ``file`` without its outer compression and return its size.

    Raises:
        ImageRejected: it is empty, no tar, corrupt or too large.
        WorkspaceFull: the file system of the workspace is full.
    """
    head, size = b"", 0
    for chunk in decoded(chunks, limits.max_ratio):
        size += len(chunk)
        if len(head) < tarfile.BLOCKSIZE:
            head += chunk[: tarfile.BLOCKSIZE - len(head)]
            if len(head) == tarfile.BLOCKSIZE:
                _require_tar(head)
        if size > limits.max_spooled_bytes:
            raise ImageRejected(
                f"The image archive is larger than the {limits.max_spooled_bytes >> 20} MiB that this host unpacks.",
                "Make it smaller, for one platform alone, or raise the host's limit.",
            )
        _write(file, chunk)
    if not size:
        raise ImageRejected("The image is empty.", "Upload it again; look whether the file that you gave has a size.")
    if len(head) < tarfile.BLOCKSIZE:
        raise ImageRejected("The image is no tar archive.", _NOT_A_TAR)
    return size


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise WorkspaceFull(
            "The host has no room left to check the image.", "Free space on it, or boot on another host."
        ) from error


def _require_tar(block: bytes) -> None:
    """Refuse at the first block what is no tar, before gigabytes of it are downloaded."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        raise ImageRejected("The image is no tar archive.", _NOT_A_TAR) from error


def _walk(stream: TarStream, limits: ImageLimits) -> _Contents:
    contents = _Contents()
    for member in tar_members(stream, complete=True):
        contents.count += 1
        if contents.count > limits.max_entries:
            raise ImageRejected(f"The image has more than {limits.max_entries} files.", "Remove what it does not need.")
        parts = require_inside(member.name)
        if not parts:
            continue
        contents.roots.add(parts[0])
        if parts[-1] == "init" and parts in _INITS:
            contents.inits["/".join(parts)] = member.linkname
        if contents.count <= limits.max_archive_entries:
            _note(contents, "/".join(parts), member)
        else:
            contents.refused = ImageRejected(
                f"The image archive has more than {limits.max_archive_entries} entries.",
                "No tool writes such an archive: save the image again.",
            )
    return contents


def _note(contents: _Contents, path: str, member: tarfile.TarInfo) -> None:
    if member.isdir():
        return
    if path in contents.blobs or path in contents.links:
        contents.refused = ImageRejected(
            f"The image archive has {shown(path)} twice.", "It is not clear which one is meant: save the image again."
        )
    elif member.isreg() and not member.issparse():
        contents.blobs[path] = Blob(member.offset_data, member.size)
    elif member.issym():
        contents.links[path] = "/".join(require_inside_link(path, member.linkname))
    elif member.islnk():
        contents.links[path] = "/".join(require_inside(member.linkname))
    else:
        contents.refused = ImageRejected(
            f"The image archive has an entry that is no plain file: {shown(path)}.", "Save the image again."
        )


def require_inside_link(path: str, target: str) -> tuple[str, ...]:
    """Resolve a symbolic link's target as inside the root: an absolute one starts at the root.

    Raises:
        ImageRejected: a relative one climbs out.
    """
    if target.startswith("/"):
        return require_inside_absolute(target)
    return require_inside(f"{path.rpartition('/')[0]}/{target}")


def require_inside_absolute(target: str) -> tuple[str, ...]:
    """Resolve an absolute path; ".." at the root stays at the root, as in every file system."""
    parts: list[str] = []
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)
