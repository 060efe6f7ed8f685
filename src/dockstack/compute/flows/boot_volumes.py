# SPDX-License-Identifier: Apache-2.0
"""Servers whose root file system is on a volume: what has to be so before the runtime mounts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.compute.containers.runtime import RootVolume
from dockstack.compute.flows.volumes import CannotAttach, list_rates
from dockstack.compute.privileged import boot_volumes as privileged
from dockstack.names import ROOT_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.engine import Container
    from dockstack.compute.model import Device, Image, Server


class Unbootable(CannotAttach):
    """A volume holds no root file system, on whichever host."""


def prepare(server: Server, devices: Iterable[Device]) -> None:
    """Have a file system on the volume that a new server boots from, if it boots from one; what is on it stays.

    Raises:
        Unbootable: it holds neither a root file system nor the image that it was made of.
        CannotAttach: this host could not make one.
    """
    root = _find(devices)
    if root is not None:
        _prepare(server, root.volume.id, server.image)


def find(devices: Iterable[Device]) -> RootVolume | None:
    """Say which device of a server the runtime makes its root; None if that is the container's own."""
    root = _find(devices)
    return RootVolume(root.major, root.minor, list_rates(root.volume)) if root is not None else None


def require(container: Container, devices: Iterable[Device]) -> None:
    """Refuse to start a container without the volume that it was made for: it must not run on its own files.

    Raises:
        CannotAttach: that is not among those that are on this host for it.
    """
    label, root = container.labels.get(ROOT_LABEL, ""), _find(devices)
    if label and (root is None or root.volume.id != label):
        raise CannotAttach(
            f"The server's root file system is on volume {label}, which Nova does not name among its volumes.",
            "See `openstack server volume list`; a server whose root volume is gone can only be deleted.",
        )


def _find(devices: Iterable[Device]) -> Device | None:
    return next((device for device in devices if device.volume.is_root), None)


def _prepare(server: Server, volume_id: str, image: Image) -> None:
    try:
        there = privileged.prepare(server.uuid, volume_id, image.size or 0, image.checksum or "")
    except (OSError, ValueError) as error:
        raise CannotAttach(
            f"Volume {volume_id} could not be made a root file system: {error}.",
            "Install e2fsprogs on this host; see nova-compute's log and docs/volumes.md.",
        ) from error
    if not there:
        raise Unbootable(
            f"Volume {volume_id} holds neither a root file system (ext4) nor exactly the bytes of image {image.id}, "
            "of which it was made.",
            "Boot from a volume that was made of an image of a container and not written to otherwise. Nothing on it "
            "was changed.",
        )
