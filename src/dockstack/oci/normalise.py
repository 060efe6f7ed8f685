# SPDX-License-Identifier: Apache-2.0
"""A stranger's image archive becomes the one form that the engine is ever shown.

Whatever comes in (docker-save, OCI layout, both, a root file system; plain or compressed), what goes out holds one
image, for this host, without a name, every byte of it checked before the engine sees the first.

Services call this through ``dockstack.oci.sandbox``, in a process of its own: what is read here is a stranger's.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dockstack.oci.archive import ARCHIVE, UNPACKED, Archive, Blob, CheckedLayer, wrong_digest
from dockstack.oci.documents import (
    Configuration,
    Digest,
    ImageRejected,
    Layer,
    Platform,
    go_architecture,
    hybrid_parts,
)
from dockstack.oci.layers import Budget
from dockstack.oci.normalised import NormalisedImage, Verdict
from dockstack.oci.process import image_config
from dockstack.oci.select import StoredLayer, is_image, select_image
from dockstack.oci.spool import Extent, Spool, WorkspaceFull, open_spools
from dockstack.oci.streams import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dockstack.oci.streams import Chunk

__all__ = ["ImageLimits", "ImageRejected", "WorkspaceFull", "check", "normalise"]

_INIT_ORDER = ("sbin/init", "usr/sbin/init", "init", "bin/init")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def normalise(chunks: Iterable[Chunk], *, architecture: str, limits: ImageLimits, workspace: Path) -> NormalisedImage:
    """Read an image archive whole and check it, in this process.

    Nothing of it stays in the workspace after ``close`` or an error.

    Args:
        chunks: the archive, as Glance stores it; read to its end.
        architecture: the host's ("x86_64", "aarch64"; the specification's names are understood too).
        limits: how much is read before the image is refused.
        workspace: a directory of the host with room for the archive without its compression.

    Raises:
        ImageRejected: the image is broken, hostile, too large, or not for this host.
        WorkspaceFull: the workspace has no room.
    """
    with ExitStack() as stack:
        spools = open_spools(stack, workspace, 2)
        verdict = check(chunks, architecture, limits, (Spool(spools[ARCHIVE]), Spool(spools[UNPACKED])))
        return NormalisedImage(verdict, spools, stack.pop_all())


def check(chunks: Iterable[Chunk], architecture: str, limits: ImageLimits, spools: tuple[Spool, Spool]) -> Verdict:
    """Read an image archive into two empty spools and check it.

    Raises:
        ImageRejected: the image is broken, hostile, too large, or not for this host.
        WorkspaceFull: the spools' file system has no room.
    """
    archive = Archive(chunks, spools, limits)
    if is_image(archive):
        image = select_image(archive, architecture)
        configuration = image.configuration
        layers = _check_layers(archive, configuration, image.layers, Budget(limits))
    else:
        configuration, layers = _root_file_system(archive, architecture)
    extents = _lay_out(configuration, layers, spools[UNPACKED])
    size = sum(layer.size for layer in layers)
    diff_ids = tuple(map(str, configuration.diff_ids))
    return Verdict(str(configuration.digest), image_config(configuration.process), size, diff_ids, extents)


def _lay_out(configuration: Configuration, layers: Sequence[CheckedLayer], spool: Spool) -> tuple[Extent, ...]:
    """Say where the archive for the engine lies: layers where they are, what belongs between them at a spool's end."""
    places = {layer.diff_id: layer.place for layer in layers}
    extents: list[Extent] = []
    for part, owner in hybrid_parts(configuration, [Layer(layer.diff_id, layer.size, tuple) for layer in layers]):
        name = "" if owner is None else str(owner)
        if isinstance(part, Layer):
            extents.append(places[part.diff_id]._replace(layer=name))
        elif extents and extents[-1].layer == name and extents[-1].ends_at(UNPACKED, spool.size):
            extents[-1] = extents[-1]._replace(size=extents[-1].size + len(part))
            spool.write(part)
        else:
            extents.append(Extent(UNPACKED, spool.size, len(part), name))
            spool.write(part)
    return tuple(extents)


def _check_layers(
    archive: Archive, configuration: Configuration, stored: tuple[StoredLayer, ...], budget: Budget
) -> tuple[CheckedLayer, ...]:
    layers = []
    for diff_id, layer in zip(configuration.diff_ids, stored, strict=True):
        checked = archive.layer(layer.blob, budget)
        if checked.diff_id != diff_id:
            raise wrong_digest("layer", diff_id)
        if layer.digest is not None and layer.digest not in (checked.stored, checked.diff_id):
            _verify_blob(archive, layer.blob, layer.digest)
        layers.append(checked)
    return tuple(layers)


def _verify_blob(archive: Archive, blob: Blob, digest: Digest) -> None:
    """Compare a layer as it is stored with the digest that names it there."""
    state = hashlib.new(digest.algorithm)
    for chunk in archive.chunks(blob):
        state.update(chunk)
    if state.hexdigest() != digest.hex:
        raise wrong_digest("layer", digest)


def _root_file_system(archive: Archive, architecture: str) -> tuple[Configuration, tuple[CheckedLayer, ...]]:
    if not archive.root_names:
        raise ImageRejected(
            "The archive holds neither a container image nor a root file system.",
            "Give what `docker save` or `docker export` writes, or a tar with bin, etc, usr, ... at its top.",
        )
    layer = archive.whole()
    platform = Platform("linux", *go_architecture(architecture))
    configuration = Configuration.build(
        platform, [layer.diff_id], _first_process(archive), "a root file system, imported"
    )
    return configuration, (layer,)


def _first_process(archive: Archive) -> dict[str, Any]:
    """Choose what a root file system starts: its init if it has one, otherwise a shell."""
    path = min(archive.inits, key=_INIT_ORDER.index, default=None)
    process: dict[str, Any] = {"Cmd": [f"/{path.removeprefix('usr/')}" if path else "/bin/sh"], "Env": [_PATH]}
    if path and "systemd" in archive.inits[path]:
        process["StopSignal"] = "SIGRTMIN+3"  # systemd(1): halt; it takes SIGTERM for a re-execution
    return process
