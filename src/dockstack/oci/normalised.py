# SPDX-License-Identifier: Apache-2.0
"""A checked image: what its check found, and the bytes for the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dockstack.oci.spool import Extent, read_slice

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
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
        layers: their digests, the lowest first.
        extents: the slices of the workspace's spools that are the archive for the engine, in their order.
    """

    engine_id: str
    config: ImageConfig
    size: int
    layers: tuple[str, ...]
    extents: tuple[Extent, ...]


class NormalisedImage:
    """A checked image; it holds unnamed files in the workspace until it is closed.

    Attributes:
        engine_id: as the verdict says.
        config: as the verdict says.
        size: as the verdict says.
        layers: as the verdict says.
    """

    def __init__(self, verdict: Verdict, spools: Sequence[int], resources: ExitStack) -> None:
        """Take over ``resources``, which keep the spools open."""
        self.engine_id = verdict.engine_id
        self.config = verdict.config
        self.size = verdict.size
        self.layers = verdict.layers
        self._extents = verdict.extents
        self._spools = spools
        self._resources = resources

    def stream(self, without: Collection[str] = ()) -> Iterator[bytes]:
        """Write the archive for the engine; the same image always gives the same bytes.

        Args:
            without: layers whose files are left out, because the engine has them.
        """
        for extent in self._extents:
            if extent.layer not in without:
                yield from read_slice(self._spools[extent.spool], extent.offset, extent.size)

    def close(self) -> None:
        """Give the workspace back."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
