# SPDX-License-Identifier: Apache-2.0
"""One layer, checked while it is read: its digest, its size, its entries."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dockstack.oci import tar
from dockstack.oci.documents import Digest, ImageRejected, shown
from dockstack.oci.streams import ImageLimits, require_inside
from dockstack.oci.tar_stream import TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.oci.streams import Chunk


# the engine removes what follows ".wh.": these would be the directory that they stand in, and the one above
_WHITEOUTS_OF_DIRECTORIES = frozenset({".wh.", ".wh..", ".wh..."})


class Budget:
    """What the layers of one image may hold together.

    Attributes:
        entries: files and directories so far.
        stream_bytes: bytes of the layers' tars.
        file_bytes: bytes of their files when they are unpacked.
    """

    def __init__(self, limits: ImageLimits) -> None:
        """Start with nothing used."""
        self._limits = limits
        self.entries = 0
        self.stream_bytes = 0
        self.file_bytes = 0

    def entry(self, size: int) -> None:
        """Count a file of ``size`` bytes; a sparse one counts in full, because the engine writes it out."""
        self.entries += 1
        self.file_bytes += size
        self._check()

    def stream(self, size: int) -> None:
        """Count bytes of a layer's tar."""
        self.stream_bytes += size
        self._check()

    def add(self, other: Budget) -> None:
        """Count what was counted elsewhere."""
        self.entries += other.entries
        self.stream_bytes += other.stream_bytes
        self.file_bytes += other.file_bytes
        self._check()

    def _check(self) -> None:
        if self.entries > self._limits.max_entries:
            raise ImageRejected(
                f"The image has more than {self._limits.max_entries} files.", "Remove what it does not need."
            )
        if max(self.stream_bytes, self.file_bytes) > self._limits.max_unpacked_bytes:
            raise ImageRejected(
                f"The image unpacks to more than {self._limits.max_unpacked_bytes >> 20} MiB, more than it may.",
                "Choose a flavor with a larger disk, or a smaller image.",
            )


def check_layer(
    chunks: Iterable[Chunk], budget: Budget, *, complete: bool = False, keep: Callable[[Chunk], object] = len
) -> tuple[Digest, int]:
    """Read an uncompressed layer to its end and return its digest and size.

    Args:
        chunks: the layer.
        budget: what is left for it; counted down also if the layer is refused.
        complete: insist on its end mark.
        keep: given every byte once it was counted.

    Raises:
        ImageRejected: no sound tar, over the budget, or an entry that no image needs, as one outside the root.
    """
    sha256 = hashlib.sha256()
    size = 0

    def observe(chunk: Chunk) -> None:
        nonlocal size
        size += len(chunk)
        budget.stream(len(chunk))
        sha256.update(chunk)
        keep(chunk)

    for entry in tar.tar_entries(TarStream(chunks, observe), complete=complete):
        budget.entry(entry.size)
        check_entry(entry)
    return Digest("sha256", sha256.hexdigest()), size


def check_entry(entry: tar.Entry) -> None:
    """Check one entry of a layer.

    A symbolic link may say what it likes: ".." at a root stays there, an absolute one would lead as far, and the engine
    unpacks with the layer as its root. Servers make such links, and must be able to come back from a snapshot.

    A device node is a name: which devices a server's processes can open says its flavor, by the kernel's control of
    devices. Chroots in container templates have them. Device 0:0 is none, but the overlay file system's mark for a
    deleted file, which layers say otherwise.

    Raises:
        ImageRejected: it is none that an image needs.
    """
    parts = require_inside(entry.name)
    if parts and parts[-1] in _WHITEOUTS_OF_DIRECTORIES:
        raise ImageRejected(
            f"The image removes a directory by a name that no tool writes: {shown(entry.name)}.", "Build it again."
        )
    if entry.kind == tar.HARD_LINK:
        require_inside(entry.link)
    elif entry.kind in tar.DEVICES and entry.device == (0, 0) and parts[:1] != ("dev",):
        raise ImageRejected(
            f"The image holds a device node of no device: {shown(entry.name)} is 0:0.",
            "Build it without; no tool that makes images writes such a node.",
        )
