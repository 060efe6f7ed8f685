# SPDX-License-Identifier: Apache-2.0
"""An image archive, read once while it comes in: spooled without its outer compression, indexed, its layers checked.

What the archive means is known at its end only, as its manifest often stands there. Checking the layers as they pass,
on the guess that they will be needed, makes the check end with the download; a guess that was wrong costs a second
reading of the spool and changes no verdict.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockstack.oci import tar
from dockstack.oci.documents import Digest, ImageRejected, json_value, shown
from dockstack.oci.layers import Budget, check_entry, check_layer
from dockstack.oci.spool import Extent
from dockstack.oci.streams import MAGIC, compression, decoded, require_inside
from dockstack.oci.tar_stream import BLOCK, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from dockstack.oci.spool import Spool
    from dockstack.oci.streams import Chunk, ImageLimits

ARCHIVE, UNPACKED = range(2)  # a workspace's spools: the archive, and those of its layers that it holds compressed

_MARKERS = frozenset({"manifest.json", "index.json", "oci-layout", "repositories"})
_ROOT_NAMES = frozenset({"bin", "sbin", "usr", "etc", "lib", "init"})
_ROOT_DIRECTORY = re.compile(
    r"bin|boot|dev|etc|home|init|lib(32|64|x32)?|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var|\.dockerenv"
)
_INITS = frozenset({("sbin", "init"), ("usr", "sbin", "init"), ("init",), ("bin", "init")})
_LINKS = 8  # symbolic links followed in a row, as many as any writer nests
_MAX_PATH = 512  # of what an image archive holds; the tools that write such need 135 at most
_MAX_DOCUMENTS = 1024
_MAX_DOCUMENT_BYTES = 16 << 20  # of all of them: an index of indexes could have the same one read for ever
_NOT_A_TAR = (
    "Give what `docker save` or `skopeo copy ... oci-archive:` writes, or a tar of a root file system;"
    " gzip, bzip2, xz and zstd are understood."
)


@dataclass(frozen=True)
class Blob:
    """A file of the archive: a slice of the spool."""

    offset: int
    size: int


@dataclass(frozen=True)
class CheckedLayer:
    """A layer that was read whole.

    Attributes:
        diff_id: the digest of its uncompressed bytes.
        size: their number.
        place: where they are.
        stored: the digest of the bytes that the archive holds.
        used: what it takes of an image's budget.
    """

    diff_id: Digest
    size: int
    place: Extent
    stored: Digest
    used: Budget


@dataclass
class _Contents:
    """What a walk over the archive's entries found."""

    blobs: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    again: list[tuple[str, Blob]] = field(default_factory=list)  # files under a name that the archive has already
    roots: set[str] = field(default_factory=set)  # first parts of the paths, of those that tell what the archive is
    inits: dict[str, str] = field(default_factory=dict)
    refused: ImageRejected | None = None  # a fault of an image archive that a root file system may have
    count: int = 0


class Archive:
    """The spooled archive: its blobs by name, its layers by content."""

    def __init__(self, chunks: Iterable[Chunk], spools: tuple[Spool, Spool], limits: ImageLimits) -> None:
        """Read an archive to its end.

        Args:
            chunks: the archive, possibly compressed.
            spools: two empty files: for the archive, and for layers that it holds compressed.
            limits: how much is read.

        Raises:
            ImageRejected: it is empty, corrupt, too large or no sound tar.
            WorkspaceFull: the file system of the spools is full.
        """
        self._spool, self._unpacked = spools
        self._limits = limits
        self._contents = _Contents()
        self._checked: dict[Blob, CheckedLayer | ImageRejected] = {}
        self._speculated = 0
        self._documents = self._document_bytes = 0
        self._broken: ImageRejected | None = None  # what is wrong with the archive as a stream
        self._is_root: bool | None = None  # guessed at the first name: a root file system, no image archive
        self._whole = hashlib.sha256()
        self._whole_budget = Budget(limits)
        self._whole_fault: ImageRejected | None = None
        self._walk(TarStream(self._spooled(chunks)))

    @property
    def markers(self) -> frozenset[str]:
        """Those names at the archive's top that an image archive has; a root file system may have files of its own."""
        return frozenset(self._contents.roots & _MARKERS)

    @property
    def root_names(self) -> frozenset[str]:
        """Those names at the archive's top that a root file system has."""
        return frozenset(self._contents.roots & _ROOT_NAMES)

    def require_sound(self) -> None:
        """Insist on what only an image archive has to keep: clear names, files and links alone, not too many.

        Some tools write a layer that occurs twice twice, under the same name.
        """
        if self._contents.refused is not None:
            raise self._contents.refused
        for path, blob in self._contents.again:
            if not self._equal(blob, self._contents.blobs[path]):
                raise _twice(path)

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
            ImageRejected: it is missing or not small, or too many were read.
        """
        blob = self.blob(name)
        if blob.size > self._limits.max_json_bytes:
            raise ImageRejected(
                f"The image's {what} has {blob.size} bytes; more than {self._limits.max_json_bytes} are not read.",
                "No real image needs that many: build it again.",
            )
        self._documents += 1
        self._document_bytes += blob.size
        if self._documents > _MAX_DOCUMENTS or self._document_bytes > _MAX_DOCUMENT_BYTES:
            raise ImageRejected(
                "The image's index names too many documents, or too large ones.", "Copy one image of it alone."
            )
        return b"".join(self._spool.read(blob.offset, blob.size))

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Read a blob as it is stored."""
        return self._spool.read(blob.offset, blob.size)

    def layer(self, blob: Blob, budget: Budget) -> CheckedLayer:
        """Return a layer, checked now if it was not while the archive came in.

        Raises:
            ImageRejected: it is not sound, or the image has no budget for it.
        """
        found = self._checked.get(blob)
        if found is None:
            found = self._check(blob, self._spool.read(blob.offset, blob.size), Budget(self._limits))
            self._checked[blob] = found
        if isinstance(found, ImageRejected):
            raise found
        budget.add(found.used)
        return found

    def whole(self) -> CheckedLayer:
        """Return the archive itself as a layer.

        Raises:
            ImageRejected: it is not sound as a layer.
        """
        if self._whole_fault is not None and self._is_root:
            raise self._whole_fault
        place = Extent(ARCHIVE, 0, self._spool.size)
        if self._is_root:
            digest = Digest("sha256", self._whole.hexdigest())
        else:
            chunks = self._spool.read(0, self._spool.size)
            digest, _ = check_layer(chunks, Budget(self._limits), complete=True)
        return CheckedLayer(digest, place.size, place, digest, self._whole_budget)

    def _spooled(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass the archive on without its outer compression, and keep it."""
        try:
            for chunk in decoded(chunks, self._limits.explained_bytes):
                self._keep(chunk)
                if self._is_root is not False:
                    self._whole.update(chunk)
                    self._as_root(self._whole_budget.stream, len(chunk))
                yield chunk
        except ImageRejected as error:
            self._broken = error
            raise

    def _keep(self, chunk: Chunk) -> None:
        if self._spool.size + len(chunk) > self._limits.max_spooled_bytes:
            most = self._limits.max_spooled_bytes >> 20
            raise ImageRejected(
                f"The image archive is larger than the {most} MiB that this host unpacks.",
                "Make it smaller, for one platform alone, or raise the host's limit.",
            )
        self._spool.write(chunk)

    def _as_root(self, check: Callable[[Any], None], what: object) -> None:
        """Check something as of a root file system, and remember what is wrong: it may be an image archive yet."""
        if self._whole_fault is None:
            try:
                check(what)
            except ImageRejected as error:
                self._whole_fault = error

    def _walk(self, stream: TarStream) -> None:
        _require_tar(stream.peek(BLOCK))
        contents, limits = self._contents, self._limits
        for entry in tar.tar_entries(stream, complete=True):
            contents.count += 1
            if contents.count > limits.max_entries:
                raise ImageRejected(
                    f"The image has more than {limits.max_entries} files.", "Remove what it does not need."
                )
            parts = require_inside(entry.name)
            if self._is_root is None and parts:
                self._is_root = bool(_ROOT_DIRECTORY.fullmatch(parts[0]))
            if self._is_root is not False:
                self._as_root(self._check_root_entry, entry)
            if not parts:
                continue
            if parts[0] in _MARKERS or parts[0] in _ROOT_NAMES:
                contents.roots.add(parts[0])
            if parts[-1] == "init" and parts in _INITS:
                contents.inits["/".join(parts)] = entry.link
            if contents.count <= limits.max_archive_entries:
                self._note("/".join(parts), entry)
            else:
                contents.refused = ImageRejected(
                    f"The image archive has more than {limits.max_archive_entries} entries.",
                    "No tool writes such an archive: save the image again.",
                )
            if self._is_root is False and entry.kind == tar.REGULAR and entry.size == entry.stored:
                self._speculate(entry, stream)

    def _check_root_entry(self, entry: tar.Entry) -> None:
        self._whole_budget.entry(entry.size)
        check_entry(entry)

    def _note(self, path: str, entry: tar.Entry) -> None:
        contents = self._contents
        if entry.kind == tar.DIRECTORY:
            return
        if len(path) > _MAX_PATH or len(entry.link) > _MAX_PATH:
            contents.refused = ImageRejected(
                f"The image archive has a name of more than {_MAX_PATH} characters.", "Save the image again."
            )
        elif path in contents.links or (path in contents.blobs and entry.kind != tar.REGULAR):
            contents.refused = _twice(path)
        elif entry.kind == tar.REGULAR and entry.size == entry.stored:
            blob = Blob(entry.offset, entry.stored)
            if contents.blobs.setdefault(path, blob) != blob:
                contents.again.append((path, blob))
        elif entry.kind == tar.SYMBOLIC_LINK:
            contents.links[path] = "/".join(require_inside_link(path, entry.link))
        elif entry.kind == tar.HARD_LINK:
            contents.links[path] = "/".join(require_inside(entry.link))
        else:
            contents.refused = ImageRejected(
                f"The image archive has an entry that is no plain file: {shown(path)}.", "Save the image again."
            )

    def _speculate(self, entry: tar.Entry, stream: TarStream) -> None:
        """Check a file as a layer while it passes, if it looks like one; whether it is needed shows later."""
        blob = Blob(entry.offset, entry.stored)
        if (
            blob.size < BLOCK
            or self._speculated > self._limits.max_unpacked_bytes
            or len(self._checked) > _MAX_DOCUMENTS
        ):
            return
        head = stream.peek(BLOCK)
        if compression(head[:MAGIC]) is None and not _is_header(head):
            return
        budget, kept = Budget(self._limits), self._unpacked.size
        try:
            self._checked[blob] = self._check(blob, stream.pieces(blob.size), budget)
        except ImageRejected as error:
            if self._broken is not None:
                raise self._broken from error
            self._checked[blob] = error
            self._unpacked.truncate(kept)
        self._speculated += budget.stream_bytes

    def _check(self, blob: Blob, chunks: Iterable[Chunk], budget: Budget) -> CheckedLayer:
        """Read a blob as a layer; keep its content where the archive has it only compressed."""
        source = iter(chunks)
        first = next(source, b"")
        while len(first) < MAGIC and (more := next(source, b"")):
            first = bytes(first) + bytes(more)
        rest = _joined(first, source)
        if compression(bytes(first[:MAGIC])) is None:
            digest, size = check_layer(rest, budget)
            return CheckedLayer(digest, size, Extent(ARCHIVE, blob.offset, size), digest, budget)
        stored, start = hashlib.sha256(), self._unpacked.size
        unpacked = decoded(_observed(rest, stored.update))
        digest, size = check_layer(unpacked, budget, keep=self._unpacked.write)
        place = Extent(UNPACKED, start, size)
        return CheckedLayer(digest, size, place, Digest("sha256", stored.hexdigest()), budget)

    def _equal(self, first: Blob, second: Blob) -> bool:
        return first.size == second.size and all(
            one == other for one, other in zip(self.chunks(first), self.chunks(second), strict=True)
        )

    def _find(self, name: str) -> Blob | None:
        path = "/".join(require_inside(name))
        blobs = self._contents.blobs
        return blobs.get(self._followed(path)) or blobs.get(path)

    def _followed(self, path: str) -> str:
        """Follow the links to a file, and those to directories on the way; a path that is too long leads nowhere."""
        left, done, links = path.split("/")[::-1] if len(path) <= _MAX_PATH else [], "", 0
        while left:
            done = f"{done}/{left.pop()}".lstrip("/")
            target = self._contents.links.get(done)
            if target is not None and links < _LINKS:
                left += target.split("/")[::-1]
                done, links = "", links + 1
        return done


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


def _twice(path: str) -> ImageRejected:
    return ImageRejected(
        f"The image archive has {shown(path)} twice.", "It is not clear which one is meant: save the image again."
    )


def _require_tar(block: bytes) -> None:
    """Refuse at the first block what is no tar, before gigabytes of it are downloaded."""
    if not block:
        raise ImageRejected("The image is empty.", "Upload it again; look whether the file that you gave has a size.")
    if not _is_header(block):
        raise ImageRejected("The image is no tar archive.", _NOT_A_TAR)


def _is_header(block: bytes) -> bool:
    if len(block) < BLOCK:
        return False
    try:
        tar.verify_checksum(block)
    except ImageRejected:
        return False
    return True


def _joined(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    if len(first):
        yield first
    yield from rest


def _observed(chunks: Iterable[Chunk], observe: Callable[[Chunk], object]) -> Iterator[Chunk]:
    for chunk in chunks:
        observe(chunk)
        yield chunk


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
