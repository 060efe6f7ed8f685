# SPDX-License-Identifier: Apache-2.0
"""Large layers go to the engine ahead of the verdict, so that it writes them while they are still checked.

The engine keeps an archive's files aside, unread, until the archive has ended. So a layer is sent under a name that
means nothing, and what gives it a meaning follows when the image is sound: manifest.json, and a link to it under its
digest. If the image is refused, the archive breaks off, and the engine throws away what it has.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from dockstack.oci.documents import tar_header
from dockstack.oci.spool import Extent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.oci.spool import Spool

WORTH = 4 << 20  # bytes of a layer that is sent ahead; a smaller one is not worth a connection that may break off
_STEP = 1 << 20  # bytes between two messages


class Ahead:
    """Says which slices of the spools are sent before the verdict: files of a tar, one after the other.

    Attributes:
        names: what was sent, by where it lies, and the name that it has there.
    """

    def __init__(self, spools: Sequence[Spool], most: int, send: Callable[[Extent], object]) -> None:
        """Begin with nothing.

        Args:
            spools: what may be sent lies in them; headers are written to the last one.
            most: bytes to send; some may turn out to belong to no layer of the image.
            send: takes each slice, once all of it is there.
        """
        self._spools = spools
        self._left = most
        self._send = send
        self._due = Extent(0, 0, 0)
        self._padding = self._due
        self.names: dict[Extent, str] = {}

    def offer(self, place: Extent) -> None:
        """Send a layer if it is worth it; it may still be growing there, and then nothing else is offered meanwhile."""
        if not WORTH <= place.size <= self._left:
            return
        self._left -= place.size
        name = self.names[place] = f"layer-{len(self.names)}"
        self._send(self._written(tar_header(name, place.size)))
        self._due, self._padding = place, self._written(bytes(-place.size % tarfile.BLOCKSIZE))
        self.go_on()

    def go_on(self) -> None:
        """Send what has come meanwhile."""
        spool, offset, size = self._due
        ready = min(size, self._spools[spool].size - offset)
        if ready < min(size, _STEP) or not size:
            return
        self._send(Extent(spool, offset, ready))
        self._due = Extent(spool, offset + ready, size - ready)
        if ready == size and self._padding.size:
            self._send(self._padding)

    def _written(self, data: bytes) -> Extent:
        number = len(self._spools) - 1
        place = Extent(number, self._spools[number].size, len(data))
        self._spools[number].write(data)
        return place
