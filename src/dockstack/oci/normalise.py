# SPDX-License-Identifier: Apache-2.0
"""A stranger's image archive becomes the one form that the engine is ever shown.

Whatever comes in (docker-save, OCI layout, both, a root file system; plain or compressed), what goes out holds one
image, for this host, without a name, every byte of it checked before the engine sees the first.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from dockstack.oci.archive import Archive, Blob, WorkspaceFull, spool, wrong_digest
from dockstack.oci.documents import (
    Configuration,
    Digest,
    ImageRejected,
    Layer,
    Platform,
    go_architecture,
    hybrid_archive,
)
from dockstack.oci.layers import Budget, check_layer
from dockstack.oci.process import image_config
from dockstack.oci.select import StoredLayer, select_image
from dockstack.oci.streams import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["ImageLimits", "ImageRejected", "NormalisedImage", "WorkspaceFull", "normalise"]

_ROOT_NAMES = frozenset({"bin", "sbin", "usr", "etc", "lib", "init"})
_INIT_ORDER = ("sbin/init", "usr/sbin/init", "init", "bin/init")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NormalisedImage:
    """A checked image; it holds an unnamed file in the workspace until it is closed.

    Attributes:
        engine_id: the id that the engine will give it ("sha256:...", the digest of its configuration).
        config: what it says about its process.
        size: bytes of its layers, uncompressed.
    """

    def __init__(self, configuration: Configuration, layers: tuple[Layer, ...], resources: ExitStack) -> None:
        """Take over ``resources``, which keep the layers readable."""
        self.engine_id = str(configuration.digest)
        self.config = image_config(configuration.process)
        self.size = sum(layer.size for layer in layers)
        self._configuration = configuration
        self._layers = layers
        self._resources = resources

    def stream(self) -> Iterator[bytes]:
        """Write the archive for the engine; the same image always gives the same bytes."""
        return hybrid_archive(self._configuration, self._layers)

    def close(self) -> None:
        """Give the workspace back."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def normalise(chunks: Iterable[bytes], *, architecture: str, limits: ImageLimits, workspace: Path) -> NormalisedImage:
    """Read an image archive whole and check it; nothing of it stays in the workspace after ``close`` or an error.

    Args:
        chunks: the archive, as Glance stores it; read to its end.
        architecture: the host's ("x86_64", "aarch64"; the specification's names are understood too).
        limits: how much is read before the image is refused.
        workspace: a directory of the host with room for the archive without its outer compression.

    Raises:
        ImageRejected: the image is broken, hostile, too large, or not for this host.
        WorkspaceFull: the workspace has no room.
    """
    with ExitStack() as stack:
        file = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(dir=workspace, prefix="spool-")))
        archive = Archive(file, spool(chunks, file, limits), limits)
        if archive.is_image:
            image = select_image(archive, architecture)
            configuration = image.configuration
            layers = _check_layers(archive, configuration, image.layers, Budget(limits))
        else:
            configuration, layers = _root_file_system(archive, architecture, Budget(limits))
        return NormalisedImage(configuration, layers, stack.pop_all())


def _check_layers(
    archive: Archive, configuration: Configuration, stored: tuple[StoredLayer, ...], budget: Budget
) -> tuple[Layer, ...]:
    layers = []
    for diff_id, layer in zip(configuration.diff_ids, stored, strict=True):
        digest, size = check_layer(archive.unpacked(layer.blob), budget)
        if digest != diff_id:
            raise wrong_digest("layer", diff_id)
        if layer.digest is not None and layer.digest != digest:
            _verify_blob(archive, layer.blob, layer.digest)
        layers.append(_layer(archive, layer.blob, digest, size))
    return tuple(layers)


def _verify_blob(archive: Archive, blob: Blob, digest: Digest) -> None:
    """Compare a layer as it is stored with the digest that names it there."""
    state = hashlib.new(digest.algorithm)
    for chunk in archive.chunks(blob):
        state.update(chunk)
    if state.hexdigest() != digest.hex:
        raise wrong_digest("layer", digest)


def _layer(archive: Archive, blob: Blob, diff_id: Digest, size: int) -> Layer:
    return Layer(diff_id, size, lambda: archive.unpacked(blob))


def _root_file_system(archive: Archive, architecture: str, budget: Budget) -> tuple[Configuration, tuple[Layer, ...]]:
    if not archive.roots & _ROOT_NAMES:
        raise ImageRejected(
            "The archive holds neither a container image nor a root file system.",
            "Give what `docker save` or `docker export` writes, or a tar with bin, etc, usr, ... at its top.",
        )
    digest, size = check_layer(archive.chunks(archive.whole), budget, complete=True)
    platform = Platform("linux", *go_architecture(architecture))
    configuration = Configuration.build(platform, [digest], _first_process(archive), "a root file system, imported")
    return configuration, (_layer(archive, archive.whole, digest, size),)


def _first_process(archive: Archive) -> dict[str, Any]:
    """Choose what a root file system starts: its init if it has one, otherwise a shell."""
    path = min(archive.inits, key=_INIT_ORDER.index, default=None)
    process: dict[str, Any] = {"Cmd": [f"/{path.removeprefix('usr/')}" if path else "/bin/sh"], "Env": [_PATH]}
    if path and "systemd" in archive.inits[path]:
        process["StopSignal"] = "SIGRTMIN+3"  # systemd(1): halt; it takes SIGTERM for a re-execution
    return process
