# SPDX-License-Identifier: Apache-2.0
"""An image of one layer that was built here: its archive, as a stream and as a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError
from dockstack.oci.documents import Configuration, Layer, hybrid_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class BuiltImage:
    """The built image.

    Attributes:
        configuration: its digest is the engine's image id.
        layer: the only layer.
    """

    configuration: Configuration
    layer: Layer

    def archive(self) -> Iterator[bytes]:
        """Stream the archive, which is an OCI layout and loads into every engine."""
        return hybrid_archive(self.configuration, [self.layer])

    def size(self) -> int:
        """Compute the archive's size in bytes."""
        return sum(len(chunk) for chunk in self.archive())

    def checksum(self, algorithm: str = "sha512") -> str:
        """Compute the archive's digest, as Glance does."""
        state = hashlib.new(algorithm)
        for chunk in self.archive():
            state.update(chunk)
        return state.hexdigest()

    def write(self, path: Path) -> int:
        """Write the archive to a file, whole or not at all, and return its size."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.writelines(self.archive())
            size = partial.stat().st_size
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise DockstackError(f"Cannot write {path}: {error.strerror}.", "Choose another file with -o.") from error
        return size
