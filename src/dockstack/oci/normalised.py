# SPDX-License-Identifier: Apache-2.0
"""An image on its way to the engine: what its check found, and the bytes, some of which go ahead of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dockstack.oci.spool import Extent, read_slice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack
    from types import TracebackType

    from dockstack.oci.process import ImageConfig

__all__ = ["NormalisedImage", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What the check of a sound image found.

    Attributes:
        engine_id: the id that the engine will give it ("sha256:...", the digest of its configuration).
        config: what it says about its process.
        size: bytes of its layers, uncompressed.
        extents: the slices of the workspace's spools with which the archive for the engine ends, in their order.
    """

    engine_id: str
    config: ImageConfig
    size: int
    extents: tuple[Extent, ...]


class NormalisedImage:
    """An image that is being checked, or was; it holds unnamed files in the workspace until it is closed."""

    def __init__(self, parts: Iterator[Extent | Verdict], spools: Sequence[int], resources: ExitStack) -> None:
        """Begin.

        Args:
            parts: slices that may go to the engine already; the verdict, which brings the others, is the last.
            spools: the files that they are slices of.
            resources: keep these open, and the check going.
        """
        self._parts = parts
        self._spools = spools
        self._resources = resources
        self._known: list[Extent] = []
        self._verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """What the check found; whoever asks waits for its end.

        Raises:
            Exception: as the check; none, once the whole stream was read.
        """
        while self._verdict is None:
            self._go_on()
        return self._verdict

    def stream(self) -> Iterator[bytes]:
        """Write the archive for the engine, which is no image before the verdict: what makes it one comes last.

        Raises:
            Exception: as the check, whose image is then not to be used; the archive has no end.
        """
        read = 0
        while True:
            while read < len(self._known):
                spool, offset, size = self._known[read]
                yield from read_slice(self._spools[spool], offset, size)
                read += 1
            if self._verdict is not None:
                return
            self._go_on()

    def _go_on(self) -> None:
        part = next(self._parts)
        if isinstance(part, Verdict):
            self._verdict = part
            self._known += part.extents
        else:
            self._known.append(part)

    def close(self) -> None:
        """End the check if it goes on, and give the workspace back."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
