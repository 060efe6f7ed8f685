# SPDX-License-Identifier: Apache-2.0
"""One layer, checked while it is read: its digest, its size, its entries."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dockstack.oci.documents import Digest, ImageRejected, shown
from dockstack.oci.streams import ImageLimits, TarStream, require_inside, tar_members

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable


class Budget:
    """What the layers of one image may hold together."""

    def __init__(self, limits: ImageLimits) -> None:
        """Start with nothing used."""
        self._limits = limits
        self._entries = 0
        self._stream_bytes = 0
        self._file_bytes = 0

    def entry(self, size: int) -> None:
        """Count a file of ``size`` bytes; a sparse one counts in full, because the engine writes it out."""
        self._entries += 1
        self._file_bytes += max(size, 0)
        if self._entries > self._limits.max_entries:
            raise ImageRejected(
                f"The image has more than {self._limits.max_entries} files.", "Remove what it does not need."
            )
        self._check(self._file_bytes)

    def stream(self, size: int) -> None:
        """Count bytes of a layer's tar."""
        self._stream_bytes += size
        self._check(self._stream_bytes)

    def _check(self, used: int) -> None:
        if used > self._limits.max_unpacked_bytes:
            raise ImageRejected(
                f"The image unpacks to more than {self._limits.max_unpacked_bytes >> 20} MiB, more than it may.",
                "Choose a flavor with a larger disk, or a smaller image.",
            )


def check_layer(chunks: Iterable[bytes], budget: Budget, *, complete: bool = False) -> tuple[Digest, int]:
    """Read an uncompressed layer to its end and return its digest and size.

    Raises:
        ImageRejected: no sound tar, over the budget, or an entry that no image needs: one outside the root, a device.
    """
    sha256 = hashlib.sha256()
    size = 0

    def observe(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)
        budget.stream(len(chunk))
        sha256.update(chunk)

    for member in tar_members(TarStream(chunks, observe), complete=complete):
        budget.entry(member.size)
        _check_entry(member)
    return Digest("sha256", sha256.hexdigest()), size


def _check_entry(member: tarfile.TarInfo) -> None:
    """Check one entry.

    A symbolic link may say what it likes: ".." at a root stays there, an absolute one would lead as far, and the engine
    unpacks with the layer as its root. Servers make such links, and must be able to come back from a snapshot.
    """
    parts = require_inside(member.name)
    if member.islnk():
        require_inside(member.linkname)
    elif member.isblk() or (member.ischr() and parts[:1] != ("dev",)):
        # A character device below dev/ is what debootstrap leaves; the container's own /dev covers it.
        raise ImageRejected(
            f"The image holds a device node: {shown(member.name)}.",
            "Build it without; a server gets its devices from its flavor, never from its image.",
        )
